"""Strictness for every test: no silent broadcasting, and eight devices."""

import errno
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Callable

# Before jax is imported: the tests need no accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

# Whoever starts the tests in the background, or under nohup, has some signals
# ignored, and what the tests start would inherit that.
for _name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
  if signal.getsignal(getattr(signal, _name)) == signal.SIG_IGN:
    _usual = signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL
    signal.signal(getattr(signal, _name), _usual)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_num_cpu_devices", 8)  # sharding tests run on a laptop
# Many tests run the same small programs: each is compiled once per session.
_PROGRAMS = tempfile.TemporaryDirectory(prefix="hrm_jax_tests_")
jax.config.update("jax_compilation_cache_dir", _PROGRAMS.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
# For the processes that tests start: nobody's own cache is touched.
os.environ["XDG_CACHE_HOME"] = _PROGRAMS.name


@pytest.fixture
def hrm_data_dir() -> pathlib.Path:
  """The real data, where HRM_DATA_DIR says; skips where it does not."""
  if "HRM_DATA_DIR" not in os.environ:
    pytest.skip("HRM_DATA_DIR is not set: no real data on this machine")
  return pathlib.Path(os.environ["HRM_DATA_DIR"])


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> pathlib.Path:
  """The workdir of a finished run of two iterations; leave it as it is."""
  from tests import runs

  workdir = tmp_path_factory.mktemp("tiny_run")
  runs.train_tiny(workdir, **{"eval.pictures": 2})
  return workdir


@pytest.fixture(scope="session")
def exported(tiny_run, tmp_path_factory) -> pathlib.Path:
  """The tiny run as a model folder; leave it as it is."""
  from hrm_jax.checkpoint.export import export

  out = tmp_path_factory.mktemp("exported") / "model"
  export(tiny_run, None, out)
  return out


@pytest.fixture
def trained(tiny_run, tmp_path) -> pathlib.Path:
  """A copy of the tiny run's checkpoints 5 and 10, to be damaged."""
  shutil.copytree(tiny_run / "checkpoints", tmp_path / "run" / "checkpoints")
  return tmp_path / "run"


@pytest.fixture
def lines(monkeypatch) -> list[str]:
  """What is logged, of any level."""
  from hrm_jax import console

  lines = []
  for level in ("info", "warning", "error"):
    monkeypatch.setattr(console.log, level, lines.append)
  return lines


@pytest.fixture
def unreadable(monkeypatch) -> Callable[[pathlib.Path], None]:
  """Makes the system refuse to list a directory, even to root."""
  listed = {name: getattr(os, name) for name in ("scandir", "listdir")}
  refused = []

  def refuse_or(name):
    def call(path="."):
      # A number is an open directory.
      if not isinstance(path, int) and pathlib.Path(path) in refused:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
      return listed[name](path)

    return call

  for name in listed:
    monkeypatch.setattr(os, name, refuse_or(name))
  return refused.append


@pytest.fixture
def locked(monkeypatch) -> Callable[[pathlib.Path, int], None]:
  """Makes the system refuse to read a file, with an error to choose."""
  from hrm_jax.checkpoint import manifest

  describe = manifest.describe_file

  def lock(file: pathlib.Path, number: int) -> None:
    def refuse(path):
      if path == file:
        raise OSError(number, os.strerror(number), str(path))
      return describe(path)

    monkeypatch.setattr(manifest, "describe_file", refuse)

  return lock

"""Compiled programs that outlive their process, and what damage does."""

import os
import pathlib
import subprocess
import sys
import zlib

import jax
import pytest

from hrm_jax.console import InputError
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.machines import compilation_cache
from hrm_jax.machines.compilation_cache import use
from hrm_jax.solve import __main__ as solve
from tests.commands import Commands

ROOT = pathlib.Path(__file__).parent.parent

# Compiles one program, and says how often it was found on disk.
PROGRAM = """
import pathlib, sys, jax
from hrm_jax.machines import compilation_cache
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith("/cache_hits")))
compilation_cache.MIN_COMPILE_S = 0.0
compilation_cache.use(pathlib.Path(sys.argv[1]))
jax.jit(lambda x: x * 3).lower(1.0).compile()
print(sum(hits))
"""


@pytest.fixture
def no_cache():
  """JAX as it starts: told of no cache. Put back as it was afterwards."""
  names = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update(names[0], None)
  jax.config.update(names[1], 1.0)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def hits(directory, **environment):
  """Starts a process with a cache: programs found there, and its stderr."""
  own = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
  done = subprocess.run(
    [sys.executable, "-W", "error", "-c", PROGRAM, str(directory)],
    cwd=ROOT,
    env={**own, "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return int(done.stdout)


def entries(directory):
  return sorted(directory.glob("*-cache"))


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
  assert hits(tmp_path) == 0
  assert hits(tmp_path) == 1


def test_a_damaged_entry_is_replaced(tmp_path):
  hits(tmp_path)
  (entry,) = entries(tmp_path)
  whole = entry.read_bytes()
  entry.write_bytes(whole[: len(whole) // 2])
  assert hits(tmp_path) == 0
  assert hits(tmp_path) == 1


@pytest.mark.parametrize(
  "damage",
  [
    lambda content: b"",
    lambda content: content[:-1],
    lambda content: content[:9] + bytes([content[9] ^ 1]) + content[10:],
  ],
  ids=["empty", "cut", "flipped"],
)
def test_only_damaged_entries_are_removed(tmp_path, damage):
  whole = zlib.compress(b"program" * 99)
  (tmp_path / "a-cache").write_bytes(whole)
  (tmp_path / "b-cache").write_bytes(damage(whole))
  (tmp_path / "c-cache").write_bytes(b"of another compressor")
  (tmp_path / "other").write_bytes(b"")
  compilation_cache.remove_damaged(tmp_path)
  left = sorted(path.name for path in tmp_path.iterdir())
  assert left == ["a-cache", "c-cache", "other"]


def test_damaged_entries_of_a_cache_that_the_user_has_chosen_go_too(
  tmp_path, no_cache
):
  chosen = tmp_path / "chosen"
  chosen.mkdir()
  (chosen / "bad-cache").write_bytes(b"\x78")
  jax.config.update("jax_compilation_cache_dir", str(chosen))
  use(tmp_path / "other")
  assert list(chosen.iterdir()) == []
  jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
  use(tmp_path / "other")
  assert not (tmp_path / "other").exists()


def test_a_cache_that_the_user_has_chosen_stays(tmp_path, no_cache):
  jax.config.update("jax_compilation_cache_dir", "chosen")
  use(tmp_path / "ours")
  assert jax.config.jax_compilation_cache_dir == "chosen"
  assert not (tmp_path / "ours").exists()


def test_a_threshold_that_the_user_has_chosen_stays(tmp_path, no_cache):
  use(tmp_path)
  name = "jax_persistent_cache_min_compile_time_secs"
  assert getattr(jax.config, name) == compilation_cache.MIN_COMPILE_S
  jax.config.update("jax_compilation_cache_dir", None)
  jax.config.update(name, 7.0)
  use(tmp_path)
  assert getattr(jax.config, name) == 7.0


def test_a_directory_that_cannot_be_written_means_no_cache(
  tmp_path, no_cache, caplog, monkeypatch
):
  monkeypatch.setattr(compilation_cache.log, "propagate", True)
  (tmp_path / "file").touch()
  use(tmp_path / "file" / "cache")
  assert jax.config.jax_compilation_cache_dir is None
  assert "compiled programs are not kept" in caplog.text


def test_only_the_first_process_clears_away(tmp_path, no_cache, monkeypatch):
  (tmp_path / "b-cache").touch()
  monkeypatch.setattr(compilation_cache.cluster, "is_first", lambda: False)
  use(tmp_path)
  assert entries(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)


@pytest.mark.parametrize(
  ("module", "flags"),
  [(evaluate, ()), (solve, ("1234341221434321",))],
  ids=["evaluate", "solve"],
)
def test_readers_of_a_run_keep_their_programs_with_the_user(
  monkeypatch, capsys, tmp_path, module, flags
):
  def stop(directory):
    raise InputError(f"kept in {directory}")

  monkeypatch.setattr(compilation_cache, "use", stop)
  monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/cache")
  error = Commands(monkeypatch, capsys).error(
    module, f"--workdir={tmp_path}", *flags
  )
  assert error == "kept in /home/me/cache/hrm_jax/compilation_cache"


def test_a_user_without_a_home_is_told_that_nothing_is_kept(
  monkeypatch, no_cache, caplog
):
  def nobody():
    raise RuntimeError("Could not determine home directory.")

  monkeypatch.delenv("XDG_CACHE_HOME")
  monkeypatch.setattr(pathlib.Path, "home", nobody)
  monkeypatch.setattr(compilation_cache.log, "propagate", True)
  assert compilation_cache.of_user() is None
  compilation_cache.use(compilation_cache.of_user())
  assert "compiled programs are not kept: this user has no home" in caplog.text
  assert jax.config.jax_compilation_cache_dir is None

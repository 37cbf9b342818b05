"""What holds for every command, whoever starts it and from where."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent
TINY = f"--config={ROOT}/tests/tiny.py"
STREAMS = ["<&- 2>&-", ">&-"]


@pytest.fixture
def start(tmp_path):
  """Runs a command through bash, in a directory that holds nothing of ours."""

  def run(*arguments, redirect="", **environment):
    environment = {
      "PATH": os.environ["PATH"],
      "PYTHONPATH": str(ROOT),
      "JAX_PLATFORMS": "cpu",
      "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
      **environment,
    }
    return subprocess.run(
      ["bash", "-c", f'"$0" -m "$@" {redirect}', sys.executable, *arguments],
      cwd=tmp_path,
      env={k: v for k, v in environment.items() if v is not None},
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def commands(run):
  """A cheap call of each command on a trained run, with a JSON result."""
  return {
    "train": ("hrm_jax.train", TINY, "--workdir=a", "--config.num_steps=1"),
    "evaluate": ("hrm_jax.evaluate", f"--workdir={run}", "--limit=8"),
    "solve": ("hrm_jax.solve", f"--workdir={run}", "--json", "." * 16),
    "checkpoint": ("hrm_jax.checkpoint", "list", str(run)),
    "benchmark": ("hrm_jax.benchmark", "data", "--json", "--batches=2"),
    "plan": ("hrm_jax.plan", TINY, "--target=cpu:2", "--only=update", "--json"),
    "check": ("data_tools.check", f"{run}/data"),
    "generate_sudoku": (
      "data_tools.generate_sudoku",
      "--output-dir=b",
      "--num-train=8",
      "--num-test=8",
    ),
  }


# Both for the cheapest command; one for the others, whose start is slow.
REDIRECTED = [("checkpoint", redirect) for redirect in STREAMS] + [
  (name, STREAMS[0]) for name in commands("") if name != "checkpoint"
]


@pytest.mark.parametrize(("name", "redirect"), REDIRECTED)
def test_a_command_works_where_streams_are_closed(
  start, tiny_run, name, redirect
):
  done = start(*commands(tiny_run)[name], redirect=redirect)
  assert done.returncode == 0, done.stderr
  assert "Traceback" not in done.stderr
  if ">&-" in redirect.replace("2>&-", ""):
    assert done.stdout == ""
  else:
    assert isinstance(json.loads(done.stdout.splitlines()[-1]), dict)


@pytest.mark.parametrize(
  ("name", "platforms"),
  [("train", "cuda"), ("evaluate", "tpu"), ("solve", "abacus")],
)
def test_devices_that_are_not_there_end_in_one_line(
  start, tiny_run, tmp_path, name, platforms
):
  done = start(*commands(tiny_run)[name], JAX_PLATFORMS=platforms)
  assert done.returncode == 2, done.stderr
  assert done.stdout == ""
  line = done.stderr.splitlines()[-1]
  assert line.startswith(f"error: JAX_PLATFORMS={platforms}: JAX finds no such")
  assert "Traceback" not in done.stderr
  assert list(tmp_path.iterdir()) == []


# As for a number that no /etc/passwd knows; becoming one takes root.
UNKNOWN_USER = """
import pwd, runpy, sys
def getpwuid(uid):
  raise KeyError(uid)
pwd.getpwuid = getpwuid
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("name", ["train", "evaluate", "solve", "checkpoint"])
def test_a_user_whom_nobody_knows_is_served(start, tiny_run, tmp_path, name):
  (tmp_path / "as_unknown_user.py").write_text(UNKNOWN_USER)
  done = start(
    "as_unknown_user", *commands(tiny_run)[name], XDG_CACHE_HOME=None, HOME=None
  )
  assert done.returncode == 0, done.stderr
  json.loads(done.stdout.splitlines()[-1])
  # Training keeps its programs in the workdir.
  lines = done.stderr.count("warning: compiled programs are not kept: ")
  assert lines == (name in ("evaluate", "solve"))


def test_a_path_from_home_is_none_of_a_directory_called_tilde(
  start, tiny_run, tmp_path
):
  home = tmp_path / "home"
  (home / "runs").mkdir(parents=True)
  shutil.copytree(tiny_run / "data", home / "set")
  flags = ("--config.num_steps=1", "--config.data.path=~/set")
  done = start(
    "hrm_jax.train", TINY, "--workdir=~/runs/a", *flags, HOME=str(home)
  )
  assert done.returncode == 0, done.stderr
  made = start(
    "data_tools.generate_sudoku",
    "--output-dir=~/made",
    "--num-train=8",
    "--num-test=8",
    HOME=str(home),
  )
  assert made.returncode == 0, made.stderr
  for arguments in (
    ("hrm_jax.evaluate", "--workdir=~/runs/a", "--data=~/set", "--limit=8"),
    ("hrm_jax.evaluate", "--workdir=~/runs/a", "--limit=8"),
    ("hrm_jax.checkpoint", "verify", "~/runs/a"),
    ("data_tools.check", "~/made"),
  ):
    done = start(*arguments, HOME=str(home))
    assert done.returncode == 0, done.stderr
  assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]
  assert sorted(p.name for p in home.iterdir()) == ["made", "runs", "set"]

"""Runs the scripts of launch/, on clusters that programs of the test play."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator

from hrm_jax.machines import preemption

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
LIBRARIES = {LAUNCH / "common.sh", LAUNCH / "supervise.sh"}
SCRIPTS = sorted({*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"} - LIBRARIES)
PREEMPTED = preemption.EXIT_CODE

# For processes of which a test asks how they start, end and agree, not what
# they compute: without LLVM's expensive passes compiling, which is most of
# their time, takes a quarter less.
QUICKLY_COMPILED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def tool(name: str) -> str:
  """A program of the test extra; a missing one fails the test."""
  here = pathlib.Path(sys.executable).parent
  path = shutil.which(name, path=f"{here}{os.pathsep}{os.environ['PATH']}")
  assert path, f"{name} is missing: pip install -e '.[test]'"
  return path


def environment(**variables: object) -> dict[str, str]:
  unset = ("PYTHON", "EXTRAS", "JAX_PLATFORMS", "NCCL_DEBUG")
  inherited = {
    k: v
    for k, v in os.environ.items()
    if k not in unset and not k.startswith("SLURM_")
  }
  return inherited | {k: str(v) for k, v in variables.items()}


@contextlib.contextmanager
def started(
  script: str, *args: str, **variables: object
) -> Iterator[subprocess.Popen]:
  """A running script; it does not outlive the test."""
  process = subprocess.Popen(
    ["bash", pathlib.Path("launch", script), *args],
    cwd=LAUNCH.parent,
    env=environment(**variables),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  with process:
    try:
      yield process
    finally:
      if process.poll() is None:
        process.terminate()  # It ends what it has started.
        try:
          process.wait(20)
        except subprocess.TimeoutExpired:
          process.kill()


def run(script: str, *args: str, **variables: object) -> tuple[int, str, str]:
  """Exit code, stdout and stderr."""
  with started(script, *args, **variables) as process:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def is_alive(pid: int) -> bool:
  """Whether it runs; who waits for its parent to ask no longer does."""
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(")")[2].split()[0] != "Z"


def fake_program(tmp_path: pathlib.Path, name: str, body: str) -> str:
  """Writes a script of bash; returns a PATH on which it comes first."""
  folder = tmp_path / "bin"
  folder.mkdir(exist_ok=True)
  path = folder / name
  path.write_text(f"#!/usr/bin/env bash\n{textwrap.dedent(body)}")
  path.chmod(0o755)
  return f"{folder}{os.pathsep}{os.environ['PATH']}"


def python_program(tmp_path, body: str) -> str:
  """A program for the processes; `me` is their number."""
  path = tmp_path / "program.py"
  start = """\
    import os, pathlib, signal, sys, time
    flags = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    me = int(flags["--process-id"])
    pathlib.Path(__file__).with_name(f"pid{me}").write_text(str(os.getpid()))
    """
  path.write_text(textwrap.dedent(start) + textwrap.dedent(body))
  return str(path)


def program_that_waits(tmp_path: pathlib.Path) -> str:
  """Says "ready"; exits with 75 on SIGTERM, and with 76 on SIGINT."""
  return python_program(
    tmp_path,
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(76))
    print("ready", flush=True)
    # One long sleep would miss a signal that comes just before it begins.
    for _ in range(2000):
      time.sleep(0.1)
    """,
  )


def exit_code_on_signal(
  number: int, tmp_path: pathlib.Path, script: str, *args: str, **variables
) -> int:
  """Exit code of a script that runs two processes; the signal has to end them.

  They are `program_that_waits`.
  """
  program = program_that_waits(tmp_path)
  with started(
    script, *args, "--", program, PYTHON=sys.executable, **variables
  ) as process:
    assert process.stdout.readline() == "ready\n"
    assert process.stderr.readline() == "[1] ready\n"
    process.send_signal(number)
    process.communicate(timeout=30)
  for name in ("pid0", "pid1"):
    assert not is_alive(int((tmp_path / name).read_text()))
  return process.returncode

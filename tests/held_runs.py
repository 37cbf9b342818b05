"""A small run of two processes, which waits before update 4 for its test."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from hrm_jax.checkpoint import saved_steps
from tests import launch_scripts, runs

ROOT = pathlib.Path(__file__).parent.parent
UPDATES = 20  # tests/tiny.py makes 5 in 2 epochs.
OVERRIDES = {"epochs": 8, "eval_interval": 8}
HELD_AT = 4

# Seconds that a step of a run may take on a busy machine; more is a hang.
PATIENCE = 300.0


class HeldRun:
  """What a launcher needs to start one, and what it has said and left.

  Attributes:
    arguments: of Python.
    variables: for its environment.
    log: a file, to which the launcher has to write what the processes say.
  """

  def __init__(self, folder: pathlib.Path):
    self.workdir, self.log = folder / "run", folder / "log"
    self._go_on = folder / "go_on"
    config = {**OVERRIDES, "checkpoint_interval": HELD_AT - 2}
    self.arguments = [
      *("-m", "tests.faults.observed", "--config=tests/tiny.py"),
      *(f"--config.{key}={value}" for key, value in config.items()),
      f"--workdir={self.workdir}",
    ]
    self.variables = {
      "FAULTS_HOLD": f"update@{HELD_AT}",
      "FAULTS_GO_ON": str(self._go_on),
      "JAX_PLATFORMS": "cpu",
      **launch_scripts.QUICKLY_COMPILED,
      # All of these runs are the same program.
      "JAX_COMPILATION_CACHE_DIR": f"{os.environ['XDG_CACHE_HOME']}/held_runs",
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
      "PYTHON": sys.executable,
      "PYTHONPATH": str(ROOT),
    }

  @contextlib.contextmanager
  def started_by(
    self, *launcher: str, **variables: str
  ) -> Iterator[subprocess.Popen]:
    """A launcher with `arguments` behind its own; it ends with the block.

    Its environment is that of the tests, without what speaks of a cluster.
    """
    with self.log.open("a") as log:
      process = subprocess.Popen(
        [*launcher, *self.arguments],
        cwd=ROOT,
        env=launch_scripts.environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
      )
    with process:
      try:
        yield process
      finally:
        process.terminate()  # Does nothing if it has ended.

  def go_on(self) -> None:
    """Lets the processes make update 4; later ones are not held at all."""
    self._go_on.touch()

  def said(self) -> str:
    """All that came so far."""
    return self.log.read_text(errors="replace") if self.log.exists() else ""

  def until_said(self, words: str, times: int = 1) -> None:
    """Waits for these words of the processes; TimeoutError without them."""
    end = time.monotonic() + PATIENCE
    while self.said().count(words) < times:
      if time.monotonic() > end:
        raise TimeoutError(f"no {words!r} in: {self.said()[-4000:]}")
      time.sleep(0.1)

  def until_held(self) -> None:
    """Waits until process 0 stands before update 4, and 2 is saved."""
    self.until_said(f"held update@{HELD_AT}")
    # That goes on in the background.
    end = time.monotonic() + PATIENCE
    while not self.saved():
      if time.monotonic() > end:
        raise TimeoutError(f"nothing is saved; {self.said()[-4000:]}")
      time.sleep(0.1)

  def kill(self, **variables: str) -> None:
    """SIGKILL to the one of its processes that has these variables."""
    (pid,) = _processes_with(**self.variables, **variables)
    os.kill(pid, signal.SIGKILL)

  def saved(self) -> int:
    """The newest step that is whole; 0 without any."""
    directory = saved_steps.directory_of(self.workdir)
    return max(saved_steps.complete_steps(directory), default=0)

  def losses(self) -> list[tuple[int, float]]:
    """(update, loss) of each one, in the order in which they were logged."""
    return [
      (step, value)
      for name, step, value in runs.read_scalars(self.workdir, as_shown=True)
      if name == "train/lm_loss"
    ]


def _processes_with(**variables: str) -> list[int]:
  """The Python processes of this machine with these variables."""
  wanted = {f"{name}={value}".encode() for name, value in variables.items()}
  found = []
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      program = os.fsencode((folder / "cmdline").read_bytes().split(b"\0")[0])
      there = set((folder / "environ").read_bytes().split(b"\0"))
    except OSError:  # It has ended meanwhile.
      continue
    if wanted <= there and program == os.fsencode(sys.executable):
      found.append(int(folder.name))
  return found

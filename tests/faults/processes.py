"""Starts training runs, watches what they leave on disk, and kills them."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parent.parent.parent
TRAIN, OBSERVED = "hrm_jax.train", "tests.faults.observed"

# Seconds that one process may take on a busy machine; more is a hang.
PATIENCE = 300.0

# How often the disk is looked at: half a save takes some milliseconds.
_GLANCE = 0.0005


class Child:
  """A process that the warm one has forked; its output is in files."""

  def __init__(
    self, ask: Callable[[dict], dict], pid: int, out: pathlib.Path, err
  ):
    self.code: int | None = None
    self._ask, self.pid, self._out, self._err = ask, pid, out, err

  @property
  def running(self) -> bool:
    """Whether it has not ended yet."""
    if self.code is None:
      self.code = self._ask({"wait": self.pid})["code"]
    return self.code is None

  def wait(self, seconds: float = PATIENCE) -> int:
    """Its exit code, as `subprocess` has it; kills it if it takes longer."""
    end = time.monotonic() + seconds
    while self.running:
      if time.monotonic() > end:
        self.signal(signal.SIGKILL)
        self.wait()
        raise TimeoutError(f"{self.pid} hung; {self.stderr[-3000:]}")
      time.sleep(0.01)
    return self.code

  def until(self, happened: Callable[[], Any]) -> bool:
    """Waits until something has happened; False if it ends before."""
    end = time.monotonic() + PATIENCE
    glances = 0
    while not happened():
      glances += 1
      if not glances % 100 and not self.running:
        return False
      if time.monotonic() > end:
        raise TimeoutError(f"{self.pid} got nowhere; {self.stderr[-3000:]}")
      time.sleep(_GLANCE)
    return True

  def signal(self, number: int) -> None:
    """Sends it a signal, which may come too late."""
    if self.running:
      os.kill(self.pid, number)

  @property
  def stderr(self) -> str:
    """What it has said so far."""
    return self._err.read_text(encoding="utf-8", errors="replace")

  @property
  def result(self) -> dict[str, Any]:
    """The JSON object on its last line of stdout; empty without any."""
    lines = self._out.read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1]) if lines else {}


class Starter:
  """Starts processes; `started` makes one.

  Args:
    warm: a running `tests.faults.warm`.
    scratch: a directory for what the processes say, and compiled programs.
  """

  def __init__(self, warm: subprocess.Popen, scratch: pathlib.Path):
    self._warm, self.scratch = warm, scratch
    self._children: list[Child] = []
    self._numbers = itertools.count()  # Scenarios run side by side.
    self._one_at_a_time = threading.Lock()

  def module(
    self,
    name: str,
    *arguments: object,
    environment: dict[str, str] | None = None,
    devices: int = 1,
  ) -> Child:
    """Starts `python -m name arguments ...` with some CPU devices."""
    number = next(self._numbers)
    out, err = (self.scratch / f"{number}.{s}" for s in ("out", "err"))
    answer = self._ask(
      {
        "module": name,
        "arguments": [str(argument) for argument in arguments],
        "environment": environment or {},
        "config": {"jax_num_cpu_devices": devices},
        "stdout": str(out),
        "stderr": str(err),
      }
    )
    for path in (out, err):
      path.touch()
    child = Child(self._ask, answer["pid"], out, err)
    self._children.append(child)
    return child

  def train(
    self,
    workdir: pathlib.Path,
    *flags: str,
    module: str = TRAIN,
    **options: Any,
  ) -> Child:
    """Starts a run of tests/tiny.py; flags as `lr=1` or `--flag=value`."""
    given = [f if f.startswith("--") else f"--config.{f}" for f in flags]
    config = f"--config={ROOT / 'tests' / 'tiny.py'}"
    return self.module(
      module, config, f"--workdir={workdir}", *given, **options
    )

  def kill_all(self) -> None:
    """Whatever still runs."""
    for child in self._children:
      child.signal(signal.SIGCONT)
      child.signal(signal.SIGKILL)

  def _ask(self, request: dict) -> dict:
    with self._one_at_a_time:
      print(json.dumps(request), file=self._warm.stdin, flush=True)
      return json.loads(self._warm.stdout.readline())


@contextlib.contextmanager
def started(scratch: pathlib.Path) -> Iterator[Starter]:
  """A `Starter` whose processes end with it."""
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(scratch / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "OPENBLAS_NUM_THREADS": "1",  # Its threads would not survive a fork.
    "PYTHONPATH": str(ROOT),
  }
  with subprocess.Popen(
    [sys.executable, "-m", "tests.faults.warm"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env=environment,
  ) as warm:
    starter = Starter(warm, scratch)
    try:
      yield starter
    finally:
      starter.kill_all()
      warm.stdin.close()

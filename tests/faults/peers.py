"""Two processes: one told to end, one killed, one stuck; then others go on."""

import math
import pathlib
import re
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hrm_jax.checkpoint import choice, saved_steps
from hrm_jax.machines import preemption, roll_call
from tests.faults import curves, records
from tests.faults.processes import OBSERVED, Child, Starter

_FLAGS = ("epochs=8", "eval_interval=8", "checkpoint_interval=2")
_LAST_STEP = 20
_DEVICES = 4  # In all, however many processes share them.

# Seconds; the run's own default is 100. What waits for the lost one has to
# notice and to end; on a busy machine it also waits for its turn.
_HEARTBEAT = 10
_IN_TIME = 2 * _HEARTBEAT


def run(starter: Starter) -> dict[str, Any]:
  """Does all that to one run, and has one and four processes end it.

  Returns:
    `seconds_to_end`, of the other process when one is dead and when one is
    stuck, with `heartbeat_timeout`; `largest_loss_difference`, relative, from
    a run of one process; `problems`: none.
  """
  runs = _Runs(starter)
  alone, pair = (starter.scratch / name for name in ("alone", "pair"))
  (undisturbed,) = runs.start(alone, 1)
  directory = saved_steps.directory_of(pair)
  go_on = starter.scratch / "pair.told"

  first, second = runs.start(pair, 2, hold={0: 6, 1: 6}, go_on=go_on)
  first.until(lambda: runs.made(pair) == 6)
  second.signal(signal.SIGTERM)  # Only one is told; both have to stop.
  go_on.touch()
  codes = [first.wait(), second.wait()]
  told = choice.choose_step(directory)
  checks = {
    f"one is told to end: {codes}": codes == [preemption.EXIT_CODE] * 2,
    f"both have saved {told}": runs.last_of_each(pair) == [told] * 2,
  }

  # Who is lost stops first, so that the other one waits for it.
  first, second = runs.start(pair, 2, hold={1: told + 4})
  second.until(
    lambda: (
      runs.made(pair) == told + 4
      and saved_steps.complete_steps(directory)[-1] > told
    )
  )
  dead = _seconds_to_end(first, second, signal.SIGKILL)
  checks |= {
    f"one is killed: {first.code}": first.code == roll_call.EXIT_CODE,
    f"it says: {first.stderr[-2000:]}": _names(first, 1),
    f"it resumed: {first.stderr[:2000]}": f"update {told}" in first.stderr,
    f"within {dead:.1f} s": dead <= _IN_TIME,
  }
  for name in ("one", "four"):
    shutil.copytree(pair, starter.scratch / name)

  held = choice.choose_step(directory) + 2
  first, second = runs.start(pair, 2, hold={0: held})
  second.until(lambda: runs.made(pair) == held)
  stuck = _seconds_to_end(second, first, signal.SIGSTOP)
  first.signal(signal.SIGKILL)
  checks |= {
    f"one is stuck: {second.code}": second.code == roll_call.EXIT_CODE,
    f"it says: {second.stderr[-2000:]}": _names(second, 0),
    f"within {stuck:.1f} s": stuck <= _IN_TIME,
  }
  first.wait()

  finishing = {"alone": [undisturbed]}
  for name, processes in (("one", 1), ("four", 4)):
    workdir = starter.scratch / name
    finishing[name] = runs.start(workdir, processes, heartbeat=100)
  losses = {}
  for name, children in finishing.items():
    codes = [child.wait() for child in children]
    logged = curves.read(starter.scratch / name)
    checks |= {
      f"{name}: {codes}": not any(codes),
      f"{name}: each step once": curves.each_step_once(logged, _LAST_STEP),
    }
    losses[name] = np.array(logged["train/lm_loss"])[:, 1]
  differences = [
    float(np.abs(losses[name] / losses["alone"] - 1).max())
    for name in ("one", "four")
    if len(losses[name]) == len(losses["alone"])
  ]
  largest = max(differences) if len(differences) == 2 else math.inf
  checks[f"the losses differ by {differences}"] = largest < 1e-4
  rows, orders = runs.orders()
  checks[f"{rows} rows of the batches are the same"] = orders == 1
  return {
    "heartbeat_timeout": _HEARTBEAT,
    "seconds_to_end": {"dead": round(dead, 1), "stuck": round(stuck, 1)},
    "largest_loss_difference": largest,
    "rows_compared": rows,
    "problems": [what for what, is_so in checks.items() if not is_so],
  }


class _Runs:
  """Starts runs of several processes, and knows which rows they have seen."""

  def __init__(self, starter: Starter):
    self._starter = starter
    self._records: dict[pathlib.Path, list[list[pathlib.Path]]] = {}

  def start(
    self,
    workdir: pathlib.Path,
    processes: int,
    hold: Mapping[int, int] | None = None,
    go_on: pathlib.Path | str = "",
    heartbeat: int = _HEARTBEAT,
  ) -> list[Child]:
    """Starts them; each process in `hold` stops before that update."""
    with socket.create_server(("127.0.0.1", 0)) as free:
      port = free.getsockname()[1]
    starts = self._records.setdefault(workdir, [])
    starts.append(
      [
        self._starter.scratch / f"{workdir.name}-{len(starts)}-{i}.jsonl"
        for i in range(processes)
      ]
    )
    together = (
      f"--coordinator=127.0.0.1:{port}",
      f"--num-processes={processes}",
      f"--heartbeat-timeout={heartbeat}",
    )
    return [
      self._starter.train(
        workdir,
        *_FLAGS,
        *((*together, f"--process-id={i}") if processes > 1 else ()),
        module=OBSERVED,
        devices=_DEVICES // processes,
        environment={
          "FAULTS_RECORD": str(record),
          "FAULTS_HOLD": f"update@{(hold or {}).get(i)}",
          "FAULTS_GO_ON": str(go_on),
        },
      )
      for i, record in enumerate(starts[-1])
    ]

  def made(self, workdir: pathlib.Path) -> int:
    """The last update that each process of the last start has begun."""
    return min(self.last_of_each(workdir))

  def last_of_each(self, workdir: pathlib.Path) -> list[int]:
    return [
      max((line["step"] for line in records.read(record)), default=0)
      for record in self._records[workdir][-1]
    ]

  def orders(self) -> tuple[int, int]:
    """How many rows of batches all runs saw, and how many orders those are.

    The first number counts each row of each update once. The second is 1 if
    whoever saw a row of an update, in whatever start, saw the same in it.
    """
    seen: dict[tuple[int, str], set[int]] = {}
    for record in (
      r for starts in self._records.values() for s in starts for r in s
    ):
      for line in records.read(record):
        for row, digest in line["rows"].items():
          seen.setdefault((line["step"], row), set()).add(digest)
    return len(seen), max(map(len, seen.values()))


def _seconds_to_end(waits: Child, gone: Child, number: int) -> float:
  began = time.monotonic()
  gone.signal(number)
  waits.wait()
  return time.monotonic() - began


def _names(child: Child, process: int) -> bool:
  return bool(
    re.search(rf"error: process {process}: not heard of for", child.stderr)
  )

"""SIGTERM, once SIGINT and SIGHUP: saved to the last update, ended with 75."""

import pathlib
import random
import signal
import time
from typing import Any

from hrm_jax.checkpoint import choice, saved_steps
from hrm_jax.machines import preemption
from tests.faults import hits, records, reference
from tests.faults.processes import OBSERVED, Starter


def run(starter: Starter, count: int, rng: random.Random) -> dict[str, Any]:
  """Trains one run to its end, with so many SIGTERMs, a SIGINT and a SIGHUP.

  It saves only when it is asked to end, and after an evaluation.

  Returns:
    `terms`, `interrupts` and `hangups`; `lost_steps`, updates that were made
    and had to be made again; whether the run is the uninterrupted one;
    `seconds_to_end`, the longest time from the signal to the end; `saved_at`;
    `problems`: none.
  """
  want = reference.train(starter, hits.iterations(count + 2))
  workdir = starter.scratch / "terminated"
  directory = saved_steps.directory_of(workdir)
  record = starter.scratch / "terminated.jsonl"
  environment = {"FAULTS_RECORD": str(record), "FAULTS_PAUSE": "0.03"}
  numbers = [signal.SIGTERM] * count + [signal.SIGINT, signal.SIGHUP]
  rng.shuffle(numbers)

  codes, saved, seconds = [], [0], []
  for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
    target = hits.target(saved[-1], want.last_step, left, rng)
    # It is not far ahead when it is told, however late that is.
    go_on = starter.scratch / f"terminated.{left}"
    hold = {
      "FAULTS_HOLD": f"update@{target + 4}",
      "FAULTS_GO_ON": str(go_on),
    }
    child = starter.train(
      workdir, *want.flags, module=OBSERVED, environment=environment | hold
    )
    child.until(lambda target=target: made(record)[-1:] >= [target])
    began = time.monotonic()
    child.signal(number)
    go_on.touch()
    codes.append(child.wait())
    seconds.append(time.monotonic() - began)
    saved.append(choice.choose_step(directory) or 0)
  child = starter.train(
    workdir, *want.flags, module=OBSERVED, environment=environment
  )
  codes.append(child.wait())
  same = want.matches(starter, workdir)
  problems = [f"{what} is not so" for what, is_so in same.items() if not is_so]
  if codes != [preemption.EXIT_CODE] * len(numbers) + [0]:
    problems.append(f"exit codes {codes}; {child.stderr[-2000:]}")
  lost = len(made(record)) - want.last_step
  if lost:
    problems.append(f"{lost} updates were lost")
  return {
    "terms": numbers.count(signal.SIGTERM),
    "interrupts": numbers.count(signal.SIGINT),
    "hangups": numbers.count(signal.SIGHUP),
    "lost_steps": lost,
    **same,
    "seconds_to_end": round(max(seconds), 1),
    "steps": want.last_step,
    "saved_at": saved[1:],
    "problems": problems,
  }


def made(record: pathlib.Path) -> list[int]:
  """The updates that were begun, in order."""
  return [line["step"] for line in records.read(record)]

"""Readers of a run that saves every update and keeps only the newest."""

import pathlib
import signal
import sys
from typing import Any

import jax
import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.machines import preemption
from tests.faults import curves
from tests.faults.processes import Starter

_READERS, _READS = 2, 50

# More updates than it makes while it is read: it is told to end.
_FLAGS = (
  "epochs=80000",
  "eval_interval=800",
  "checkpoint_interval=1",
  "max_to_keep=1",
)


def run(starter: Starter) -> dict[str, Any]:
  """Reads a run's checkpoints while it trains; then tells it to end.

  Returns:
    `reads` that were made, `failed_reads` of them; `steps` that the run made
    meanwhile, `lost_steps` of them, which were logged but not saved, or the
    other way round; `problems`: none.
  """
  workdir = starter.scratch / "read"
  child = starter.train(workdir, *_FLAGS)
  child.until(lambda: list(workdir.glob("checkpoints/*/manifest.json")))
  readers = [
    starter.module("tests.faults.readers", workdir, _READS)
    for _ in range(_READERS)
  ]
  codes = [reader.wait() for reader in readers]
  was_training = child.running
  child.signal(signal.SIGTERM)
  code, result = child.wait(), child.result
  if any(codes):
    said = "; ".join(reader.stderr[-2000:] for reader in readers)
    return {"problems": [f"the readers exit with {codes}: {said}"]}
  failures = [line for reader in readers for line in reader.result["failures"]]
  steps = [step for reader in readers for step in reader.result["steps"]]
  logged = curves.read(workdir)
  last_step = result.get("step", 0)
  lost = last_step - (result.get("saved_step") or 0)
  checks = {
    f"the run was over after {last_step} updates": was_training,
    f"the run exits with {code}": code == preemption.EXIT_CODE,
    f"the run says: {child.stderr[-2000:]}": "not saved" not in child.stderr,
    f"{lost} updates were lost": lost == 0,
    "an update was logged twice or not at all": curves.each_step_once(
      logged, last_step
    ),
    f"failed reads: {failures[:3]}": not failures,
    f"{len(steps)} reads were made": len(steps) == _READERS * _READS,
    "a reader got an older step after a newer one": all(
      reader.result["steps"] == sorted(reader.result["steps"])
      for reader in readers
    ),
  }
  return {
    "reads": len(steps) + len(failures),
    "failed_reads": len(failures),
    "steps": last_step,
    "lost_steps": lost,
    "problems": [what for what, is_so in checks.items() if not is_so],
  }


def main() -> None:
  """The command line: WORKDIR READS."""
  workdir, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
  console.set_up_logging()
  steps, failures = [], []
  for _ in range(count):
    try:
      trained = load(workdir)
    except InputError as error:
      failures.append(str(error))
      continue
    leaves = jax.tree.leaves(trained.weights)
    if not all(
      np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in leaves
    ):
      failures.append(f"step {trained.step} holds what is not finite")
    steps.append(trained.step)
  console.print_json({"steps": steps, "failures": failures})


if __name__ == "__main__":
  main()

"""A NaN in the weights, the puzzle table or the rows: told, and obeyed."""

import concurrent.futures
import json
import math
from typing import Any

from tests.faults import curves, reference
from tests.faults.processes import OBSERVED, Starter

# The update that meets it: between two saves, and in the middle of puzzles,
# for rows that take a new one lose their states and any NaN in them.
_AT = 8

# Where it is put, and the tensor that is named.
_NAMES = {
  "params": "weights.params.",
  "table": "weights.puzzle_table",
  "batch": "carry.z_H",
}


def run(starter: Starter) -> dict[str, Any]:
  """A run for each place, and for each policy.

  Returns:
    `runs`; `problems` with how they ended: none.
  """
  want = reference.train(starter, 2)
  tries = [(where, "stop") for where in _NAMES]
  tries += [("params", "rollback"), ("batch", "skip")]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    found = pool.map(lambda this: _try(starter, want, *this), tries)
    problems = [
      f"{where}, {policy}: {wrong}"
      for (where, policy), wrongs in zip(tries, found, strict=True)
      for wrong in wrongs
    ]
  return {"runs": len(tries), "problems": problems}


def _try(
  starter: Starter,
  want: reference.Reference,
  where: str,
  policy: str,
) -> list[str]:
  name = _NAMES[where]
  workdir = starter.scratch / f"nan-{where}-{policy}"
  child = starter.train(
    workdir,
    *want.flags,
    f"on_nonfinite={policy}",
    "checkpoint_interval=3",
    module=OBSERVED,
    environment={"FAULTS_POISON": f"{where}@{_AT}"},
  )
  code, said = child.wait(), child.stderr
  checks = {f"exit code {code}": code == (70 if policy == "stop" else 0)}
  checks[f"it says: {said[-500:]}"] = f"update {_AT}: {name}" in said
  if policy == "stop":
    path = workdir / "diverged.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    checks[f"it reports {report}"] = (
      report.get("step") == _AT
      and report["not_finite"].startswith(name)
      and len(report["batch"]["examples"]) == 16
      and "train/lm_loss" in report["metrics"]
    )
  elif policy == "rollback":
    # It did not come again, so nothing was left out.
    same = want.matches(starter, workdir)
    checks[f"it ends with {same}"] = all(same.values())
  else:
    ((step, loss),) = curves.read(workdir)["train/lm_loss"][-1:]
    checks[f"loss {loss} of {step}"] = math.isfinite(loss) and step == (
      want.last_step
    )
  return [what for what, is_so in checks.items() if not is_so]

"""Runs the scenarios, two at a time, and prints what they found.

  peers      two processes: one is told to end, one killed, one stopped
  kills      SIGKILL at random moments; the run is started again
  terms      SIGTERM, SIGINT and SIGHUP; the run is started again
  readers    two readers of a run that keeps only its newest update
  nans       a NaN in the weights, the table, the states of a batch
  full_disk  a disk that runs full during a save
  damage     each file of a checkpoint damaged; pickles in place of files

The last line of stdout is one JSON object: `ok`, the numbers that matter, and
by scenario what else it counted. It exits with 1 if anything is wrong.

example: python -m tests.faults --kills 50 --terms 20
"""

import argparse
import concurrent.futures
import os
import pathlib
import platform
import random
import tempfile
import time
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import run_record
from tests.faults import (
  damage,
  full_disk,
  kills,
  nans,
  peers,
  processes,
  readers,
  terms,
)

# The longest first.
_SCENARIOS = {
  "peers": lambda starter, given: peers.run(starter),
  "kills": lambda starter, given: kills.run(
    starter, given.kills, random.Random(given.seed)
  ),
  "terms": lambda starter, given: terms.run(
    starter, given.terms, random.Random(given.seed)
  ),
  "readers": lambda starter, given: readers.run(starter),
  "nans": lambda starter, given: nans.run(starter),
  "full_disk": lambda starter, given: full_disk.run(starter),
  "damage": lambda starter, given: damage.run(starter, given.seed),
}


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m tests.faults",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--kills", type=int, default=3, help="SIGKILLs (default: 3)")
  add("--terms", type=int, default=2, help="SIGTERMs (default: 2)")
  add("--seed", type=int, default=0, help="of what is random (default: 0)")
  add(
    "--only",
    choices=_SCENARIOS,
    nargs="+",
    default=list(_SCENARIOS),
    help="scenarios to run (default: all)",
  )
  given = parser.parse_args()
  began = time.monotonic()
  with (
    tempfile.TemporaryDirectory(prefix="hrm_jax_faults_") as scratch,
    processes.started(pathlib.Path(scratch)) as starter,
    concurrent.futures.ThreadPoolExecutor(2) as pool,
  ):
    started = {
      name: pool.submit(_timed, name, starter, given) for name in given.only
    }
    found = {name: future.result() for name, future in started.items()}
  result = summary(found) | {
    "seconds": round(time.monotonic() - began, 1),
    "cores": os.cpu_count(),
    "versions": {"python": platform.python_version(), **run_record.versions()},
    "scenarios": found,
  }
  console.print_json(result)
  if not result["ok"]:
    raise SystemExit(1)


def _timed(
  name: str, starter: processes.Starter, given: argparse.Namespace
) -> dict[str, Any]:
  began = time.monotonic()
  found = _SCENARIOS[name](starter, given)
  found["seconds"] = round(time.monotonic() - began, 1)
  problems = ", ".join(found["problems"]) or "as it should be"
  console.log.info(f"{name}: {found['seconds']} s, {problems}")
  return found


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """What the scenarios add up to."""
  identical = [
    found[name][key]
    for name in ("kills", "terms")
    if name in found
    for key in ("same_losses", "same_state", "each_step_once")
  ]
  return {
    "ok": not any(each["problems"] for each in found.values()),
    # Without anything to compare it says nothing.
    **({"identical": all(identical)} if identical else {}),
    **{
      key: found[name][key]
      for name, key in (
        ("kills", "kills"),
        ("kills", "failed_restarts"),
        ("terms", "terms"),
        ("terms", "lost_steps"),
        ("readers", "reads"),
        ("readers", "failed_reads"),
        ("full_disk", "tmpfs"),
      )
      if name in found
    },
  }


if __name__ == "__main__":
  console.set_up_logging()
  main()

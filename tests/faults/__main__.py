"""Runs the scenarios and prints what they found, as one JSON line.

example: python -m tests.faults --kills 50 --terms 20
"""

import argparse
import json
import pathlib
import random
import sys
import tempfile
import time

from tests.faults import full_disk, kills, nans, processes, terms

SCENARIOS = {
  "kills": lambda starter, given, rng: kills.run(starter, given.kills, rng),
  "terms": lambda starter, given, rng: terms.run(starter, given.terms, rng),
  "full_disk": lambda starter, _, rng: full_disk.run(starter, rng),
  "nans": lambda starter, _, rng: nans.run(starter, rng),
}


def main() -> None:
  """The command line; exits with 1 if something is not as it should be."""
  parser = argparse.ArgumentParser(
    prog="python -m tests.faults",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--kills", type=int, default=3, help="SIGKILLs (default: 3)")
  add("--terms", type=int, default=2, help="SIGTERMs (default: 2)")
  add("--seed", type=int, default=0, help="of the moments (default: 0)")
  add(
    "--only", choices=SCENARIOS, nargs="+", default=list(SCENARIOS), help="some"
  )
  given = parser.parse_args()
  began = time.monotonic()
  found = {}
  with (
    tempfile.TemporaryDirectory(prefix="hrm_jax_faults_") as scratch,
    processes.started(pathlib.Path(scratch)) as starter,
  ):
    for name in given.only:
      start = time.monotonic()
      found[name] = SCENARIOS[name](starter, given, random.Random(given.seed))
      found[name]["seconds"] = round(time.monotonic() - start, 1)
      print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
  print(json.dumps({"seconds": round(time.monotonic() - began, 1), **found}))


if __name__ == "__main__":
  main()

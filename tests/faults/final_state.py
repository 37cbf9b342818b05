"""Prints a digest of every array of a checkpoint: WORKDIR STEP."""

import hashlib
import json
import pathlib
import sys

from tests import runs


def main() -> None:
  """The command line."""
  workdir, step = sys.argv[1:]
  digests = {
    name: f"{array.dtype}{array.shape}:"
    + hashlib.sha256(array.tobytes()).hexdigest()
    for name, array in runs.read_state(pathlib.Path(workdir), int(step)).items()
  }
  print(json.dumps(digests))


if __name__ == "__main__":
  main()

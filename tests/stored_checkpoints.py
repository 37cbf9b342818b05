"""A small checkpoint of each format there ever was, which must stay readable.

  python -m tests.stored_checkpoints

writes that of the current format, tests/checkpoints/format_<number>, where it
is not there yet: a run of two updates, and digests.json with a digest of each
of its arrays. Whoever renames or reshapes something in a run's state sees the
tests of it fail, gives the format a new number (`format_number`), and adds its
sample. The samples of earlier formats are never written again.
"""

import hashlib
import json
import pathlib
import re
import shutil
import tempfile
from typing import Any

import jax

from hrm_jax.checkpoint import format_number, store
from tests import runs

ROOT = pathlib.Path(__file__).parent / "checkpoints"
STEP = 2

# As few numbers as a network can have; eight rows, for eight devices.
_SMALL = {
  "num_steps": STEP,
  "global_batch_size": 8,
  "model.hidden_size": 2,
  "model.num_heads": 1,
}


def workdir_of(number: int) -> pathlib.Path:
  """Where the sample of a format lies."""
  return ROOT / f"format_{number}"


def expected_digests(number: int) -> dict[str, str]:
  """What `digests_of` said of a sample's state when it was made."""
  path = workdir_of(number) / "digests.json"
  return json.loads(path.read_text(encoding="utf-8"))


def digests_of(tree: Any) -> dict[str, str]:
  """A digest of every array of a tree, by its path: type, shape and bits."""
  return {
    ".".join(re.findall(r"\w+", jax.tree_util.keystr(path))): _digest(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _digest(leaf: jax.Array) -> str:
  array = runs.plain(leaf)
  content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
  return hashlib.sha256(content).hexdigest()[:16]


def make(workdir: pathlib.Path) -> None:
  """Trains the sample of the current format, and keeps what is read of it."""
  with tempfile.TemporaryDirectory() as scratch:
    trained = pathlib.Path(scratch) / "run"
    runs.train_tiny(trained, **_SMALL)
    shutil.copytree(trained / "checkpoints", workdir / "checkpoints")
  # The digests come from another reader than those that the tests try.
  digests = digests_of(runs.read_state(workdir, STEP))
  path = workdir / "digests.json"
  path.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def main() -> None:
  """The command line."""
  workdir = workdir_of(format_number.CURRENT)
  if workdir.exists():
    raise SystemExit(f"{workdir}: is there, and stays as it is")
  make(workdir)
  record = store.read_run(workdir, STEP)
  print(f"{workdir}: format {record[format_number.KEY]}")


if __name__ == "__main__":
  main()

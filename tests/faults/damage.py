"""Every file of a checkpoint damaged in turn, and pickles among the files."""

import logging
import pathlib
import pickle
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import manifest, saved_steps, store
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import metadata_from_json
from hrm_jax.data.split import open_split
from hrm_jax.train import setup
from hrm_jax.train.state import TrainState, saved_part
from tests import runs
from tests.faults import reference
from tests.faults.processes import Starter


def run(starter: Starter, seed: int) -> dict[str, Any]:
  """Damages what a finished run has left, in a process that resumes it.

  Returns:
    `files` of its newest checkpoint; `damages`, each of a file; `pickles` put
    in place of a file, of the checkpoint or the data; `problems` with what
    was restored and said, and with pickles that ran: none.
  """
  workdir = starter.scratch / "damaged"
  shutil.copytree(reference.train(starter, 2).workdir, workdir)
  child = starter.module("tests.faults.damage", workdir, seed)
  if child.wait():
    return {"problems": [f"exit code {child.code}: {child.stderr[-2000:]}"]}
  return child.result


def _flip_a_bit(content: bytes, rng: random.Random) -> bytes:
  changed = bytearray(content)
  changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
  return bytes(changed)


def _truncate(content: bytes, rng: random.Random) -> bytes:
  return content[: rng.randrange(len(content))]


# From what a file holds to what it holds then; not of an empty one.
_DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
  "a bit flipped": _flip_a_bit,
  "truncated": _truncate,
}


class _Bomb:
  """Makes a file when it is unpickled."""

  def __init__(self, canary: pathlib.Path):
    self._canary = canary

  def __reduce__(self):
    return pathlib.Path.touch, (self._canary,)


class _Run:
  """A finished run, whose newest checkpoint is to be damaged."""

  def __init__(self, workdir: pathlib.Path):
    self._directory = saved_steps.directory_of(workdir).absolute()
    *_, self._older, self._newest = saved_steps.complete_steps(self._directory)
    # By another reader than that of a run.
    self._want = {
      _plain(name): _content(array)
      for name, array in runs.read_state(workdir, self._older).items()
    }
    self.path = self._directory / str(self._newest)
    self.files = sorted(p for p in self.path.rglob("*") if p.is_file())
    self._shapes = _shapes(store.read_run(workdir, self._newest))
    self._workdir = workdir
    self._lines: list[str] = []
    self._listener = logging.Handler()
    self._listener.emit = lambda r: self._lines.append(r.getMessage())

  def __enter__(self) -> "_Run":
    console.log.addHandler(self._listener)
    return self

  def __exit__(self, *exc_info: object) -> None:
    console.log.removeHandler(self._listener)

  def is_whole(self) -> Iterator[str]:
    """What is wrong if the newest step is not resumed from."""
    step, _ = self._resume()
    if step != self._newest or self._lines:
      yield f"it resumed from {step}, and said {self._lines}"

  def passes_over(self, file: pathlib.Path) -> Iterator[str]:
    """What is wrong if it goes on from the older step because of a file."""
    step, state = self._resume()
    if step != self._older:
      yield f"it resumed from {step}"
    elif state != self._want:
      yield "the older step was not restored as it is"
    start, end = f"warning: {file}: ", f"; passing over step {self._newest}"
    if [(s[: len(start)], s[-len(end) :]) for s in self._lines] != [
      (start, end)
    ]:
      yield f"it said {self._lines}"

  def resumes_somehow(self) -> Iterator[str]:
    """What is wrong if it resumes from neither of the two steps."""
    step, state = self._resume()
    if step not in (self._older, self._newest):
      yield f"it resumed from {step}"
    if step == self._older and state != self._want:
      yield "the older step was not restored as it is"

  def _resume(self) -> tuple[int | None, dict[str, bytes]]:
    self._lines.clear()
    # Anew each time, as a run has them: they remember what was unreadable.
    with Checkpoints(self._workdir) as checkpoints:
      resumed = checkpoints.resume(self._shapes, part=saved_part)
    if resumed is None:
      return None, {}
    leaves = jax.tree_util.tree_leaves_with_path(resumed.state)
    return resumed.step, {
      _plain(jax.tree_util.keystr(path)): _content(runs.plain(leaf))
      for path, leaf in leaves
    }


def _shapes(run: dict[str, Any]) -> TrainState:
  """The state's shapes of a run, as the trainer has them."""
  metadata = metadata_from_json(run["dataset"], "")
  config = ml_collections.ConfigDict(run["config"])
  return setup.make_setup(config, metadata, total_steps=1).shapes


def _plain(path: str) -> str:
  """A path in a tree, whatever its nodes are made of."""
  return ".".join(re.findall(r"\w+", path))


def _content(array: np.ndarray) -> bytes:
  return f"{array.dtype}{array.shape}".encode() + array.tobytes()


def _damage_all(this: _Run, rng: random.Random) -> tuple[int, list[str]]:
  """Damages each file in each way; how many that were, and the problems."""
  damages, problems = 0, list(this.is_whole())
  for file in this.files:
    content = file.read_bytes()
    changes = {"deleted": None}
    if content:  # Orbax leaves empty marker files.
      changes |= {name: do(content, rng) for name, do in _DAMAGES.items()}
    for name, changed in changes.items():
      if changed is None:
        file.unlink()
      else:
        file.write_bytes(changed)
      problems += [f"{file}, {name}: {w}" for w in this.passes_over(file)]
      file.write_bytes(content)
      damages += 1
  return damages, problems + list(this.is_whole())


def _put_pickles_into(this: _Run, bomb: bytes) -> tuple[int, list[str]]:
  """In place of each file; then with digests that are right for it, too."""
  problems = []
  written = (this.path / manifest.FILE_NAME).read_bytes()
  for file in this.files:
    content = file.read_bytes()
    file.write_bytes(bomb)
    problems += [f"{file}, a pickle: {w}" for w in this.passes_over(file)]
    if file.name != manifest.FILE_NAME:
      manifest.write(this.path, int(this.path.name))
      problems += [
        f"{file}, a pickle with its digest: {w}" for w in this.resumes_somehow()
      ]
    file.write_bytes(content)
    (this.path / manifest.FILE_NAME).write_bytes(written)
  return len(this.files), problems + list(this.is_whole())


def _offer_pickles(data: pathlib.Path, bomb: _Bomb) -> tuple[int, list[str]]:
  """In place of each array of a data set."""
  problems = []
  files = sorted(data.glob("*/*.npy"))
  for file in files:
    content = file.read_bytes()
    np.save(file, np.array([bomb], object), allow_pickle=True)
    try:
      open_split(data, file.parent.name)
    except InputError as error:
      if not str(error).startswith(f"{file}: "):
        problems.append(f"{file}, a pickle: it said {error}")
    else:
      problems.append(f"{file}: a pickle was taken for an array")
    file.write_bytes(content)
  return len(files), problems


def main() -> None:
  """The command line: WORKDIR SEED."""
  workdir, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
  console.set_up_logging()
  canary = workdir / "canary"
  bomb = _Bomb(canary)
  with _Run(workdir) as this:
    damages, problems = _damage_all(this, random.Random(seed))
    pickles, more = _put_pickles_into(this, pickle.dumps(bomb))
  offered, still_more = _offer_pickles(workdir / "data", bomb)
  problems += more + still_more
  if canary.exists():
    problems.append("a pickle ran")
  pickle.loads(pickle.dumps(bomb))
  if not canary.exists():
    problems.append("no pickle would have been noticed")
  console.print_json(
    {
      "files": len(this.files),
      "damages": damages,
      "pickles": pickles + offered,
      "problems": problems,
    }
  )


if __name__ == "__main__":
  main()

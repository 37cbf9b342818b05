"""What the viewer's tests look at: a network that changes its mind.

A network that was trained for ten updates solves nothing. So random weights
think about the tiny run's puzzles, whose answers then become the solutions:
some puzzles are right from the first segment on, some later, some are left
again, and some are never solved.
"""

import argparse
import json
import pathlib
import shutil
from typing import NamedTuple

import jax
import numpy as np

from hrm_jax.checkpoint import load
from hrm_jax.checkpoint.load import Trained
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.solve.inference import with_segments
from hrm_jax.view.recording import Recording, record
from tests.toys import random_like

SEGMENTS = 6
# Too many for a bar each.
RATINGS = np.array([*range(21), *[7.5] * 6])
EVIL = "<img src=x onerror=alert(1)>"


def load_restless(
  args: argparse.Namespace, *, on_all_devices: bool = False
) -> Trained:
  """`published.load_from`, but with weights that halt now and then."""
  trained = load.load(args.workdir, on_all_devices=on_all_devices)
  weights = jax.tree.map(
    lambda new, old: jax.device_put(new, old.sharding),
    random_like(trained.weights, seed=19),
    trained.weights,
  )
  # The table has rows enough for one identifier more.
  dataset = {**trained.run["dataset"], "num_puzzle_identifiers": 2}
  return trained._replace(
    weights=weights, run={**trained.run, "dataset": dataset}
  )


class Viewed(NamedTuple):
  """A run, puzzles that some of its answers solve, and those answers."""

  workdir: pathlib.Path
  data: pathlib.Path
  recording: Recording

  @property
  def flags(self) -> list[str]:
    """What `evaluate` and `view` are called with."""
    return [
      f"--workdir={self.workdir}",
      f"--data={self.data}",
      f"--segments={SEGMENTS}",
    ]


def prepare(workdir: pathlib.Path, root: pathlib.Path) -> Viewed:
  """Copies the run's data set, with such solutions and an evil name."""
  shutil.copytree(workdir / "data", root)
  test = root / "test"
  np.save(test / "all__puzzle_identifiers.npy", np.arange(27) % 2)
  metadata = json.loads((test / "dataset.json").read_text())
  metadata["num_puzzle_identifiers"] = 2
  (test / "dataset.json").write_text(json.dumps(metadata))
  (root / "identifiers.json").write_text(json.dumps(["<blank>", EVIL]))

  trained = load_restless(argparse.Namespace(workdir=workdir))
  trained = trained._replace(model=with_segments(trained.model, SEGMENTS))
  data = EvaluationData(open_split(root, "test"), batch_size=16)
  recording = record(trained, data)
  row = np.arange(len(recording.answers))
  labels = recording.answers[row, row % SEGMENTS].astype(np.uint8)
  labels[::5, 3] = 1 + labels[::5, 3] % 4  # Nobody's answer.
  np.save(test / "all__labels.npy", labels)
  np.save(test / "all__ratings.npy", RATINGS)
  return Viewed(workdir, root, recording)


def page_data(text: str) -> dict:
  """The JSON block of a page."""
  return json.loads(
    block_of(text, '<script type="application/json" id="data">')
  )


def block_of(text: str, opening: str) -> str:
  """What stands between an opening tag and the end of its element."""
  name = opening.split()[0].strip("<>")
  return text.split(opening)[1].split(f"</{name}>")[0]

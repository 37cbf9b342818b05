"""Turns and mirrors mazes, and writes them group by group."""

import numpy as np

from hrm_jax import console
from hrm_jax.data import symmetry, writer

_MAZES_AT_ONCE = 1024


def images(grids: np.ndarray) -> np.ndarray:
  """Makes the 8 dihedral images of each maze.

  Args:
    grids: [N, G] token ids.

  Returns:
    [N, 8, G], like `grids`: identity, three counter-clockwise quarter turns,
    left-right flip, up-down flip, transpose, left-right flip of one turn.
  """
  return grids[:, symmetry.of_mazes(grids.shape[1]).cells]


def class_key(grid: np.ndarray) -> bytes:
  """A key that a [G] uint8 maze shares with its images, and no other."""
  return min(image.tobytes() for image in images(grid[None])[0])


def write_split(
  dataset: writer.DatasetWriter,
  split: str,
  questions: np.ndarray,
  answers: np.ndarray,
  *,
  aug: bool,
) -> None:
  """Writes N mazes, each a group, which holds its images too if `aug`.

  Args:
    dataset: where to; the only writing to this split.
    split: its name.
    questions: [N, G] uint8 token ids.
    answers: [N, G] uint8 token ids.
    aug: whether to add the images; the original comes first.
  """
  group = symmetry.DIHEDRAL if aug else 1
  total = len(questions) * group
  with console.Progress(f"writing {split}", total, unit="puzzles") as bar:
    for start in range(0, len(questions), _MAZES_AT_ONCE):
      piece = slice(start, start + _MAZES_AT_ONCE)
      pair = questions[piece], answers[piece]
      if aug:
        pair = (images(grids).reshape(-1, grids.shape[1]) for grids in pair)
      inputs, labels = pair
      dataset.add_examples(split, inputs, labels)
      bar.advance(len(inputs))
  dataset.add_puzzles(
    split,
    identifiers=np.full(total, writer.BLANK_IDENTIFIER_ID),
    examples_per_puzzle=np.ones(total),
    puzzles_per_group=np.full(len(questions), group),
  )

"""What training may change in the examples that it reads: images, and hints.

Images: each Sudoku or maze is replaced by one of its symmetry images, drawn
anew whenever it comes; question and answer alike. The stored images of a data
set are as many as its builder was told, these are all that there are.

Hints: some Sudokus get a part of their blanks filled in from their answers.
Source: Ren and Liu, arXiv 2601.10679, who found that HRM fails on puzzles with
very few blanks, which it has never seen, and store one easier puzzle beside
each one: a share of 0.5. Here as there at least one blank is filled in, and at
least one is left.
"""

from typing import NamedTuple

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import puzzle_kind, sudoku, symmetry
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch
from hrm_jax.data.split import Split

# Answers of each set that are held against the rules before training.
_SAMPLE = 64


class Rewriting(NamedTuple):
  """What changes; `make` checks that it can.

  Attributes:
    kind: of the puzzles.
    augment: whether each becomes an image of itself.
    hint_mix: share of the puzzles that get hints.
  """

  kind: str
  augment: bool
  hint_mix: float

  def __call__(
    self, rng: np.random.Generator, batch: Batch, size: int, rows: slice
  ) -> Batch:
    """Rewrites some rows of a batch.

    Args:
      rng: draws for the whole batch, so that a row becomes the same whoever
        reads it.
      batch: the rows.
      size: of the whole batch.
      rows: which of the whole batch they are.

    Returns:
      As many rows, under the identifiers that they had.
    """
    inputs, labels = batch["inputs"], batch["labels"]
    if self.augment:
      drawn = symmetry.draw(rng, self.kind, size, inputs.shape[1])
      own = symmetry.Symmetries(*(part[rows] for part in drawn))
      inputs, labels = _images(own, inputs), _images(own, labels)
    if self.hint_mix:
      inputs = _with_hints(rng, self.hint_mix, inputs, labels, size, rows)
    return {**batch, "inputs": inputs, "labels": labels}


def make(
  split: Split, kind: str | None, *, augment: bool, hint_mix: float
) -> Rewriting | None:
  """What `data.augment` and `data.hint_mix` ask for; None: nothing.

  Args:
    split: what is trained on.
    kind: of its puzzles, one of `puzzle_kind.KINDS`; None: not known.
    augment: the value of the one key.
    hint_mix: that of the other, below 1.

  Raises:
    InputError: these puzzles have no such images, or no blanks.
  """
  if augment:
    _check_has_images(split, kind)
  if hint_mix and kind != puzzle_kind.SUDOKU:
    raise InputError(
      "config.data.hint_mix: expected 0 for puzzles that are no Sudoku, as "
      f"only a Sudoku has blanks to fill in, got {hint_mix} for {split.path}, "
      f"{_of_kind(kind)}."
    )
  if kind is None or not (augment or hint_mix):
    return None
  return Rewriting(kind, augment, hint_mix)


def _check_has_images(split: Split, kind: str | None) -> None:
  if kind not in symmetry.KINDS:
    raise InputError(
      "config.data.augment: expected False for puzzles that are neither Sudoku "
      "nor mazes, whose images are made when a data set is built, got True for "
      f"{split.path}, {_of_kind(kind)}."
    )
  if (rows := split.metadata.num_puzzle_identifiers) != 1:
    # What an identifier stands for, and whether images share it, is not known.
    raise InputError(
      "config.data.augment: expected False for a data set with more than one "
      f"puzzle identifier, got True for {split.path}, which has {rows:,}."
    )
  if kind != puzzle_kind.SUDOKU:
    return
  # Its boxes might have another shape than ours: then images were no Sudokus.
  for examples in split.sets:
    good = sudoku.obeys_rules(examples.labels[:_SAMPLE])
    if not good.all():
      rows, columns = sudoku.box_shape(sudoku.side_of(split.metadata.seq_len))
      raise InputError(
        f"{split.path / examples.name}__labels.npy: row {good.argmin()}: "
        "expected, for config.data.augment, an answer by the rules of Sudoku "
        f"with boxes of {rows}x{columns}, got another."
      )


def _of_kind(kind: str | None) -> str:
  return f"of the kind {kind}" if kind else "whose kind is not known"


def _images(symmetries: symmetry.Symmetries, boards: np.ndarray) -> np.ndarray:
  """Applies M symmetries to [M, G] int32 boards; what is ignored stays so."""
  ignored = boards == IGNORE_LABEL_ID
  known = np.where(ignored, 0, boards)
  images = symmetry.transform(symmetries, known).astype(np.int32)
  if ignored.any():  # In Sudokus and mazes none is; and that costs less.
    moved = np.take_along_axis(ignored, symmetries.cells, axis=1)
    images[moved] = IGNORE_LABEL_ID
  return images


def _with_hints(
  rng: np.random.Generator,
  share: float,
  inputs: np.ndarray,
  labels: np.ndarray,
  size: int,
  rows: slice,
) -> np.ndarray:
  """Fills in some blanks of some [M, G] puzzles; arguments as above."""
  chosen = (rng.random(size) < share)[rows]
  part = rng.random(size)[rows]
  order = rng.random((size, inputs.shape[1]))[rows]
  blank = (inputs == sudoku.BLANK_ID) & (labels > sudoku.BLANK_ID)
  blanks = blank.sum(1)
  hints = np.where(
    chosen & (blanks > 1), 1 + (part * (blanks - 1)).astype(np.int64), 0
  )
  # The blanks that come first in a random order. Two that drew the same number
  # would both be left, so one is left in any case.
  order[~blank] = 1
  first_left = np.take_along_axis(np.sort(order, 1), hints[:, None], axis=1)
  return np.where(order < first_left, labels, inputs)

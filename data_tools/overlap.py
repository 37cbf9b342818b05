"""Counts the test puzzles that stand in the training data too.

A model can have memorised those, so a score over them says less than it seems
to. A puzzle may stand there as it is, or as a symmetry image, into which
training with augmentation turns it.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_tools import maze_augment
from hrm_jax.console import log
from hrm_jax.data import puzzle_kind, sudoku, sudoku_canonical
from hrm_jax.data.mixing import mix

# Rows hashed at once: some MB, whatever their length.
_CELLS_AT_ONCE = 1 << 18

Keys = Callable[[np.ndarray], np.ndarray]  # [n, G] rows to [n] uint64


class Overlap(NamedTuple):
  """How many test puzzles stand in the training data."""

  equal: int  # as they are
  images: int | None  # others, as symmetry images; None: not looked for
  asked: int  # test puzzles

  def to_json(self) -> dict[str, int | None]:
    """Returns what a command's JSON and build.json say."""
    return {"equal": self.equal, "images": self.images}

  def warn(self, where: object) -> None:
    """Logs a warning, if any test puzzle stands in the training data."""
    found = self.equal + (self.images or 0)
    if found:
      images = "" if self.images is None else f", {self.images:,} as images"
      log.warning(
        f"warning: {where}: {found:,} of {self.asked:,} test puzzles stand in "
        f"the training data ({self.equal:,} as they are{images}); a model can "
        "have memorised them, so that a score says less than it seems to."
      )


def count(
  kind: str,
  train: np.ndarray,
  test: np.ndarray,
  identifiers: tuple[np.ndarray, np.ndarray] | None = None,
) -> Overlap:
  """Counts test questions that are training questions, or images of one.

  Rows are compared by hashes of 64 bits, so a few bytes a row are held in
  memory, and a chance match is as good as impossible. 9x9 Sudoku are compared
  by an invariant: puzzles that share it can differ, but rarely do.

  Args:
    kind: one of puzzle_kind.KINDS; only Sudoku and mazes have images.
    train: [N, G] token ids of the original questions, without augmentations.
    test: [M, G] token ids.
    identifiers: [N] and [M] puzzle identifiers, where the same question under
      another identifier is another puzzle.
  """
  hashes = [_over_pieces(row_hashes, rows) for rows in (train, test)]
  if identifiers is not None:
    hashes = [
      rows + mix(ids.astype(np.uint64))
      for rows, ids in zip(hashes, identifiers, strict=True)
    ]
  _, equal = _shared(*hashes)
  images = None
  if kind in (puzzle_kind.SUDOKU, puzzle_kind.MAZE):
    images = _count_images(kind, train, test, np.flatnonzero(~equal))
  return Overlap(int(equal.sum()), images, len(test))


def class_keys(kind: str, puzzles: np.ndarray) -> np.ndarray:
  """Returns [N] uint64 keys that every puzzle shares with its images.

  Made for splitting: to keep equal keys together keeps images together. Some
  puzzles that are no images may share a key.

  Args:
    kind: one of puzzle_kind.KINDS that has images.
    puzzles: [N, G] token ids.
  """
  quick, *slower = _stages(kind)[:2]
  keys = _over_pieces(quick, puzzles)
  for stage in slower:
    order, times = np.unique(keys, return_inverse=True, return_counts=True)[1:]
    again = np.flatnonzero(times[order] > 1)
    keys[again] = _over_pieces(stage, puzzles, again)
  return keys


def row_hashes(rows: np.ndarray) -> np.ndarray:
  """Returns a hash, [n] uint64, of each of [n, G] token ids of any dtype."""
  width = -(-rows.shape[1] // 4) * 4
  padded = np.zeros((len(rows), width), np.uint16)
  padded[:, : rows.shape[1]] = rows
  words = padded.view(np.uint64)
  # A number of its own for each place, or an exchange would change nothing.
  places = mix(np.arange(words.shape[1], dtype=np.uint64))
  return mix(words + places).sum(1, dtype=np.uint64)


def _count_images(
  kind: str, train: np.ndarray, test: np.ndarray, asked: np.ndarray
) -> int:
  """How many test puzzles, of those numbered `asked`, are training images."""
  known = None  # all
  # Each stage is slower than the one before it, and sees fewer puzzles.
  for stage in _stages(kind):
    keys = (
      _over_pieces(stage, train, known),
      _over_pieces(stage, test, asked),
    )
    is_known, is_asked = _shared(*keys)
    known = np.flatnonzero(is_known) if known is None else known[is_known]
    asked = asked[is_asked]
  return len(asked)


def _stages(kind: str) -> list[Keys]:
  """Keys that images share, from the quickest to the one that tells most."""
  if kind == puzzle_kind.MAZE:
    return [_maze_keys]
  return [
    sudoku_canonical.signatures,
    functools.partial(sudoku_canonical.signatures, of_cells=True),
    _sudoku_keys,
  ]


def _sudoku_keys(puzzles: np.ndarray) -> np.ndarray:
  side = sudoku.side_of(puzzles.shape[1])
  if side in sudoku_canonical.EXACT_SIDES:
    return row_hashes(sudoku_canonical.canonical_forms(puzzles))
  return sudoku_canonical.invariants(puzzles)


def _shared(
  train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Which [N] and which [M] keys stand among the others; [N] and [M] bool.

  As np.isin both ways, but without sorting the training keys, which are many.
  """
  distinct, of_test = np.unique(test, return_inverse=True)
  if not len(distinct):
    return np.zeros(len(train), bool), np.zeros(0, bool)
  place = np.searchsorted(distinct, train).clip(max=len(distinct) - 1)
  in_test = distinct[place] == train
  seen = np.zeros(len(distinct), bool)
  seen[place[in_test]] = True
  return in_test, seen[of_test]


def _maze_keys(mazes: np.ndarray) -> np.ndarray:
  images = maze_augment.images(mazes)
  hashes = row_hashes(images.reshape(-1, mazes.shape[1]))
  return hashes.reshape(images.shape[:2]).sum(1, dtype=np.uint64)


def _over_pieces(
  keys: Keys, rows: np.ndarray, chosen: np.ndarray | None = None
) -> np.ndarray:
  """Applies `keys` to some rows of an array that may lie on disk; [n]."""
  total = len(rows) if chosen is None else len(chosen)
  result = np.empty(total, np.uint64)
  step = max(1, _CELLS_AT_ONCE // rows.shape[1])
  for start in range(0, total, step):
    piece = slice(start, start + step)
    some = rows[piece] if chosen is None else rows[chosen[piece]]
    result[piece] = keys(np.asarray(some).astype(np.uint8, copy=False))
  return result

"""Rewrites Sudoku boards by symmetries of the game, many at a time.

A symmetry permutes the digits, the bands, the rows in a band, the stacks and
the columns in a stack, and transposes where boxes are square. Source: HRM
dataset/build_sudoku_dataset.py, `shuffle_sudoku`; here it is vectorised,
seeded, and not bound to 9x9.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hrm_jax import console
from hrm_jax.data import sudoku, writer


class Symmetries(NamedTuple):
  """M symmetries; a new board is `digits[old_board[cells]]`."""

  cells: np.ndarray  # [M, G] int64, the old cell that comes to each new one
  digits: np.ndarray  # [M, V] uint8, the new token id of each old one


def draw_symmetries(
  rng: np.random.Generator, count: int, side: int
) -> Symmetries:
  """Draws `count` symmetries uniformly and independently."""
  rows, columns = sudoku.box_shape(side)
  transposed = np.zeros((count, 1), bool)
  if rows == columns:
    transposed = rng.random((count, 1)) < 0.5
  row = _permute_lines(rng, count, side, rows)
  column = _permute_lines(rng, count, side, columns)
  row *= np.where(transposed, 1, side)
  column *= np.where(transposed, side, 1)
  cells = (row[:, :, None] + column[:, None, :]).reshape(count, side * side)
  digits = np.empty((count, sudoku.vocab_size(side)), np.uint8)
  first = sudoku.BLANK_ID + 1
  digits[:, :first] = np.arange(first)
  digits[:, first:] = first + _permutations(rng, (count, side))
  return Symmetries(cells, digits)


def transform(symmetries: Symmetries, boards: np.ndarray) -> np.ndarray:
  """Applies the m-th symmetry to the m-th board.

  Args:
    symmetries: M of them.
    boards: [M, G] uint8 token ids, or [1, G] to transform one board M times.

  Returns:
    [M, G] uint8.
  """
  cells, digits = symmetries
  # Flat takes are several times faster than indexing with two arrays.
  board_start = np.arange(len(boards))[:, None] * boards.shape[1]
  moved = boards.ravel().take(cells + board_start).astype(np.int64)
  moved += np.arange(len(digits))[:, None] * digits.shape[1]
  return digits.ravel().take(moved)


def augmented(
  rng: np.random.Generator,
  questions: np.ndarray,
  answers: np.ndarray,
  num_aug: int,
  *,
  boards_at_once: int = 16384,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields every puzzle followed by `num_aug` symmetry images of it.

  Args:
    rng: draws the symmetries; the same one moves question and answer.
    questions: [N, G] uint8 token ids.
    answers: [N, G] uint8 token ids.
    num_aug: images of each puzzle beside the original.
    boards_at_once: about how many boards a piece holds; bounds the memory.

  Yields:
    ([M, G], [M, G]) uint8, N * (1 + num_aug) boards in all.
  """
  side = sudoku.side_of(questions.shape[1])
  group = 1 + num_aug
  total = len(questions) * group
  for start in range(0, total, boards_at_once):
    board = np.arange(start, min(start + boards_at_once, total))
    question, answer = questions[board // group], answers[board // group]
    image = np.flatnonzero(board % group)
    symmetries = draw_symmetries(rng, len(image), side)
    for boards in (question, answer):
      boards[image] = transform(symmetries, boards[image])
    yield question, answer


def write_split(
  dataset: writer.DatasetWriter,
  split: str,
  questions: np.ndarray,
  answers: np.ndarray,
  *,
  num_aug: int,
  rng: np.random.Generator,
  identifiers: np.ndarray | None = None,
) -> None:
  """Writes N puzzles and their images, one group for each.

  Args:
    dataset: where to; the only writing to this split.
    split: its name.
    questions: [N, G] uint8 token ids.
    answers: [N, G] uint8 token ids.
    num_aug: images of each puzzle beside the original.
    rng: draws the symmetries.
    identifiers: [N], shared by a puzzle with its images; None: all blank.
  """
  group = 1 + num_aug
  total = len(questions) * group
  if identifiers is None:
    identifiers = np.full(len(questions), writer.BLANK_IDENTIFIER_ID)
  with console.Progress(f"writing {split}", total, unit="puzzles") as bar:
    for inputs, labels in augmented(rng, questions, answers, num_aug):
      dataset.add_examples(split, inputs, labels)
      bar.advance(len(inputs))
  dataset.add_puzzles(
    split,
    identifiers=identifiers.repeat(group),
    examples_per_puzzle=np.ones(total),
    puzzles_per_group=np.full(len(questions), group),
  )


def _permutations(rng: np.random.Generator, shape: tuple) -> np.ndarray:
  """Random permutations of 0..shape[-1]-1 along the last axis."""
  # Stable: other sorts order equal keys by what the processor can do.
  return rng.random(shape, np.float32).argsort(axis=-1, kind="stable")


def _permute_lines(
  rng: np.random.Generator, count: int, side: int, thickness: int
) -> np.ndarray:
  """[count, side]: permutes bands of `thickness` lines, and lines in bands."""
  bands = _permutations(rng, (count, side // thickness))
  lines = _permutations(rng, (count, side // thickness, thickness))
  return (bands[:, :, None] * thickness + lines).reshape(count, side)

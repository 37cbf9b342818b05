"""Symmetries of boards: images of a puzzle that are puzzles of its kind.

Sudoku: a symmetry permutes the digits, the bands, the rows in a band, the
stacks and the columns in a stack, and transposes where boxes are square.
Source: HRM dataset/build_sudoku_dataset.py, `shuffle_sudoku`; here it is
vectorised, seeded, and not bound to 9x9.

Mazes: the 8 turns and mirror images of the square, in the order of
`arc.dihedral`.
"""

from typing import NamedTuple

import numpy as np

from hrm_jax.data import arc, maze, puzzle_kind, sudoku

# A square has so many turns and mirror images, itself included.
DIHEDRAL = 8

# The kinds of puzzles whose symmetries `draw` knows.
KINDS = (puzzle_kind.SUDOKU, puzzle_kind.MAZE)


class Symmetries(NamedTuple):
  """M symmetries; a new board is `tokens[old_board[cells]]`."""

  cells: np.ndarray  # [M, G] int64, the old cell that comes to each new one
  tokens: np.ndarray  # [M, V] integers, the new token id of each old one


def draw(
  rng: np.random.Generator, kind: str, count: int, seq_len: int
) -> Symmetries:
  """Draws `count` symmetries of a kind uniformly and independently.

  Args:
    rng: draws them.
    kind: one of KINDS.
    count: M.
    seq_len: G.
  """
  if kind == puzzle_kind.SUDOKU:
    return draw_sudoku(rng, count, sudoku.side_of(seq_len))
  assert kind == puzzle_kind.MAZE, kind
  which = rng.integers(DIHEDRAL, size=count)
  return Symmetries(*(part[which] for part in of_mazes(seq_len)))


def draw_sudoku(rng: np.random.Generator, count: int, side: int) -> Symmetries:
  """Draws `count` symmetries of Sudoku uniformly and independently."""
  rows, columns = sudoku.box_shape(side)
  transposed = np.zeros((count, 1), bool)
  if rows == columns:
    transposed = rng.random((count, 1)) < 0.5
  row = _permute_lines(rng, count, side, rows)
  column = _permute_lines(rng, count, side, columns)
  row *= np.where(transposed, 1, side)
  column *= np.where(transposed, side, 1)
  cells = (row[:, :, None] + column[:, None, :]).reshape(count, side * side)
  tokens = np.empty((count, sudoku.vocab_size(side)), np.uint8)
  first = sudoku.BLANK_ID + 1
  tokens[:, :first] = np.arange(first)
  tokens[:, first:] = first + _permutations(rng, (count, side))
  return Symmetries(cells, tokens)


def of_mazes(seq_len: int) -> Symmetries:
  """All symmetries of mazes of this size, the identity first."""
  side = maze.side_of(seq_len)
  board = np.arange(seq_len).reshape(side, side)
  cells = [arc.dihedral(board, turn).ravel() for turn in range(DIHEDRAL)]
  tokens = np.tile(np.arange(maze.VOCAB_SIZE), (DIHEDRAL, 1))
  return Symmetries(np.stack(cells), tokens)


def transform(symmetries: Symmetries, boards: np.ndarray) -> np.ndarray:
  """Applies the m-th symmetry to the m-th board.

  Args:
    symmetries: M of them.
    boards: [M, G] token ids, or [1, G] to transform one board M times.

  Returns:
    [M, G], of the dtype of `symmetries.tokens`.
  """
  cells, tokens = symmetries
  # Flat takes are several times faster than indexing with two arrays.
  board_start = np.arange(len(boards))[:, None] * boards.shape[1]
  moved = boards.ravel().take(cells + board_start).astype(np.int64)
  moved += np.arange(len(tokens))[:, None] * tokens.shape[1]
  return tokens.ravel().take(moved)


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

"""Tells whether Sudoku puzzles are symmetry images of each other.

`class_keys` gives every puzzle a key that its images share. For sides 4 and 6
it is exact: puzzles with equal keys are images. For larger sides, where a
puzzle has millions of images, it is an invariant: puzzles with different keys
are certainly no images, and a few others may share a key by chance. Rejecting
equal keys is therefore safe at every size.
"""

import functools
import itertools

import numpy as np

from hrm_jax.data import sudoku
from hrm_jax.data.mixing import mix

# 128 and 3,456 permutations of the cells; side 9 would have 3,359,232.
EXACT_SIDES = (4, 6)
_ROUNDS = 5


def class_keys(puzzles: np.ndarray) -> list[bytes]:
  """Returns a key of the symmetry class of each puzzle.

  Args:
    puzzles: [N, G] uint8 token ids.

  Returns:
    N keys, equal for symmetry images.
  """
  side = sudoku.side_of(puzzles.shape[1])
  if side in EXACT_SIDES:
    return [form.tobytes() for form in canonical_forms(puzzles)]
  return [key.tobytes() for key in invariants(puzzles)]


def signatures(puzzles: np.ndarray, *, of_cells: bool = False) -> np.ndarray:
  """Returns a quick hash of each puzzle that no symmetry changes.

  It takes in how many clues the rows, columns and boxes hold and how often
  each digit stands there. That tells most puzzles apart, in a small part of
  the time that `invariants` takes to tell nearly all.

  Args:
    puzzles: [N, G] uint8 token ids.
    of_cells: also take in which of these numbers meet at the clues; that
      takes three times as long, and leaves few puzzles that look alike.

  Returns:
    [N] uint64.
  """
  side = sudoku.side_of(puzzles.shape[1])
  rows, columns = sudoku.box_shape(side)
  bands, stacks = side // rows, side // columns
  # Cells come first, so that numpy's inner loops run over the N puzzles.
  cells = np.ascontiguousarray(puzzles.T)
  clues = (cells > sudoku.BLANK_ID).view(np.uint8).reshape(side, side, -1)
  in_row, in_column = (clues.sum(axis, dtype=np.uint8) for axis in (1, 0))
  in_box = clues.reshape(bands, rows, stacks, columns, -1)
  in_box = in_box.sum((1, 3), dtype=np.uint8)
  # [V, N]; PAD and blank are not counted.
  of_digit = np.zeros((sudoku.vocab_size(side), len(puzzles)), np.uint8)
  for token in range(sudoku.BLANK_ID + 1, len(of_digit)):
    (cells == token).sum(0, dtype=np.uint8, out=of_digit[token])
  number = mix(np.arange(side + 1, dtype=np.uint64))
  # A row counts within its band, a band among its like. Rows and columns are
  # treated alike: a transposition may be a symmetry.
  band = mix(number[in_row].reshape(bands, rows, -1).sum(1))
  stack = mix(number[in_column].reshape(stacks, columns, -1).sum(1))
  key = mix(band.sum(0)) + mix(stack.sum(0))
  key += mix(number[in_box].sum((0, 1)), 2) + mix(number[of_digit].sum(0), 3)
  if not of_cells:
    return key
  line = (number[in_row] + mix(band, 2).repeat(rows, axis=0))[:, None]
  line = line + number[in_column] + mix(stack, 2).repeat(columns, axis=0)
  cell = mix(line)
  cell += mix(number[in_box], 3).repeat(rows, axis=0).repeat(columns, axis=1)
  cell = cell.reshape(cells.shape)
  cell += mix(number, 4)[np.take_along_axis(of_digit, cells, axis=0)]
  return mix(key) + (mix(cell) * clues.reshape(cells.shape)).sum(0)


def canonical_forms(puzzles: np.ndarray) -> np.ndarray:
  """Returns the least image of each puzzle, digits named as they appear.

  Args:
    puzzles: [N, G] uint8 token ids, of side 4 or 6.

  Returns:
    [N, G] uint8: 0 for a blank, 1 for the first digit met, 2 for the next;
    the same for two puzzles if and only if one is an image of the other.
  """
  side = sudoku.side_of(puzzles.shape[1])
  images = position_symmetries(side)
  clues = np.maximum(puzzles, sudoku.BLANK_ID) - sudoku.BLANK_ID
  forms = np.empty(puzzles.shape, np.uint8)
  at_once = max(1, (1 << 18) // len(images))
  for start in range(0, len(puzzles), at_once):
    some = clues[start : start + at_once]
    # [G, n * K]: the cells come first, numpy's inner loops run over images.
    moved = some[:, images].transpose(2, 0, 1).reshape(puzzles.shape[1], -1)
    named = _name_by_appearance(moved, side).reshape(len(moved), len(some), -1)
    best = np.ones(named.shape[1:], bool)
    for cell, values in enumerate(named):
      values = np.where(best, values, np.uint8(255))
      least = values.min(axis=1, keepdims=True)
      best &= values == least
      forms[start : start + at_once, cell] = least[:, 0]
  return forms


def invariants(puzzles: np.ndarray) -> np.ndarray:
  """Returns a hash of each puzzle that no symmetry changes; [N] uint64.

  Each cell starts as clue or blank, then repeatedly takes in what its row,
  column, box, bands and the cells of its digit have in common. Sums make the
  order of lines, and mixing makes who meets whom, matter.

  Args:
    puzzles: [N, G] uint8 token ids.
  """
  side = sudoku.side_of(puzzles.shape[1])
  rows, columns = sudoku.box_shape(side)
  clues = np.maximum(puzzles, sudoku.BLANK_ID) - sudoku.BLANK_ID
  grid = clues.reshape(-1, side, side)
  digits = grid[..., None] == np.arange(1, side + 1)
  color = (grid > 0).astype(np.uint64)
  for _ in range(_ROUNDS):
    color = mix(color, 1)
    row = color.sum(2)
    column = color.sum(1)
    band = _sum_in_bands(mix(row, 2), rows)
    stack = _sum_in_bands(mix(column, 2), columns)
    box = _sum_in_bands(_sum_in_bands(color, rows), columns, axis=2)
    digit = np.where(digits, color[..., None], np.uint64(0)).sum((1, 2))
    of_digit = np.where(digits, mix(digit, 3)[:, None, None], np.uint64(0))
    # Rows and columns alike: a transposition may be a symmetry.
    lines = mix(row + mix(band, 3), 1)[:, :, None]
    lines = lines + mix(column + mix(stack, 3), 1)[:, None, :]
    color = mix(color, 4) + lines + mix(box, 5) + of_digit.sum(3)
  return mix(color, 1).sum((1, 2))


@functools.cache
def position_symmetries(side: int) -> np.ndarray:
  """Returns [K, G] int64, every permutation of cells that keeps the rules.

  Row k holds the old cell that comes to each new cell.
  """
  rows, columns = sudoku.box_shape(side)
  cells = np.arange(side * side).reshape(side, side)
  row_orders = _line_orders(side, rows)
  column_orders = _line_orders(side, columns)
  images = cells[row_orders[:, None, :, None], column_orders[:, None, :]]
  images = images.reshape(-1, side, side)
  if rows == columns:
    images = np.concatenate([images, images.transpose(0, 2, 1)])
  return images.reshape(len(images), -1)


def _line_orders(side: int, thickness: int) -> np.ndarray:
  """All orders of `side` lines that keep bands of `thickness` together."""
  bands = np.arange(side).reshape(-1, thickness).tolist()
  within = [list(itertools.permutations(band)) for band in bands]
  return np.array(
    [
      np.concatenate(choice)
      for order in itertools.permutations(within)
      for choice in itertools.product(*order)
    ]
  )


def _name_by_appearance(boards: np.ndarray, side: int) -> np.ndarray:
  """Renames the digits of [G, M] boards in the order they appear in."""
  names = np.zeros((side + 1) * boards.shape[1], np.uint8)
  next_name = np.ones(boards.shape[1], np.uint8)
  board = np.arange(boards.shape[1])
  named = np.empty_like(boards)
  for cell, values in enumerate(boards):
    slot = values.astype(np.int64) * len(board) + board
    name = names.take(slot)
    new = (values > 0) & (name == 0)
    name += new * next_name
    next_name += new
    names[slot] = name
    named[cell] = name
  return named


def _sum_in_bands(
  values: np.ndarray, thickness: int, axis: int = 1
) -> np.ndarray:
  """Replaces each line by the sum of its band of lines."""
  starts = range(0, values.shape[axis], thickness)
  sums = np.add.reduceat(values, starts, axis=axis)
  return sums.repeat(thickness, axis=axis)

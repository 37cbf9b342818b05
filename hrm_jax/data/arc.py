"""What an ARC puzzle is: grids and token ids, augmentations and their names.

The builder writes these, and the scorer reads them back. A grid is [h, w]
colours 0..9, h and w at most 30. On the 30x30 board PAD is 0, EOS 1, colour c
is c + 2. An EOS row stands just below the grid and an EOS column just right of
it, where the board has room; the corner between them stays PAD.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIDE = 30
CELLS = SIDE * SIDE
COLORS = 10
PAD_ID = 0
EOS_ID = 1
FIRST_COLOR_ID = 2
VOCAB_SIZE = FIRST_COLOR_ID + COLORS

# The transform that undoes each of the 8.
INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)

# HRM's builder and ours write `_t3_0123456789` behind a task's name, TRM's
# (dataset/build_arc_dataset.py) writes `|||t3|||0123456789`.
_SUFFIX = re.compile(
  r"(?P<name>.*)(?P<mark>_|\|\|\|)t(?P<transform>[0-7])(?P=mark)"
  r"(?P<permutation>0[1-9]{9})",
  re.DOTALL,
)


class Augmentation(NamedTuple):
  """What an identifier says: which task, and what was done to it."""

  name: str  # of the task
  transform: int  # 0..7, see `dihedral`; done after the colours
  permutation: tuple[int, ...]  # [10], the new colour of each old one


def dihedral(grids: np.ndarray, transform: int) -> np.ndarray:
  """Turns or mirrors [..., h, w] grids; returns a view.

  0 does nothing, 1 to 3 are quarter turns counter-clockwise, 4 exchanges left
  and right, 5 up and down, 6 rows and columns, 7 is 4 after 1.
  """
  if transform < 4:
    return np.rot90(grids, transform, axes=(-2, -1))
  if transform == 4:
    return grids[..., ::-1]
  if transform == 5:
    return grids[..., ::-1, :]
  if transform == 6:
    return grids.swapaxes(-2, -1)
  return np.rot90(grids, axes=(-2, -1))[..., ::-1]


def augment(grid: np.ndarray, augmentation: Augmentation) -> np.ndarray:
  """Recolours a [h, w] grid, then turns it."""
  colors = np.asarray(augmentation.permutation, np.uint8)
  return dihedral(colors[grid], augmentation.transform)


def undo(grid: np.ndarray, augmentation: Augmentation) -> np.ndarray:
  """Takes an augmented [h, w] grid back to the task's own."""
  colors = np.argsort(augmentation.permutation).astype(np.uint8)
  return colors[dihedral(grid, INVERSE[augmentation.transform])]


def identifier(name: str, transform: int, permutation: Sequence[int]) -> str:
  """Names a variant of a task: `<name>_t<k>_<permutation>`."""
  return f"{name}_t{transform}_{''.join(map(str, permutation))}"


def parse_identifier(text: str) -> Augmentation:
  """Reads a puzzle identifier; one without the suffix is the task itself.

  Both forms are read, that of `identifier` and TRM's,
  `<name>|||t<k>|||<permutation>`. Only the last suffix counts, so a task's
  name may hold `_t` and more.
  """
  match = _SUFFIX.fullmatch(text)
  if match is None or len(set(match["permutation"])) < COLORS:
    return Augmentation(text, 0, tuple(range(COLORS)))
  permutation = tuple(map(int, match["permutation"]))
  return Augmentation(match["name"], int(match["transform"]), permutation)


def to_tokens(grid: np.ndarray, row: int = 0, column: int = 0) -> np.ndarray:
  """Writes a grid on the board with its first cell at (row, column).

  Args:
    grid: [h, w] colours; row + h and column + w are at most 30.
    row: of the first cell.
    column: of the first cell.

  Returns:
    [900] uint8 token ids.
  """
  bottom, right = row + grid.shape[0], column + grid.shape[1]
  assert max(bottom, right) <= SIDE, (grid.shape, row, column)
  # One line more than the board: an EOS line beyond it is cut off.
  board = np.full((SIDE + 1, SIDE + 1), PAD_ID, np.uint8)
  board[row:bottom, column:right] = grid + FIRST_COLOR_ID
  board[bottom, column:right] = EOS_ID
  board[row:bottom, right] = EOS_ID
  return board[:SIDE, :SIDE].reshape(CELLS)


def crop_shapes(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds the grid in each board: the largest rectangle of colours at (0, 0).

  Args:
    tokens: [N, 900] integers of any value.

  Returns:
    Heights and widths, [N] int64 each; of several largest rectangles the one
    with the fewest rows; 0 and 0 where the first cell holds no colour.
  """
  boards = tokens.reshape(-1, SIDE, SIDE)
  other = (boards < FIRST_COLOR_ID) | (boards >= VOCAB_SIZE)
  # The first cell of each row that holds no colour, else the whole width.
  width = np.where(other.any(2), other.argmax(2), SIDE)
  width = np.minimum.accumulate(width, axis=1)
  area = width * np.arange(1, SIDE + 1)
  best = area.argmax(1)
  rows = np.arange(len(boards))
  return np.where(area[rows, best], best + 1, 0), width[rows, best]


def from_tokens(tokens: np.ndarray) -> np.ndarray:
  """Reads the grid at a [900] board's corner: [h, w] uint8, maybe empty."""
  height, width = (int(n[0]) for n in crop_shapes(tokens[None]))
  board = tokens.reshape(SIDE, SIDE)[:height, :width]
  return (board - FIRST_COLOR_ID).astype(np.uint8)


def are_framed(tokens: np.ndarray) -> np.ndarray:
  """Tells which rows are one rectangle of colours with EOS below and right.

  Args:
    tokens: [N, 900] token ids, below VOCAB_SIZE.

  Returns:
    [N] bool.
  """
  grids = tokens.reshape(-1, SIDE, SIDE)
  coloured = grids > EOS_ID
  rows, columns = (np.logical_or.reduce(coloured, axis) for axis in (2, 1))
  below, beside = _just_after(rows), _just_after(columns)
  inside = rows[:, :, None] & columns[:, None, :]
  frame = below[:, :, None] & columns[:, None, :]
  frame |= rows[:, :, None] & beside[:, None, :]
  good = (coloured == inside) & ((grids == EOS_ID) == frame)
  return good.all((1, 2)) & _is_one_run(rows) & _is_one_run(columns)


def _just_after(lines: np.ndarray) -> np.ndarray:
  after = np.zeros_like(lines)
  after[:, 1:] = lines[:, :-1] & ~lines[:, 1:]
  return after


def _is_one_run(lines: np.ndarray) -> np.ndarray:
  starts = (lines[:, 1:] & ~lines[:, :-1]).sum(1) + lines[:, 0]
  return starts == 1

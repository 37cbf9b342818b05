"""What a Sudoku is: text to token ids and back, its rules, its solutions.

A grid of side n is n * n token ids, row by row: PAD 0, blank 1, digit d at
d + 1; the vocabulary has n + 2 ids. A box has R rows and n / R columns, R the
largest divisor of n with R * R <= n: 2x2 for 4, 2x3 for 6, 3x3 for 9.
"""

import functools
import math

import numpy as np

from hrm_jax.console import InputError

PAD_ID = 0
BLANK_ID = 1
# One character a digit, and boxes that are more than a row.
SIDES = (4, 6, 8, 9)

# States that the solver carries at once: enough to hide numpy's overhead of
# a call, few enough to stay in the cache.
_STATES = 4096
_FEW_STATES = 512


def box_shape(side: int) -> tuple[int, int]:
  """Returns (rows, columns) of a box, such as (2, 3) for side 6."""
  rows = max(r for r in range(1, side + 1) if side % r == 0 and r * r <= side)
  return rows, side // rows


def vocab_size(side: int) -> int:
  """Token ids of a Sudoku of this side: PAD, blank and the digits."""
  return side + 2


def side_of(cells: int, name: str = "puzzle") -> int:
  """Returns the side of a grid of so many cells.

  Raises:
    InputError: no Sudoku has this number of cells.
  """
  side = math.isqrt(cells)
  if side * side != cells or side not in SIDES:
    known = ", ".join(str(s * s) for s in SIDES[:-1])
    raise InputError(
      f"{name}: expected {known} or {SIDES[-1] ** 2} cells, got {cells}."
    )
  return side


def parse(
  text: str, *, side: int | None = None, name: str = "puzzle"
) -> np.ndarray:
  """Reads a puzzle such as `..3.2.6..9...`: a blank is `.` or `0`.

  White space may stand around the cells, and between pieces of equal length:
  rows on lines of their own, or single cells with spaces between them.

  Args:
    text: the cells, row by row.
    side: the side to expect; None takes it from the number of cells.
    name: what to call the puzzle in an error.

  Returns:
    [side * side] uint8 token ids.

  Raises:
    InputError: a wrong number of cells or an illegal character.
  """
  pieces = text.split()
  cells = "".join(pieces)
  if side is None:
    side = side_of(len(cells), name)
  for i, cell in enumerate(cells):
    if cell not in ".0" and cell not in "123456789"[:side]:
      raise InputError(
        f"{name}: cell {i + 1}: expected 1-{side}, '.' or '0', got {cell!r}."
      )
  if len(cells) != side * side:
    raise InputError(
      f"{name}: expected {side * side} cells, got {len(cells)}."
    )
  if len({len(piece) for piece in pieces}) != 1:
    raise InputError(
      f"{name}: expected white space only between rows or between pieces of "
      f"equal length, got pieces of {', '.join(str(len(p)) for p in pieces)} "
      "cells."
    )
  digits = np.frombuffer(cells.replace(".", "0").encode(), np.uint8)
  return digits - np.uint8(ord("0") - BLANK_ID)


def to_text(grid: np.ndarray) -> str:
  """Writes [G] token ids as `parse` reads them; PAD becomes `?`."""
  return "".join("?.123456789"[int(token)] for token in np.asarray(grid))


def format_grid(grid: np.ndarray) -> str:
  """Draws [G] token ids as rows of text with lines between the boxes."""
  text = to_text(grid)
  side = side_of(len(text))
  rows, columns = box_shape(side)
  lines = []
  for i in range(side):
    if i and i % rows == 0:
      rule = "-" * (2 * columns + 1)
      # The outermost pieces have no space at the border.
      lines.append("+".join([rule] * rows)[1:-1])
    line = text[i * side : (i + 1) * side]
    boxes = (line[j : j + columns] for j in range(0, side, columns))
    lines.append(" | ".join(" ".join(box) for box in boxes))
  return "\n".join(lines)


@functools.cache
def units(side: int) -> np.ndarray:
  """Returns [3 * side, side] cell numbers: rows, then columns, then boxes."""
  cells = np.arange(side * side).reshape(side, side)
  rows, columns = box_shape(side)
  boxes = cells.reshape(side // rows, rows, side // columns, columns)
  boxes = boxes.transpose(0, 2, 1, 3).reshape(side, side)
  return np.concatenate([cells, cells.T, boxes])


def contradiction(puzzle: np.ndarray) -> str | None:
  """Says which two clues of a [G] puzzle exclude each other, or None."""
  side = side_of(len(puzzle))
  for index, unit in enumerate(units(side)):
    first = {}
    for cell in unit:
      digit = int(puzzle[cell]) - BLANK_ID
      if digit < 1:
        continue
      if digit in first:
        kind = ("row", "column", "box")[index // side]
        a, b = (
          f"row {c // side + 1}, column {c % side + 1}"
          for c in (first[digit], cell)
        )
        return f"{a} and {b} both hold {digit} in {kind} {index % side + 1}"
      first[digit] = cell
  return None


def check_clues(puzzle: np.ndarray, name: str = "puzzle") -> None:
  """Refuses a [G] puzzle whose clues contradict each other.

  Raises:
    InputError: names the two cells, their digit and the row, column or box.
  """
  found = contradiction(puzzle)
  if found is not None:
    raise InputError(f"{name}: the clues contradict each other: {found}.")


def keeps_clues(puzzles: np.ndarray, answers: np.ndarray) -> np.ndarray:
  """Tells which [..., G] answers hold every clue of their puzzle; [...]."""
  return ((puzzles <= BLANK_ID) | (puzzles == answers)).all(-1)


def obeys_rules(grids: np.ndarray) -> np.ndarray:
  """Tells which grids are full and hold every digit once in every unit.

  Args:
    grids: [..., G] integer token ids, of any value.

  Returns:
    [...] bool.
  """
  grids = np.asarray(grids)
  side = side_of(grids.shape[-1])
  bits = _to_bits(grids.reshape(-1, side * side), side, blank=0)
  full = (1 << side) - 1
  good = np.ones(bits.shape[1], bool)
  for members in _families(bits):
    # n cells with at most one digit each hold all n digits only if none twice.
    seen = functools.reduce(np.bitwise_or, members)
    good &= (seen == full).reshape(side, -1).all(0)
  return good.reshape(grids.shape[:-1])


def count_solutions(puzzles: np.ndarray, limit: int = 2) -> np.ndarray:
  """Counts the solutions of [N, G] puzzles up to `limit`; [N] int64."""
  return solve(puzzles, limit=limit)[1]


def solve(
  puzzles: np.ndarray,
  *,
  limit: int = 2,
  rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Solves many puzzles at once and counts their solutions.

  Backtracking over candidate bit masks, the most constrained cell first,
  thousands of search states at a time.

  Args:
    puzzles: [N, G] token ids; nothing above BLANK_ID is a clue.
    limit: a puzzle is left alone once it has so many solutions.
    rng: chooses cells and digits to try; None tries the first.

  Returns:
    [N, G] uint8, a solution of each puzzle (PAD_ID where there is none), and
    [N] int64, the number of solutions found, at most `limit`.
  """
  puzzles = np.asarray(puzzles)
  side = side_of(puzzles.shape[1])
  solutions = np.full(puzzles.shape, PAD_ID, np.uint8)
  counts = np.zeros(len(puzzles), np.int64)
  everything = np.arange(len(puzzles))
  stack = []
  for start in range(0, len(puzzles), _STATES):
    owner = everything[start : start + _STATES]
    stack.append((_to_bits(puzzles[owner], side, blank=(1 << side) - 1), owner))
  while stack:
    cells, owner = stack.pop()
    while stack and len(owner) + len(stack[-1][1]) <= _FEW_STATES:
      more_cells, more_owner = stack.pop()
      cells = np.concatenate([cells, more_cells], axis=1)
      owner = np.concatenate([owner, more_owner])
    open_ = counts[owner] < limit
    cells, owner = cells[:, open_], owner[open_]
    alive, changed = _deduce(cells, side)
    moving = alive & changed
    still = np.flatnonzero(alive & ~changed)
    sizes = np.bitwise_count(cells[:, still])
    done = (sizes == 1).all(0)
    solved = still[done]
    solutions[owner[solved]] = (np.bitwise_count(cells[:, solved] - 1) + 2).T
    counts += np.bincount(owner[solved], minlength=len(counts))
    yes, no, stuck = _branch(cells, still[~done], sizes[:, ~done], rng)
    if len(stuck):
      stack.append((no, owner[stuck]))
    if len(stuck) or moving.any():
      cells = np.concatenate([cells[:, moving], yes], axis=1)
      stack.append((cells, np.concatenate([owner[moving], owner[stuck]])))
  return solutions, np.minimum(counts, limit)


def _to_bits(grids: np.ndarray, side: int, *, blank: int) -> np.ndarray:
  """[N, G] ids to [G, N] uint16: bit d - 1 for digit d, else `blank`.

  Cells come first, so that numpy's inner loops run over the N grids.
  """
  digits = grids.T.astype(np.int64) - BLANK_ID
  table = np.array([blank, *(1 << np.arange(side)), blank], np.uint16)
  return table[np.where((digits < 0) | (digits > side), 0, digits)]


def _families(cells: np.ndarray) -> list[list[np.ndarray]]:
  """Views of [G, M] cells: for rows, columns and boxes, the k-th cell of all.

  Each family is a list of n views whose leading axes are the n units.
  """
  side = math.isqrt(len(cells))
  rows, columns = box_shape(side)
  grid = cells.reshape(side, side, -1)
  boxes = cells.reshape(side // rows, rows, side // columns, columns, -1)
  return [
    [grid[:, k] for k in range(side)],
    [grid[k] for k in range(side)],
    [boxes[:, i, :, j] for i in range(rows) for j in range(columns)],
  ]


def _deduce(cells: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
  """One round of naked and hidden singles on [G, M] candidates, in place.

  Returns:
    [M] bool, no contradiction was met; [M] bool, some candidate went away.
  """
  before = cells.copy()
  full = (1 << side) - 1
  dead = np.zeros(cells.shape[1], bool)
  for members in _families(cells):
    seen, twice, fixed, clash = (np.zeros_like(members[0]) for _ in range(4))
    for cell in members:
      single = np.where(cell & (cell - 1), 0, cell)
      clash |= fixed & single
      fixed |= single
      twice |= seen & cell
      seen |= cell
    wrong = (clash != 0) | (seen != full)
    dead |= wrong.reshape(side, -1).any(0)
    once = seen & ~twice
    for cell in members:
      hidden = cell & once
      open_ = np.where(cell & (cell - 1), cell & ~fixed, cell)
      cell[...] = np.where(hidden, hidden, open_)
  dead |= (cells == 0).any(0)
  return ~dead, (cells != before).any(0)


def _branch(
  cells: np.ndarray,
  states: np.ndarray,
  sizes: np.ndarray,
  rng: np.random.Generator | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Splits [S] states on a digit of a cell: it holds it, or it does not."""
  order = np.where(sizes == 1, np.uint8(255), sizes)
  if rng is not None:
    order = order + rng.random(order.shape, np.float32)
  cell = order.argmin(0)
  yes = cells[:, states]
  no = yes.copy()
  column = np.arange(len(states))
  value = yes[cell, column]
  choice = value
  if rng is not None:
    some = value & rng.integers(1 << 9, size=len(states), dtype=np.uint16)
    choice = np.where(some, some, value)
  digit = choice & (~choice + 1)  # the lowest bit
  yes[cell, column] = digit
  no[cell, column] = value ^ digit
  return yes, no, states

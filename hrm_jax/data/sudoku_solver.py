"""Solves and counts: thousands of Sudoku search states in one numpy call."""

import math

import numpy as np

from hrm_jax.data import sudoku

# States carried at once: enough to hide numpy's overhead of a call, few
# enough to stay in the cache.
_STATES = 4096


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
    puzzles: [N, G] token ids; those above sudoku.BLANK_ID are the clues.
    limit: a puzzle is left alone once it has so many solutions.
    rng: chooses cells and digits to try; None tries the first.

  Returns:
    [N, G] uint8, a solution of each puzzle (PAD_ID where there is none), and
    [N] int64, the number of solutions found, at most `limit`.
  """
  puzzles = np.asarray(puzzles)
  side = sudoku.side_of(puzzles.shape[1])
  solutions = np.full(puzzles.shape, sudoku.PAD_ID, np.uint8)
  counts = np.zeros(len(puzzles), np.int64)
  everything = np.arange(len(puzzles))
  stack = []
  for start in range(0, len(puzzles), _STATES):
    owner = everything[start : start + _STATES]
    stack.append((_to_bits(puzzles[owner], side, blank=(1 << side) - 1), owner))
  while stack:
    cells, owner = stack.pop()
    while stack and len(owner) + len(stack[-1][1]) <= _STATES:
      more_cells, more_owner = stack.pop()
      cells = np.concatenate([cells, more_cells], axis=1)
      owner = np.concatenate([owner, more_owner])
    open_ = counts[owner] < limit
    # Unlike cells[:, open_], compress and take keep the cells first in memory.
    cells, owner = cells.compress(open_, axis=1), owner[open_]
    alive, changed = _deduce(cells, side)
    moving = alive & changed
    still = np.flatnonzero(alive & ~changed)
    sizes = np.bitwise_count(cells.take(still, axis=1))
    done = (sizes == 1).all(0)
    solved = still[done]
    solutions[owner[solved]] = (np.bitwise_count(cells[:, solved] - 1) + 2).T
    counts += np.bincount(owner[solved], minlength=len(counts))
    stuck = still[~done]
    yes, no = _branch(
      cells.take(stuck, axis=1), sizes.compress(~done, axis=1), rng
    )
    if len(stuck):
      stack.append((no, owner[stuck]))
    if len(stuck) or moving.any():
      cells = np.concatenate([cells.compress(moving, axis=1), yes], axis=1)
      stack.append((cells, np.concatenate([owner[moving], owner[stuck]])))
  return solutions, np.minimum(counts, limit)


def _to_bits(grids: np.ndarray, side: int, *, blank: int) -> np.ndarray:
  """[N, G] ids to [G, N] uint16: bit d - 1 for digit d, else `blank`.

  Cells come first, so that numpy's inner loops run over the N grids.
  """
  digits = grids.T.astype(np.int64) - sudoku.BLANK_ID
  table = np.array([blank, *(1 << np.arange(side)), blank], np.uint16)
  return table[np.where((digits < 0) | (digits > side), 0, digits)]


def _families(cells: np.ndarray) -> list[list[np.ndarray]]:
  """Views of [G, M] cells: for rows, columns and boxes, the k-th cell of all.

  Each family is a list of n views whose leading axes are the n units.
  """
  side = math.isqrt(len(cells))
  rows, columns = sudoku.box_shape(side)
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
    seen, twice, fixed = (np.zeros_like(members[0]) for _ in range(3))
    singles = [cell * ((cell & (cell - 1)) == 0) for cell in members]
    for cell, single in zip(members, singles, strict=True):
      fixed |= single
      twice |= seen & cell
      seen |= cell
    # A digit without a place, which a digit fixed twice leads to as well.
    dead |= (seen != full).reshape(side, -1).any(0)
    once = seen & ~twice
    for cell, single in zip(members, singles, strict=True):
      left = (cell & ~fixed) | single
      hidden = left & once
      # Products in place of np.where, which is several times slower.
      cell[...] = hidden | left * (hidden == 0)
  dead |= (cells == 0).any(0)
  return ~dead, (cells != before).any(0)


def _branch(
  cells: np.ndarray, sizes: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
  """Splits [G, S] states on a digit of a cell: it holds it, or it does not.

  `sizes` are the candidates of each cell; a cell with several exists.
  """
  order = np.where(sizes == 1, np.uint8(255), sizes)
  if rng is not None:
    order = order + rng.random(order.shape, np.float32)
  cell = order.argmin(0)
  state = np.arange(cells.shape[1])
  value = choice = cells[cell, state]
  if rng is not None:
    some = value & rng.integers(1 << 9, size=len(state), dtype=np.uint16)
    choice = np.where(some, some, value)
  digit = choice & (~choice + 1)  # the lowest bit
  yes, no = cells.copy(), cells
  yes[cell, state] = digit
  no[cell, state] = value ^ digit
  return yes, no

"""What a Sudoku is: text to token ids and back, and its rules.

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
  if len(cells) != side * side:
    raise InputError(f"{name}: expected {side * side} cells, got {len(cells)}.")
  for i, cell in enumerate(cells):
    if cell not in ".0" and cell not in "123456789"[:side]:
      raise InputError(
        f"{name}: cell {i + 1}: expected 1-{side}, '.' or '0', got {cell!r}."
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
        (row, column), (row_2, column_2) = (
          (c // side + 1, c % side + 1) for c in (first[digit], cell)
        )
        kind, where = (
          ("row", f"in columns {column} and {column_2}"),
          ("column", f"in rows {row} and {row_2}"),
          (
            "box",
            f"in row {row}, column {column} and row {row_2}, column {column_2}",
          ),
        )[index // side]
        return f"{kind} {index % side + 1} holds {digit} twice, {where}"
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
  flat = grids.reshape(-1, side * side)
  digits = np.where((flat < 0) | (flat > side + BLANK_ID), PAD_ID, flat)
  # Bit d + 1 for digit d. n cells hold all n digits only if none twice.
  bits = np.array([0, 0, *(4 << np.arange(side))], np.uint16)[digits]
  full = 4 * ((1 << side) - 1)
  good = np.ones(len(flat), bool)
  for unit in units(side):
    good &= np.bitwise_or.reduce(bits[:, unit], axis=1) == full
  return good.reshape(grids.shape[:-1])

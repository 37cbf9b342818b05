"""What a grid of your own task is: symbols, token ids, and JSON between them.

Token id 0 is padding, symbol i is i + 1. A grid smaller than the board stands
in its upper left corner.
"""

from typing import Any

import numpy as np

from hrm_jax.console import InputError

PAD_ID = 0
# Token ids are bytes, and 0 is PAD.
MOST_SYMBOLS = 255


def parse(where: str, value: Any, charset: str | None) -> np.ndarray:
  """Reads a grid from what JSON holds.

  Args:
    where: what to call it in an error.
    value: rows, as lists of integers; or with a charset rows that are texts or
      lists of characters, or one text with line ends between rows.
    charset: the characters of the symbols; None: symbols are integers.

  Returns:
    [rows, columns] uint8 symbols.

  Raises:
    InputError: it is something else; names the row and the column.
  """
  rows = value
  if isinstance(value, str) and charset is not None:
    rows = value.replace("\r\n", "\n").removesuffix("\n").split("\n")
  if charset is None and (
    isinstance(value, str)
    or (isinstance(value, list) and any(isinstance(r, str) for r in value))
  ):
    got = "a string" if isinstance(value, str) else "strings"
    raise InputError(
      f"{where}: expected rows of integers, got {got}, for which a charset "
      "would have to list the characters."
    )
  if not isinstance(rows, list) or not rows or rows[0] in ("", []):
    raise InputError(
      f"{where}: expected rows with at least one cell, got {value!r:.40}."
    )
  for i, row in enumerate(rows, 1):
    if not isinstance(row, list | str):
      raise InputError(f"{where}: row {i}: expected a list, got {row!r:.40}.")
    if len(row) != len(rows[0]):
      raise InputError(
        f"{where}: row {i}: expected {len(rows[0])} cells as in row 1, got "
        f"{len(row)}."
      )
    for j, cell in enumerate(row, 1):
      if charset is None:
        # A bool is an int to Python, but not to the one who wrote the file.
        good = type(cell) is int and 0 <= cell < MOST_SYMBOLS
        expected = f"an integer in 0..{MOST_SYMBOLS - 1}"
      else:
        good = isinstance(cell, str) and len(cell) == 1 and cell in charset
        expected = f"a character of the charset {charset!r:.60}"
      if not good:
        raise InputError(
          f"{where}: row {i}, column {j}: expected {expected}, got "
          f"{cell!r:.40}."
        )
  if charset is not None:
    rows = [[charset.index(cell) for cell in row] for row in rows]
  return np.array(rows, np.uint8)


def to_tokens(symbols: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Writes a grid on the board.

  Args:
    symbols: [rows, columns] uint8, no larger than the board.
    shape: of the board.

  Returns:
    [G] uint8 token ids.
  """
  board = np.full(shape, PAD_ID, np.uint8)
  board[: symbols.shape[0], : symbols.shape[1]] = symbols + np.uint8(1)
  return board.ravel()


def to_json(
  tokens: np.ndarray, shape: tuple[int, int], charset: str | None
) -> list[list[int | str | None]]:
  """Writes [G] token ids as rows of symbols; padding becomes None."""
  symbols = [None, *(charset or range(MOST_SYMBOLS))]
  return [[symbols[token] for token in row] for row in tokens.reshape(shape)]

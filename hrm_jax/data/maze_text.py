"""Reads mazes from text, as people type them and as programs write them.

  a grid over lines  a row a line, a maze after another; a space or a dot is a
                     free cell. What stands beside it, as `data_tools.show`
                     draws an answer, is not read
  a maze a line      all cells, row by row
  a table            with a header that names one of `text_table.COLUMNS`

The cells of a path (`o`) are read as free ones: what is asked for is the path.
"""

from collections.abc import Iterable
from typing import NoReturn

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import maze, sections, text_table
from hrm_jax.data.question import Line

FORMS = (
  "rows of # (wall), space or . (free), S and G; a maze a line; or a CSV with "
  "a column puzzle or question"
)

_CELLS = maze.CHARSET + "."
_FREE = str.maketrans(".o", "  ")
# Between a question and its answer, where both are drawn on the same lines.
_GAP = 4


def read(lines: Iterable[Line], cells: int) -> list[tuple[str, np.ndarray]]:
  """Reads the mazes of a text.

  Args:
    lines: the text, each line with what to call it in an error.
    cells: G, the cells of a maze.

  Returns:
    For each maze its name, that of its first line, and its [G] uint8 token ids.

  Raises:
    InputError: something is no maze of this size, or has no way from S to G.
      Names the line.
  """
  lines = list(lines)
  found = text_table.column(lines, _refuse)
  if found is None:
    found = _grids(lines, maze.side_of(cells))
  mazes = []
  for name, text in found:
    text = text.replace("\r", "").replace("\n", "")
    if len(text) != cells:
      _refuse(name, f"{cells} cells", f"{len(text)}")
    tokens = maze.parse(text.translate(_FREE), name)
    if error := maze.question_error(tokens):
      raise InputError(f"{name}: {error}.")
    mazes.append((name, tokens))
  return mazes


def _grids(lines: Iterable[Line], side: int) -> Iterable[Line]:
  """The mazes' names and cells."""
  rows: list[Line] = []
  for name, text in sections.of_puzzles(lines, _CELLS):
    if not rows:
      if len(text) == side * side:
        yield name, text
        continue
      if not text.strip() and len(text) != side:
        continue  # An empty line; in a maze it is a row that lacks its cells.
    rows.append((name, _row(name, text, len(rows) + 1, side)))
    if len(rows) == side:
      yield rows[0][0], "".join(row for _, row in rows)
      rows = []
  if rows:
    got = f"{len(rows)}"
    _refuse(rows[0][0], f"a maze of {side} rows from here", got)


def _row(name: str, text: str, number: int, side: int) -> str:
  if len(text) == 2 * side + _GAP and not text[side : side + _GAP].strip():
    text = text[:side]
  for column, cell in enumerate(text[:side], 1):
    if cell not in _CELLS:
      where = f"at row {number}, column {column}"
      _refuse(name, f"{where} # (wall), a space (free), S or G", repr(cell))
  if len(text) != side:
    got = f"{len(text)}"
    if len(text) < side:
      got += " (write dots where an editor takes spaces away)"
    _refuse(name, f"{side} cells in row {number} of a maze", got)
  return text


def _refuse(name: str, expected: str, got: str) -> NoReturn:
  raise InputError(f"{name}: expected {expected}, got {got}; read is {FORMS}.")

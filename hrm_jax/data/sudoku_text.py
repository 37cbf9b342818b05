"""Reads Sudokus from text, in the forms that people and programs write.

The form is recognised by content, never by a file's name:

  a puzzle a line    .sdm; what stands beside it on the line, such as a number,
                     a rating, the answer or a comment after #, is not read
  a grid over lines  .sdk and .ss, plain or with spaces, commas, brackets and
                     lines between the boxes, as `hrm_jax.solve` prints it
  a table            CSV (`,` `;` or tab) with a header that names one of
                     `text_table.COLUMNS`; other columns are not read

A blank is any of `BLANKS`, `-` where digits stand beside it, or nothing
between two commas. Headers (#A, [Puzzle], "Grid 01"), comments and answers
are passed over. What is neither a puzzle nor one of these is refused.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import sudoku, text_table
from hrm_jax.data.question import Line
from hrm_jax.data.sections import FACT

BLANKS = ".0*_xX?·"
FORMS = (
  "a puzzle a line (.sdm), a grid over several lines (.sdk, .ss, or drawn as "
  "solve prints it), or a CSV with a column puzzle, question or quizzes; a "
  "blank is . 0 * _ or -"
)

_CELLS = frozenset("123456789-" + BLANKS)
_TO_DOTS = str.maketrans(dict.fromkeys(BLANKS + "-", "."))
# What stands between cells; U+2500 to U+257F draw lines.
_BETWEEN = re.compile("[\\s,;:|\"'\\[\\](){}\u2500-\u257f]+")
_BRACKETS = re.compile(r"[\[\](){}]")
_RULE = re.compile("[-=~+|*:.'`\\s\u2500-\u257f]+")
# At least one thing that no row of cells holds: any line but upright ones.
_DRAWN = re.compile("--|==|~~|\\+|(?![│┃║┆┇┊┋╎╏])[\u2500-\u257f]")
_SECTION = re.compile(r"\[([A-Za-z][\w ]*)\]")
_PUZZLE_LABEL = re.compile(
  rf"({'|'.join(text_table.COLUMNS)}|game)\b[\s:]*", re.I
)


def read(lines: Iterable[Line], cells: int) -> list[tuple[str, np.ndarray]]:
  """Reads the puzzles of a text.

  Args:
    lines: the text, each line with what to call it in an error.
    cells: G, the cells of a puzzle.

  Returns:
    For each puzzle its name, that of its first line, and its [G] uint8 token
    ids.

  Raises:
    InputError: something is no puzzle of this size, or its clues contradict
      each other. Names the line, and the forms that are read.
  """
  side = sudoku.side_of(cells)
  lines = [(name, text.removeprefix("\ufeff")) for name, text in lines]
  found = _table(lines, cells)
  if found is None:
    found = _Grids(side).read(lines)
  puzzles = []
  for name, text in found:
    puzzle = sudoku.parse(text, side=side, name=name)
    sudoku.check_clues(puzzle, name)
    puzzles.append((name, puzzle))
  return puzzles


class _Grids:
  """Reads puzzles a line and grids over lines, in any mixture."""

  def __init__(self, side: int):
    self._side, self._cells = side, side * side
    self._rows: list[Line] = []  # read so far of a grid
    self._dashes = False  # whether - is a blank
    self._tabs = False  # whether tabs stand between cells

  def read(self, lines: Sequence[Line]) -> Iterator[Line]:
    """Yields the puzzles' names and cells."""
    lines = [(name, _without_comment(text)) for name, text in lines]
    self._dashes = any(_dash_is_blank(text) for _, text in lines)
    self._tabs = any("\t" in text and text.strip() for _, text in lines)
    skips = False  # the answer, or what a program noted beside the puzzle
    for name, text in lines:
      asks, text = _label(text, self._cells)
      if asks is not None:
        self._end()
        skips = not asks
      if skips or self._is_empty(text) or self._is_rule(text):
        continue
      whole = self._whole(name, text)
      if whole is not None:
        self._end()
        yield name, whole
        continue
      self._rows.append((name, self._row(name, text)))
      if len(self._rows) == self._side:
        yield self._rows[0][0], "".join(row for _, row in self._rows)
        self._rows = []
    self._end()

  def _end(self) -> None:
    """Raises an InputError if a grid has begun and lacks rows."""
    if self._rows:
      name, row = self._rows[0]
      if len(self._rows) == 1:
        _refuse(name, f"{self._cells} cells", f"{len(row)}")
      _refuse(
        name, f"a grid of {self._side} rows from here", f"{len(self._rows)}"
      )

  def _is_empty(self, text: str) -> bool:
    """Whether nothing stands on a line; a row of empty fields is something."""
    if text.strip():
      return False
    return not self._tabs or text.count("\t") != self._side - 1

  def _is_rule(self, text: str) -> bool:
    """Whether a line only draws: a frame, or a rule between boxes."""
    if not (_RULE.fullmatch(text) and _DRAWN.search(text)):
      return False
    if not self._dashes or set(text) - set("-| "):
      return True
    return text.count("-") not in (self._side, self._cells)

  def _whole(self, name: str, text: str) -> str | None:
    """The cells of a line that holds a puzzle, else None."""
    whole = [
      piece
      for piece in _BETWEEN.split(text)
      if len(piece) == self._cells and _CELLS.issuperset(piece)
    ]
    if len(whole) > 1 and any(_has_blank(other) for other in whole[1:]):
      _refuse(name, "one puzzle on a line", f"{len(whole)}")
    if whole:
      return whole[0].translate(_TO_DOTS)
    pieces = _pieces(text, self._side)
    if sum(map(len, pieces)) == self._cells:
      return self._joined(name, pieces)
    return None

  def _row(self, name: str, text: str) -> str:
    pieces = _pieces(text, self._side)
    self._check_cells(name, pieces)
    if (got := sum(map(len, pieces))) != self._side:
      expected = f"{self._cells} cells, or {self._side} of a row"
      if self._rows:
        expected = f"{self._side} cells in row {len(self._rows) + 1} of a grid"
      _refuse(name, expected, f"{got}")
    return self._joined(name, pieces)

  def _check_cells(self, name: str, pieces: list[str]) -> None:
    for i, cell in enumerate("".join(pieces), 1):
      if cell not in _CELLS:
        _refuse(name, f"at cell {i} 1-{self._side} or a blank", f"{cell!r}")

  def _joined(self, name: str, pieces: list[str]) -> str:
    self._check_cells(name, pieces)
    sizes = [len(piece) for piece in pieces]
    if len(set(sizes)) > 1:
      _refuse(
        name, "pieces of equal length", f"{', '.join(map(str, sizes))} cells"
      )
    return "".join(pieces).translate(_TO_DOTS)


def _refuse(name: str, expected: str, got: str) -> NoReturn:
  raise InputError(f"{name}: expected {expected}, got {got}; read is {FORMS}.")


def _without_comment(text: str) -> str:
  text = "" if text.lstrip().startswith("//") else text.split("#")[0]
  return text.strip(" \r\n")  # A tab may stand beside an empty cell.


def _dash_is_blank(text: str) -> bool:
  """Whether - stands beside digits in what are cells and nothing else."""
  if "-" not in text or not re.search("[1-9]", text):
    return False
  return all(map(_CELLS.issuperset, _BETWEEN.split(text)))


def _label(text: str, cells: int) -> tuple[bool | None, str]:
  """What a line announces, and the rest of it.

  Returns:
    True if a puzzle follows, False if something else does, None if the line
    announces nothing; and what remains to be read of the line.
  """
  section = _SECTION.fullmatch(text)
  if section is not None:
    return bool(_PUZZLE_LABEL.fullmatch(section[1])), ""
  asks = _PUZZLE_LABEL.match(text)
  if asks is not None:  # "Grid 01", "Puzzle 2 (easy)", "puzzle: 1...2.."
    rest = text[asks.end() :]
    pieces = _BETWEEN.split(rest)
    holds_it = _CELLS.issuperset("".join(pieces))
    return True, rest if holds_it and sum(map(len, pieces)) >= cells else ""
  fact = FACT.fullmatch(text)
  if fact is None:
    return None, text
  # "halting probability: 0.9" is over with its line; "answer:" is not.
  return (None if fact[2].strip() else False), ""


def _has_blank(cells: str) -> bool:
  return "." in cells.translate(_TO_DOTS)


def _pieces(text: str, side: int) -> list[str]:
  """Splits a line into pieces of cells; nothing between commas is a blank."""
  if _BRACKETS.search(text):
    text = _BRACKETS.sub("", text).strip(" ,")
  for mark in ",;\t|":
    inner = text
    if mark == "|" and text.startswith("|") and text.endswith("|"):
      inner = text[1:-1]  # A row of a Markdown table.
    if inner.count(mark) in (side - 1, side * side - 1):
      fields = [field.strip(" \"'") for field in inner.split(mark)]
      if all(len(field) < 2 for field in fields):
        return [field or "." for field in fields]
  return [piece for piece in _BETWEEN.split(text) if piece]


def _table(lines: Sequence[Line], cells: int) -> Iterator[Line] | None:
  """The puzzles of a table with a header; None if the text is none."""
  fields = text_table.column(lines, _refuse)
  return None if fields is None else _of_fields(fields, cells)


def _of_fields(fields: Iterator[Line], cells: int) -> Iterator[Line]:
  for name, field in fields:
    text = "".join(_pieces(field, math.isqrt(cells)))
    if len(text) != cells:
      _refuse(name, f"{cells} cells", f"{len(text)}")
    yield name, text.translate(_TO_DOTS)

"""Reads and checks Sudoku tables: CSV with columns by name, in any order.

`question` (81 cells, `.` or `0` for a blank), `answer` (81 digits) and
`rating` (an integer); other columns, such as `source`, are not read.
"""

import csv
import itertools
import os
import re
from typing import NamedTuple, TextIO

import numpy as np

from data_tools import sudoku_solver
from hrm_jax import console, sudoku
from hrm_jax.console import InputError

SIDE = 9
CELLS = SIDE * SIDE
COLUMNS = ("question", "answer", "rating")

_ROWS_AT_ONCE = 8192
# Two grids, a rating of one digit, two commas and the end of the line.
_SHORTEST_ROW = 2 * CELLS + 1 + 2 + 1
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
# Token id of each character; 0 marks one that may not stand there.
_QUESTION_IDS = np.zeros(256, np.uint8)
_QUESTION_IDS[list(b".0")] = sudoku.BLANK_ID
_QUESTION_IDS[list(b"123456789")] = sudoku.BLANK_ID + np.arange(1, SIDE + 1)
_ANSWER_IDS = _QUESTION_IDS * (_QUESTION_IDS > sudoku.BLANK_ID)


class Table(NamedTuple):
  """The N rows of a file, in order; all of them are valid Sudoku."""

  path: str
  questions: np.ndarray  # [N, 81] uint8 token ids
  answers: np.ndarray  # [N, 81] uint8 token ids
  ratings: np.ndarray  # [N] int64
  rows: np.ndarray  # [N] int64, number of the row in the file, from 1

  def take(self, indices: np.ndarray) -> "Table":
    """Returns a table of these rows only."""
    arrays = (array[indices] for array in self[1:])
    return Table(self.path, *arrays)


def read_table(path: str | os.PathLike) -> Table:
  """Reads a file, some thousand rows at a time.

  Raises:
    InputError: names the file, the line (from 1, the header included), what
      was expected and what came.
  """
  path = str(path)
  try:
    size = os.path.getsize(path)
    # utf-8-sig drops a byte order mark; the csv module sees to line ends.
    with open(path, encoding="utf-8-sig", newline="") as file:
      return _read(path, file, size)
  except UnicodeDecodeError:
    raise _not_utf8(path) from None
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error.strerror}.") from None


def line_of(path: str, row: int) -> int:
  """Returns the line, from 1, at which the row of this number (from 1) starts.

  Quoted fields may hold line ends, so lines are only counted when an error
  needs them.
  """
  with open(path, encoding="utf-8-sig", newline="") as file:
    reader = csv.reader(file, strict=True)
    for _ in itertools.islice(reader, row):
      pass
    return reader.line_num + 1


def check_unique(table: Table) -> None:
  """Refuses a table with a puzzle that has several solutions.

  Raises:
    InputError: names the file and the line of the first such puzzle.
  """
  what = f"solutions of {os.path.basename(table.path)}"
  with console.Progress(what, len(table.rows), unit="puzzles") as bar:
    for start in range(0, len(table.rows), _ROWS_AT_ONCE):
      puzzles = table.questions[start : start + _ROWS_AT_ONCE]
      several = sudoku_solver.count_solutions(puzzles) > 1
      if several.any():
        line = line_of(table.path, table.rows[start + several.argmax()])
        raise InputError(
          f"{table.path}: line {line}: question: expected exactly one "
          "solution, got several."
        )
      bar.advance(len(puzzles))


def _read(path: str, file: TextIO, size: int) -> Table:
  reader = csv.reader(file, strict=True)
  # Room for as many rows as can be; memory that stays empty costs nothing.
  most = size // _SHORTEST_ROW + 1
  questions = np.empty((most, CELLS), np.uint8)
  answers = np.empty((most, CELLS), np.uint8)
  ratings = np.empty(most, np.int64)
  done = 0
  blank = []  # blank lines are fine where nothing follows them
  bar = console.Progress(f"reading {os.path.basename(path)}", None, unit="rows")
  try:
    columns, width = _find_columns(path, next(reader, []))
    with bar:
      while rows := list(itertools.islice(reader, _ROWS_AT_ONCE)):
        rows = blank + rows
        blank = []
        while rows and not rows[-1]:
          blank.append(rows.pop())
        if not rows:
          continue
        checked = _convert(rows, columns, width)
        if checked is None:
          raise _first_error(path, rows, done, columns, width)
        new = slice(done, done + len(rows))
        questions[new], answers[new], ratings[new] = checked
        done += len(rows)
        bar.advance(len(rows))
  except csv.Error as error:
    raise InputError(
      f"{path}: line {reader.line_num}: not valid CSV ({error})."
    ) from None
  if not done:
    raise InputError(f"{path}: line 2: expected a puzzle, got no more lines.")
  return Table(
    path,
    questions[:done],
    answers[:done],
    ratings[:done],
    np.arange(1, done + 1),
  )


def _find_columns(path: str, header: list[str]) -> tuple[list[int], int]:
  """Returns where COLUMNS stand, and the number of columns."""
  for name in COLUMNS:
    if header.count(name) != 1:
      got = (
        f"twice in {','.join(header)}"
        if name in header
        else (",".join(header) or "an empty line")
      )
      raise InputError(
        f"{path}: line 1: expected a header with one column '{name}', "
        f"got {got:.200}."
      )
  return [header.index(name) for name in COLUMNS], len(header)


def _convert(
  rows: list[list[str]], columns: list[int], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """Checks and converts many rows at once; None if any of them is bad."""
  if set(map(len, rows)) != {width}:
    return None
  question_texts, answer_texts, rating_texts = (
    [row[column] for row in rows] for column in columns
  )
  if not all(map(_INTEGER.fullmatch, rating_texts)):
    return None
  questions = _to_ids(question_texts, _QUESTION_IDS)
  answers = _to_ids(answer_texts, _ANSWER_IDS)
  if questions is None or answers is None:
    return None
  good = sudoku.obeys_rules(answers) & sudoku.keeps_clues(questions, answers)
  if not good.all():
    return None
  return questions, answers, np.array(list(map(int, rating_texts)))


def _to_ids(texts: list[str], table: np.ndarray) -> np.ndarray | None:
  """[N, 81] token ids of N texts, or None if any of them is bad."""
  if set(map(len, texts)) != {CELLS}:
    return None
  # What is not ASCII becomes "?", which no table accepts.
  data = "".join(texts).encode("ascii", errors="replace")
  ids = table[np.frombuffer(data, np.uint8)].reshape(-1, CELLS)
  return ids if ids.all() else None


def _first_error(
  path: str,
  rows: list[list[str]],
  rows_before: int,
  columns: list[int],
  width: int,
) -> InputError:
  """Says what is wrong with the first bad row of some."""
  for i, row in enumerate(rows):
    if _convert([row], columns, width) is None:
      line = line_of(path, rows_before + i + 1)
      return InputError(f"{path}: line {line}: {_error(row, columns, width)}.")
  raise AssertionError("every row is good alone, but not all of them together")


def _error(row: list[str], columns: list[int], width: int) -> str:
  """Says what is wrong with a bad row."""
  if len(row) != width:
    return f"expected {width} fields, got {len(row)}"
  question, answer, rating = (row[column] for column in columns)
  for name, text, table, allowed in (
    ("question", question, _QUESTION_IDS, "1-9, '.' or '0'"),
    ("answer", answer, _ANSWER_IDS, "1-9"),
  ):
    if len(text) != CELLS:
      return f"{name}: expected {CELLS} characters, got {len(text)}"
    for i, character in enumerate(text):
      if _to_ids([character * CELLS], table) is None:
        return f"{name}: cell {i + 1}: expected {allowed}, got {character!r}"
  if not _INTEGER.fullmatch(rating):
    return f"rating: expected an integer, got {rating!r:.40}"
  clues, digits = sudoku.parse(question), sudoku.parse(answer)
  if found := sudoku.contradiction(clues):
    return f"question: the clues contradict each other: {found}"
  if found := sudoku.contradiction(digits):
    return f"answer: breaks the rules: {found}"
  cell = int(np.argmax((clues > sudoku.BLANK_ID) & (clues != digits)))
  return (
    f"answer: row {cell // SIDE + 1}, column {cell % SIDE + 1}: expected "
    f"{question[cell]} as in the question, got {answer[cell]}"
  )


def _not_utf8(path: str) -> InputError:
  """Finds the first line of a file that is not UTF-8."""
  with open(path, "rb") as file:
    for line, data in enumerate(file, 1):
      try:
        data.decode("utf-8")
      except UnicodeDecodeError as error:
        return InputError(
          f"{path}: line {line}: expected UTF-8 text, got byte "
          f"0x{data[error.start]:02x}."
        )
  raise AssertionError("the file was not UTF-8 a moment ago")

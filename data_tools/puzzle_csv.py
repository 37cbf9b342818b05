"""Reads tables of puzzles: CSV (`,` `;` or tab), columns by name in any order.

A question and an answer (one character a cell), and a rating (a number) where
there is one; `puzzle_columns.NAMES` lists what public tables call them, and
`--columns` says what others do. The rest, such as `source`, is not read. A
`Form` says what the cells of one kind of puzzle look like, and which answers
are right.
"""

import contextlib
import csv
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from data_tools import puzzle_columns
from hrm_jax import console
from hrm_jax.console import InputError

ROWS_AT_ONCE = 8192
_NUMBER = re.compile(r"\s*-?[0-9]{1,18}(\.[0-9]{0,18})?\s*", re.ASCII)


class Form(NamedTuple):
  """What one kind of puzzle looks like in a table."""

  cells: int  # G, characters of a question and of an answer
  # [256] uint8: token id of each Latin-1 character; 0 marks one that may not
  # stand.
  question_ids: np.ndarray
  answer_ids: np.ndarray
  question_characters: str  # what may stand there, for errors
  answer_characters: str
  # [N, G] questions and [N, G] answers to [N] bool: which pairs are right.
  are_right: Callable[[np.ndarray, np.ndarray], np.ndarray]
  # What is wrong with a [G] question and a [G] answer that are not right, after
  # "question: " or "answer: ".
  error: Callable[[np.ndarray, np.ndarray], str | None]
  length_from: str = ""  # where `cells` comes from, if from another place
  strips: bool = False  # whether white space around the cells is no part of it


class Table(NamedTuple):
  """The N rows of a file, in order; all of them are valid puzzles."""

  path: str
  questions: np.ndarray  # [N, G] uint8 token ids
  answers: np.ndarray  # [N, G] uint8 token ids
  ratings: np.ndarray | None  # [N] float64; None: not there or not asked for
  rows: np.ndarray  # [N] int64, number of the row in the file, from 1
  names: dict[str, str]  # of the columns in the file, by ours: for errors

  def take(self, indices: np.ndarray) -> "Table":
    """Returns a table of these rows only."""
    return self._replace(
      questions=self.questions[indices],
      answers=self.answers[indices],
      ratings=None if self.ratings is None else self.ratings[indices],
      rows=self.rows[indices],
    )


class First(NamedTuple):
  """The first question of a file, and where it stands."""

  text: str
  line: int  # from 1
  column: str  # the name of its column


def character_ids(characters: dict[str, int]) -> np.ndarray:
  """Returns the [256] uint8 token ids of Latin-1 characters, 0 for others."""
  table = np.zeros(256, np.uint8)
  for character, token in characters.items():
    table[ord(character)] = token
  return table


def read_table(
  path: str | os.PathLike,
  form: Form,
  *,
  columns: Mapping[str, str] | None = None,
  ratings_for: str | None = None,
) -> Table:
  """Reads a file, some thousand rows at a time.

  Args:
    path: the file.
    form: what its puzzles look like.
    columns: names of its columns by role, as `puzzle_columns.argument` reads
      them; what is not there goes by the names of public tables.
    ratings_for: the flag that asks for the ratings, for errors. None: nothing
      does, and they are not read, so whatever stands there is fine.

  Raises:
    InputError: names the file, the line (from 1, the header included), what
      was expected and what came.
  """
  path, named = str(path), columns or {}
  with _reader(path, named.values()) as reader:
    found = puzzle_columns.find(path, reader, named, ratings_for)
    return _read(path, reader, form, found)


def first_question(
  path: str | os.PathLike, columns: Mapping[str, str] | None = None
) -> First:
  """Returns the first question of a file, and the line it starts on.

  Args:
    path: the file.
    columns: as for `read_table`.

  Raises:
    InputError: as `read_table`.
  """
  path, named = str(path), columns or {}
  with _reader(path, named.values()) as reader:
    found = puzzle_columns.find(path, reader, named, None)
    line = reader.line_num + 1
    row = next(reader, None)
    if row is None:
      raise _no_rows(path)
    if len(row) != found.width:
      raise InputError(f"{path}: line {line}: {found.fields_error(row)}.")
    return First(row[found.question], line, found.name("question"))


def line_of(path: str, row: int, names: Collection[str]) -> int:
  """Returns the line, from 1, at which the row of this number (from 1) starts.

  Quoted fields may hold line ends, so lines are only counted when an error
  needs them.

  Args:
    path: the file.
    row: its number.
    names: of the columns that were read.
  """
  with _reader(path, names) as reader:
    for _ in itertools.islice(reader, row):
      pass
    return reader.line_num + 1


def check_unique(
  table: Table,
  are_unique: Callable[[np.ndarray], np.ndarray],
  what: str,
) -> None:
  """Refuses a table with a puzzle that has several solutions.

  Args:
    table: the puzzles.
    are_unique: [M, G] questions to [M] bool.
    what: what there should be one of, in the singular.

  Raises:
    InputError: names the file and the line of the first such puzzle.
  """
  title = f"{what}s of {os.path.basename(table.path)}"
  with console.Progress(title, len(table.rows), unit="puzzles") as bar:
    for start in range(0, len(table.rows), ROWS_AT_ONCE):
      puzzles = table.questions[start : start + ROWS_AT_ONCE]
      several = ~are_unique(puzzles)
      if several.any():
        row = table.rows[start + several.argmax()]
        line = line_of(table.path, row, table.names.values())
        raise InputError(
          f"{table.path}: line {line}: {table.names['question']}: expected "
          f"exactly one {what}, got several."
        )
      bar.advance(len(puzzles))


@contextlib.contextmanager
def _reader(path: str, names: Collection[str]) -> Iterator[Any]:
  """A CSV reader of a file; what goes wrong in it becomes an InputError.

  Args:
    path: the file.
    names: of columns, as far as they were given.
  """
  try:
    _refuse_archive(path)
    # utf-8-sig drops a byte order mark; the csv module sees to line ends.
    with open(path, encoding="utf-8-sig", newline="") as file:
      separator = puzzle_columns.find_separator(file.readline(), names)
      file.seek(0)
      reader = csv.reader(file, delimiter=separator, strict=True)
      try:
        yield reader
      except csv.Error as error:
        raise InputError(
          f"{path}: line {reader.line_num}: not valid CSV ({error})."
        ) from None
  except UnicodeDecodeError:
    raise not_utf8(path) from None
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error.strerror}.") from None


def _refuse_archive(path: str) -> None:
  """Public tables often come as an archive."""
  with open(path, "rb") as file:
    if file.read(4).startswith((b"PK\x03\x04", b"\x1f\x8b")):
      raise InputError(
        f"{path}: expected a CSV file, got an archive; unpack it first."
      )


def _read(
  path: str, reader: Any, form: Form, columns: puzzle_columns.Columns
) -> Table:
  console.log.info(f"{path}: {columns.summary()}")
  # Room for as many rows as can be; memory that stays empty costs nothing.
  # Two grids, a comma and the end of the line, which the last may lack.
  most = os.path.getsize(path) // (2 * form.cells + 2) + 1
  questions = np.empty((most, form.cells), np.uint8)
  answers = np.empty((most, form.cells), np.uint8)
  ratings = None if columns.rating is None else np.empty(most)
  done = 0
  blank = []  # blank lines are fine where nothing follows them
  bar = console.Progress(f"reading {os.path.basename(path)}", None, unit="rows")
  with bar:
    while rows := list(itertools.islice(reader, ROWS_AT_ONCE)):
      rows = blank + rows
      blank = []
      while rows and not rows[-1]:
        blank.append(rows.pop())
      if not rows:
        continue
      checked = _convert(rows, columns, form)
      if checked is None:
        raise _first_error(path, rows, done, columns, form)
      new = slice(done, done + len(rows))
      questions[new], answers[new] = checked[:2]
      if ratings is not None:
        ratings[new] = checked[2]
      done += len(rows)
      bar.advance(len(rows))
  if not done:
    raise _no_rows(path)
  return Table(
    path,
    questions[:done],
    answers[:done],
    None if ratings is None else ratings[:done],
    np.arange(1, done + 1),
    {role: columns.name(role) for role in columns.names},
  )


def _no_rows(path: str) -> InputError:
  return InputError(f"{path}: line 2: expected a puzzle, got no more lines.")


def _convert(
  rows: list[list[str]], columns: puzzle_columns.Columns, form: Form
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
  """Checks and converts many rows at once; None if any of them is bad."""
  if set(map(len, rows)) != {columns.width}:
    return None
  ratings = None
  if columns.rating is not None:
    texts = [row[columns.rating] for row in rows]
    if not all(map(_NUMBER.fullmatch, texts)):
      return None
    ratings = np.array(list(map(float, texts)))
  questions, answers = (
    _to_ids([row[column] for row in rows], table, form)
    for column, table in (
      (columns.question, form.question_ids),
      (columns.answer, form.answer_ids),
    )
  )
  if questions is None or answers is None:
    return None
  if not form.are_right(questions, answers).all():
    return None
  return questions, answers, ratings


def _to_ids(
  texts: list[str], table: np.ndarray, form: Form
) -> np.ndarray | None:
  """[N, G] token ids of N texts, or None if any of them is bad."""
  if form.strips and set(map(len, texts)) != {form.cells}:
    texts = [text.strip() for text in texts]
  if set(map(len, texts)) != {form.cells}:
    return None
  # What is not Latin-1 is left out, so that too few bytes remain.
  data = "".join(texts).encode("latin-1", errors="ignore")
  if len(data) != len(texts) * form.cells:
    return None
  ids = table[np.frombuffer(data, np.uint8)].reshape(-1, form.cells)
  return ids if ids.all() else None


def _first_error(
  path: str,
  rows: list[list[str]],
  rows_before: int,
  columns: puzzle_columns.Columns,
  form: Form,
) -> InputError:
  """Says what is wrong with the first bad row of some."""
  for i, row in enumerate(rows):
    if _convert([row], columns, form) is None:
      names = [columns.name(role) for role in columns.names]
      line = line_of(path, rows_before + i + 1, names)
      return InputError(f"{path}: line {line}: {_error(row, columns, form)}.")
  raise AssertionError("every row is good alone, but not all of them together")


def _error(row: list[str], columns: puzzle_columns.Columns, form: Form) -> str:
  """Says what is wrong with a bad row."""
  if len(row) != columns.width:
    return columns.fields_error(row)
  question, answer = row[columns.question], row[columns.answer]
  for role, text, table, allowed in (
    ("question", question, form.question_ids, form.question_characters),
    ("answer", answer, form.answer_ids, form.answer_characters),
  ):
    name = columns.name(role)
    text = text.strip() if form.strips else text
    if len(text) != form.cells:
      return (
        f"{name}: expected {form.cells} characters{form.length_from}, got "
        f"{len(text)}; read is one character a cell, row by row, each "
        f"{allowed}"
      )
    for i, character in enumerate(text):
      if ord(character) > 255 or not table[ord(character)]:
        return f"{name}: cell {i + 1}: expected {allowed}, got {character!r}"
  if columns.rating is not None:
    rating = row[columns.rating]
    if not _NUMBER.fullmatch(rating):
      return (
        f"{columns.name('rating')}: expected a number such as 2 or 1.5 for "
        f"{columns.ratings_for}, got {rating!r:.40}; correct it, or build "
        f"without {columns.ratings_for}: then this column is not read"
      )
  questions = _to_ids([question], form.question_ids, form)
  answers = _to_ids([answer], form.answer_ids, form)
  assert questions is not None, "a bad character is told above"
  assert answers is not None, "a bad character is told above"
  found = form.error(questions[0], answers[0])
  role, _, what = (found or "answer: expected another").partition(": ")
  return f"{columns.name(role)}: {what}"


def not_utf8(path: str) -> InputError:
  """Says which line of a file, the first such, is not UTF-8."""
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

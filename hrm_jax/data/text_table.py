"""Reads the puzzles' column of a table with a header: CSV, `,` `;` or tab."""

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from hrm_jax.data.question import Line

# What the column may be called; other columns are not read.
COLUMNS = (
  "puzzle",
  "puzzles",
  "question",
  "questions",
  "quizzes",
  "quiz",
  "sudoku",
  "unsolved",
  "problem",
  "board",
  "grid",
)

# Refuses a line: its name, what was expected, and what came.
Refuse = Callable[[str, str, str], NoReturn]


def column(lines: Sequence[Line], refuse: Refuse) -> Iterator[Line] | None:
  """The fields of the puzzles' column, each with the name of its line.

  Args:
    lines: the text; comments may stand before the header.
    refuse: raises the error for a line that is no row of the table.

  Returns:
    None if the text is no table.
  """
  top = next((i for i, line in enumerate(lines) if _says(line[1])), None)
  if top is None:
    return None
  for mark in ",;\t":
    header = lines[top][1].lower().split(mark)
    names = [field.strip(" \"'\r\n") for field in header]
    columns = [names.index(name) for name in COLUMNS if name in names]
    if columns and len(names) > 1:
      return _fields(lines[top + 1 :], mark, columns[0], refuse)
  return None


def _says(text: str) -> bool:
  """Whether a line is neither empty nor a comment."""
  return bool(text.split("#")[0].strip()) and not text.lstrip().startswith("//")


def _fields(
  lines: Sequence[Line], mark: str, number: int, refuse: Refuse
) -> Iterator[Line]:
  reader = csv.reader((text + "\n" for _, text in lines), delimiter=mark)
  start = 0
  try:
    for row in reader:
      name, start = lines[start][0], reader.line_num
      if not any(field.strip() for field in row):
        continue
      if len(row) <= number:
        refuse(name, f"at least {number + 1} fields", f"{len(row)}")
      yield name, row[number]
  except csv.Error as error:
    refuse(lines[start][0], "a row of a table", str(error))

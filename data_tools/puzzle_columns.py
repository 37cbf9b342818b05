"""Finds the columns of a table of puzzles by the names in its first line."""

import csv
from typing import Any, NamedTuple

from hrm_jax.console import InputError
from hrm_jax.data import sudoku_text

_QUIZZES = ("quizzes", "quiz", "puzzle", "puzzles", "unsolved")
# What public tables call each column; capitals do not matter. A table may have
# several of these names if they stand in different tuples: the first tuple
# that holds one decides. `board` beside `puzzle` is likely something else.
_CHOICES = {
  "question": (
    ("question",),
    _QUIZZES,
    tuple(
      name
      for name in sudoku_text.COLUMNS
      if name != "question" and name not in _QUIZZES
    ),
  ),
  "answer": (("answer",), ("solutions", "solution", "answers", "solved")),
  "rating": (("rating",), ("difficulty",)),
}
NAMES = {role: sum(choices, ()) for role, choices in _CHOICES.items()}

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


class Columns(NamedTuple):
  """Where in a row the fields of a puzzle stand."""

  question: int
  answer: int
  rating: int | None  # None: not there, or not to be read
  width: int  # fields of a row
  names: dict[str, str]  # in the file, by ours; as they stand there
  separator: str
  ratings_for: str | None  # the flag that asks for the ratings

  def name(self, role: str) -> str:
    """What the file calls a column, without the white space around it."""
    return self.names[role].strip()

  def summary(self) -> str:
    """Says where each field comes from, for the log."""
    said = [
      f"{role} from column '{name}'"
      for role, name in self.names.items()
      if role != "rating"
    ]
    if "rating" not in self.names:
      said.append("no rating")
    elif self.rating is None:
      said.append(f"ratings in column '{self.names['rating']}' are not used")
    else:
      said.append(f"rating from column '{self.names['rating']}'")
    if self.separator != ",":
      said.append(f"separated by {_SEPARATORS[self.separator]}")
    return ", ".join(said)

  def fields_error(self, row: list[str]) -> str:
    """Says that a row has another number of fields than the header."""
    return (
      f"expected {self.width} fields, got {len(row)} (separated by "
      f"{_SEPARATORS[self.separator]}, as in line 1)"
    )


def find_separator(header: str) -> str:
  """Returns what parts the most known names; a comma if nothing does."""
  known = {*NAMES["question"], *NAMES["answer"]}

  def count(separator: str) -> int:
    try:
      names = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
      return 0  # Whoever reads the rows says what is wrong.
    return sum(name.strip().casefold() in known for name in names)

  return max(_SEPARATORS, key=count)


def find(path: str, reader: Any, ratings_for: str | None) -> Columns:
  """Finds the columns of a table by the names in its first line.

  Args:
    path: the file, for errors.
    reader: a CSV reader of it, before the first line.
    ratings_for: the flag that asks for the ratings, if one does.

  Raises:
    InputError: the question, the answer, or a rating that is asked for is not
      one column.
  """
  header = next(reader, [])
  found, names = {}, [name.strip().casefold() for name in header]
  got = reader.dialect.delimiter.join(header) or "an empty line"
  for role, choices in _CHOICES.items():
    places: list[int] = []
    for choice in choices:
      places = places or [i for i, name in enumerate(names) if name in choice]
    if role == "rating":
      is_fine = len(places) < 2 or ratings_for is None
    else:
      is_fine = len(places) == 1
    if not is_fine:
      more = "several" if places else "none"
      raise InputError(
        f"{path}: line 1: expected a header, separated by commas, semicolons "
        f"or tabs, with one column for the {role}, named "
        f"{' or '.join(NAMES[role])}, got {more} in {got:.200}."
      )
    found[role] = places[0] if places else None
  taken = {role: header[i] for role, i in found.items() if i is not None}
  if ratings_for is None:
    found["rating"] = None
  return Columns(
    **found,
    width=len(header),
    names=taken,
    separator=reader.dialect.delimiter,
    ratings_for=ratings_for,
  )

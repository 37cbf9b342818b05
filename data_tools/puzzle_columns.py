"""Finds the columns of a table of puzzles by the names in its first line.

Names that public tables use are known; `--columns` says others.
"""

import argparse
import csv
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from hrm_jax.console import InputError
from hrm_jax.data import text_table

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
      for name in text_table.COLUMNS
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


def argument(roles: Collection[str]) -> Callable[[str], dict[str, str]]:
  """What reads the value of `--columns`: the name of a column by its role.

  The value is one line of CSV, so that a name may hold a comma if quotes stand
  around its piece: `"question=start, flat",answer=end`. White space around a
  name does not count, as in a header.

  Args:
    roles: what a column may be said to be, of `NAMES`.

  Returns:
    A function from the value to names by role, which raises an
    argparse.ArgumentTypeError for what is no such line.
  """

  def parse(text: str) -> dict[str, str]:
    try:
      pieces = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
      raise argparse.ArgumentTypeError(
        f"expected one line of CSV, got {text!r} ({error})"
      ) from None
    names: dict[str, str] = {}
    for piece in pieces or [""]:
      role, mark, name = (part.strip() for part in piece.partition("="))
      if not mark or not name:
        raise argparse.ArgumentTypeError(
          f"expected ROLE=NAME, such as question=NAME, got {piece!r}"
        )
      if role not in roles:
        raise argparse.ArgumentTypeError(
          f"expected {' or '.join(roles)} before '=', got {role!r}"
        )
      if role in names:
        raise argparse.ArgumentTypeError(
          f"expected one column for the {role}, got {names[role]!r} and "
          f"{name!r}"
        )
      if name in names.values():
        raise argparse.ArgumentTypeError(
          f"expected a column of its own for the {role}, got {name!r} twice"
        )
      names[role] = name
    return names

  return parse


def find_separator(header: str, named: Collection[str] = ()) -> str:
  """Returns what parts the most known names; a comma if nothing does.

  Args:
    header: the first line of a table.
    named: names of columns that are known beside those of public tables.
  """
  known = {*NAMES["question"], *NAMES["answer"], *map(str.casefold, named)}

  def count(separator: str) -> int:
    try:
      names = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
      return 0  # Whoever reads the rows says what is wrong.
    return sum(name.strip().casefold() in known for name in names)

  return max(_SEPARATORS, key=count)


def find(
  path: str, reader: Any, named: Mapping[str, str], ratings_for: str | None
) -> Columns:
  """Finds the columns of a table by the names in its first line.

  Args:
    path: the file, for errors.
    reader: a CSV reader of it, before the first line.
    named: the names of columns by role, as `argument` reads them; what is not
      there goes by the names of public tables.
    ratings_for: the flag that asks for the ratings, if one does.

  Raises:
    InputError: a column that is named is not there, or several times; or the
      question, the answer, or a rating that is asked for is not one column.
  """
  header = next(reader, [])
  names = [name.strip().casefold() for name in header]
  got = reader.dialect.delimiter.join(header) or "an empty line"
  found: dict[str, Any] = {}
  for role, name in named.items():
    places = [i for i, each in enumerate(header) if each.strip() == name]
    if len(places) != 1:
      raise InputError(
        f"{path}: line 1: expected one column '{name}' for the {role} "
        f"(--columns), got {'several' if places else 'none'} in {got:.200}."
      )
    found[role] = places[0]
  for role, choices in _CHOICES.items():
    if role in named:
      continue
    places: list[int] = []
    for choice in choices:
      places = places or [
        i
        for i, name in enumerate(names)
        if name in choice and i not in found.values()
      ]
    if role == "rating":
      is_fine = len(places) < 2 or ratings_for is None
    else:
      is_fine = len(places) == 1
    if not is_fine:
      more = "several" if places else "none"
      raise InputError(
        f"{path}: line 1: expected a header, separated by commas, semicolons "
        f"or tabs, with one column for the {role}, named "
        f"{' or '.join(NAMES[role])}, got {more} in {got:.200}; say which one "
        f"it is with --columns {role}=NAME."
      )
    found[role] = places[0] if places else None
  taken = {
    role: header[i] for role in _CHOICES if (i := found[role]) is not None
  }
  if ratings_for is None:
    found["rating"] = None
  return Columns(
    **found,
    width=len(header),
    names=taken,
    separator=reader.dialect.delimiter,
    ratings_for=ratings_for,
  )

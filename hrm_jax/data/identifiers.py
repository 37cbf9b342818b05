"""The names of puzzle identifiers, and which of them two tables share."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hrm_jax.console import InputError, counted

FILE_NAME = "identifiers.json"


def read_names(
  path: pathlib.Path,
  count: int | None = None,
  *,
  where: object = None,
  different: bool = False,
  meaning: str = "",
) -> list[str]:
  """Reads a list of names.

  Args:
    path: a file such as `identifiers.json`.
    count: see `checked_names`.
    where: what messages call the file; None: its path.
    different: see `checked_names`.
    meaning: see `checked_names`.

  Raises:
    InputError: the file is missing, or holds something else.
  """
  where = where or path
  try:
    names = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f"{where}: cannot be read ({error!s:.80}).") from None
  return checked_names(
    names, count, where=where, different=different, meaning=meaning
  )


def names_in(root: pathlib.Path) -> list[str]:
  """The names of a data set's identifiers, if they are there.

  Raises:
    InputError: they are there, and something else than names.
  """
  path = root / FILE_NAME
  return read_names(path) if path.exists() else []


def checked_names(
  value: Any,
  count: int | None = None,
  *,
  where: object,
  different: bool = False,
  meaning: str = "",
) -> list[str]:
  """What a JSON file holds, if it is a list of names.

  Args:
    value: as `json.loads` returns it.
    count: how many they must be; None: any number.
    where: it is from, for the message.
    different: whether no name may be there twice.
    meaning: what there is a name for each of, for the message.

  Raises:
    InputError: it is something else.
  """
  is_list = isinstance(value, list) and all(isinstance(n, str) for n in value)
  number = 0
  if is_list:
    number = len(set(value)) if different else len(value)
    if count in (None, number) and number == len(value):
      return value
  noun = "different name" if different else "name"
  how_many = f"{noun}s" if count is None else counted(count, noun)
  expected = f"a list of {how_many}"
  if meaning:
    expected += f", one for each of the {meaning}"
  got = f"{number:,}" if is_list else f"{value!r:.40}"
  raise InputError(f"{where}: expected {expected}, got {got}.")


def rows_by_name(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
  """Which row of another table has the name of each of ours.

  Returns:
    [len(ours)] int64; -1 where no row has it.
  """
  row_of = {name: row for row, name in enumerate(theirs)}
  return np.array([row_of.get(name, -1) for name in ours], np.int64)

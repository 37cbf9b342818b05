"""Reads your own task: a file of pairs of rectangular grids.

A .jsonl or .csv file holds an example a line. A .json file holds an array of
examples, or an object with the arrays `train` and `test`. Everything is
checked; what is wrong is said with the file, the line or entry, and the key.
"""

import csv
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_tools import puzzle_csv
from hrm_jax import console
from hrm_jax.console import InputError, counted
from hrm_jax.data import grid, writer

KEYS = ("input", "output", "id", "split", "group")


class Example(NamedTuple):
  """A line or entry of the source, checked."""

  place: str  # where it stands in the file: "line 3", "entry 3", "test[2]"
  input: np.ndarray  # [rows, columns] uint8 symbols, 0 for the first
  output: np.ndarray  # [rows, columns] uint8, of its own size
  id: str | None
  split: str | None  # one of writer.SPLITS
  group: str | None

  @property
  def puzzle(self) -> tuple[str, str]:
    """What the examples of one puzzle share."""
    if self.group is not None:
      return "group", self.group
    return "place", self.place

  @property
  def name(self) -> str:
    """What the puzzle is called in identifiers.json."""
    return self.group or self.id or self.place


def read_examples(
  path: str, *, charset: str | None, most: tuple[int | None, int | None]
) -> list[Example]:
  """Reads and checks a .jsonl, .json or .csv file.

  Args:
    path: the file.
    charset: the characters of grids that are strings; None: of integers.
    most: rows and columns a grid may have; None: any number.

  Raises:
    InputError: names the file, the line (from 1, the header included) or
      entry and the key, what was expected and what came.
  """
  readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
  read = readers.get(os.path.splitext(path)[1].lower())
  if read is None:
    raise InputError(
      f"{path}: expected a name that ends in .jsonl, .json or .csv."
    )
  examples, ids = [], {}
  try:
    with (
      # utf-8-sig drops a byte order mark.
      open(path, encoding="utf-8-sig", newline="") as file,
      console.Progress(f"reading {path}", None, unit="lines") as bar,
    ):
      for place, values in read(path, file):
        example = _parse(f"{path}: {place}", place, values, charset, most)
        if example.id is not None:
          first = ids.setdefault(example.id, place)
          if first != place:
            raise InputError(
              f"{path}: {place}: key 'id': expected one of its own, got "
              f"{example.id!r:.60} as in {first}."
            )
        examples.append(example)
        bar.advance()
  except UnicodeDecodeError:
    raise puzzle_csv.not_utf8(path) from None
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error.strerror}.") from None
  if not examples:
    place, got = ("line 1: ", "no more lines")
    if path.lower().endswith(".json"):
      place, got = "", "none"
    raise InputError(f"{path}: {place}expected an example, got {got}.")
  return examples


def check_charset(charset: str) -> None:
  """Refuses a charset with too many, or equal characters, or a line end.

  Raises:
    InputError: says which character.
  """
  if not 1 <= len(charset) <= grid.MOST_SYMBOLS:
    raise InputError(
      f"--charset: expected 1 to {grid.MOST_SYMBOLS} characters, got "
      f"{len(charset)}."
    )
  for character in charset:
    if charset.count(character) > 1 or character in "\r\n":
      raise InputError(
        f"--charset: expected different characters, none of them a line end, "
        f"got {character!r}."
      )


def _read_jsonl(path: str, file: Any) -> Iterator[tuple[str, dict]]:
  for line, text in enumerate(file, 1):
    if text.strip():
      place = f"line {line}"
      yield place, _object(path, place, _parse_json(path, place, text))


def _read_json(path: str, file: Any) -> Iterator[tuple[str, dict]]:
  value = _parse_json(path, None, file.read())
  splits = []
  if isinstance(value, dict):
    splits = [split for split in writer.SPLITS if split in value]
  if isinstance(value, list):
    for i, item in enumerate(value, 1):
      place = f"entry {i}"
      yield place, _object(path, place, item)
  elif splits and all(isinstance(value[split], list) for split in splits):
    for split in splits:
      for i, item in enumerate(value[split]):
        place = f"{split}[{i}]"
        yield place, {**_object(path, place, item), "split": split}
  else:
    raise InputError(
      f"{path}: expected an array of examples, or an object with the arrays "
      f"'train' and 'test', got {value!r:.40}."
    )


def _parse_json(path: str, place: str | None, text: str) -> Any:
  """Parses a line, or a whole file if `place` is None."""
  where = path if place is None else f"{path}: {place}"
  what = "JSON" if place is None else "a JSON object"
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    at = f"line {error.lineno}, " if place is None else ""
    raise InputError(
      f"{where}: expected {what}, got text that is not JSON ({error.msg} at "
      f"{at}character {error.colno})."
    ) from None
  except (ValueError, RecursionError) as error:  # Huge numbers, deep nesting.
    raise InputError(
      f"{where}: expected {what}, got one that cannot be read ({error})."
    ) from None


def _object(path: str, place: str, value: Any) -> dict:
  if not isinstance(value, dict):
    raise InputError(
      f"{path}: {place}: expected a JSON object, got {value!r:.40}."
    )
  return value


def _read_csv(path: str, file: Any) -> Iterator[tuple[str, dict]]:
  reader = csv.reader(file, strict=True)
  try:
    header = next(reader, [])
    for name in KEYS:
      wanted = name in ("input", "output")
      if header.count(name) > 1 or (wanted and name not in header):
        raise InputError(
          f"{path}: line 1: expected a header with one column '{name}', got "
          f"{','.join(header) or 'an empty line'!r:.200}."
        )
    line = reader.line_num + 1
    for row in reader:
      if row and len(row) != len(header):
        raise InputError(
          f"{path}: line {line}: expected {len(header)} fields, got {len(row)}."
        )
      if row:
        cells = zip(header, row, strict=True)
        # An empty field is one that is not there.
        yield f"line {line}", {name: cell for name, cell in cells if cell}
      line = reader.line_num + 1
  except csv.Error as error:
    raise InputError(
      f"{path}: line {reader.line_num}: not valid CSV ({error})."
    ) from None


def _parse(
  where: str,
  place: str,
  values: dict,
  charset: str | None,
  most: tuple[int | None, int | None],
) -> Example:
  """Checks the values of one example."""
  grids = []
  for key in ("input", "output"):
    if key not in values:
      raise InputError(f"{where}: key '{key}' is missing.")
    grids.append(grid.parse(f"{where}: key '{key}'", values[key], charset))
    for size, limit, what in zip(
      grids[-1].shape, most, ("row", "column"), strict=True
    ):
      if limit is not None and size > limit:
        raise InputError(
          f"{where}: key '{key}': expected at most {counted(limit, what)} "
          f"(--max-{what}s), got {size}."
        )
  names = {}
  for key in ("id", "split", "group"):
    value = values.get(key)
    number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not number and not isinstance(value, str):
      raise InputError(
        f"{where}: key '{key}': expected a name, got {value!r:.40}."
      )
    names[key] = None if value is None else str(value)
  if names["split"] not in (None, *writer.SPLITS):
    raise InputError(
      f"{where}: key 'split': expected 'train' or 'test', got "
      f"{names['split']!r:.40}."
    )
  return Example(place, *grids, **names)

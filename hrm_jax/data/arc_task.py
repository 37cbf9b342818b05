"""Reads an ARC task from parsed JSON, and refuses what is not right.

A task is `{"train": [pair, ...], "test": [pair, ...]}`, a pair `{"input": grid,
"output": grid}`, a grid a list of rows of colours 0 to 9.
"""

import json
import os
from typing import Any, NamedTuple

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import arc
from hrm_jax.data.question import Question, Source, each_key_once

FORMS = (
  "the JSON of an ARC task with 'train' and 'test', or of many tasks by name"
)

# An input grid and its output, [h, w] uint8; None: to be found.
Pair = tuple[np.ndarray, np.ndarray | None]


class Task(NamedTuple):
  """One task; `train` and `test` hold one pair at least.

  Only a list of pairs that is not evaluated has no `test`.
  """

  name: str
  where: str  # the file, for messages
  train: list[Pair]
  test: list[Pair]
  evaluated: bool  # its test pairs belong to the test split
  prefix: str = ""  # leads to it inside a file of many tasks: "bb02."

  def place(self, part: str, index: int) -> str:
    """Where pair `index` of `part` stands: `FILE: bb02.test[0]`."""
    return f"{self.where}: {self.prefix}{part}[{index}]"


def parse_json(path: str | os.PathLike, content: bytes) -> Any:
  """Parses what a file holds.

  Raises:
    InputError: it is not JSON; names the line.
  """
  try:
    return json.loads(
      content.decode("utf-8-sig"), object_pairs_hook=each_key_once
    )
  except UnicodeDecodeError as error:
    line = content.count(b"\n", 0, error.start) + 1
    raise InputError(
      f"{path}: line {line}: expected UTF-8 text, got byte "
      f"0x{content[error.start]:02x}."
    ) from None
  except json.JSONDecodeError as error:
    raise InputError(
      f"{path}: line {error.lineno}: expected JSON, got something that ends "
      f"or breaks at column {error.colno} ({error.msg})."
    ) from None
  except (RecursionError, ValueError) as error:
    raise InputError(f"{path}: expected the JSON of a task: {error}.") from None


def expect_object(path: str | os.PathLike, key: str, value: Any) -> None:
  """Raises an InputError if a parsed value is no JSON object."""
  if not isinstance(value, dict):
    raise InputError(
      f"{path}: {key and key + ': '}expected an object, got {value!r:.40}."
    )


def check_task(
  value: Any,
  name: str,
  where: str,
  prefix: str = "",
  *,
  evaluated: bool = False,
  outputs: bool | None = True,
) -> Task:
  """Checks one parsed task.

  Args:
    value: as `parse_json` returns it, or a part of that.
    name: of the task, unless it has a key `name`.
    where: the file, for messages.
    prefix: leads to the task inside its file: "bb02.".
    evaluated: whether its test pairs belong to the test split.
    outputs: whether the test pairs must have outputs; None: they may; False:
      those in the file are not read.

  Raises:
    InputError: names the key, what was expected and what came.
  """
  expect_object(where, prefix.rstrip("."), value)
  name = value.get("name", name)
  if not isinstance(name, str) or not name:
    raise InputError(
      f"{where}: {prefix}name: expected a text, got {name!r:.40}."
    )
  check_name(name, where)
  parts = {}
  for part in ("train", "test"):
    pairs = value.get(part)
    if not isinstance(pairs, list) or not pairs:
      got = f"{pairs!r:.40}" if part in value else "no such key"
      raise InputError(
        f"{where}: {prefix}{part}: expected a list of pairs, got {got}."
      )
    asked = True if part == "train" else outputs
    parts[part] = [
      check_pair(where, f"{prefix}{part}[{i}]", pair, output=asked)
      for i, pair in enumerate(pairs)
    ]
  return Task(name, where, parts["train"], parts["test"], evaluated, prefix)


def check_name(name: str, where: str) -> None:
  """Refuses the name of a task that could be taken for a variant's."""
  if arc.parse_identifier(name).name != name:
    raise InputError(
      f"{where}: expected a name that does not end like an augmentation's "
      f"(_t<k>_<permutation> or |||t<k>|||<permutation>), got {name!r}."
    )


def check_pair(where: str, key: str, pair: Any, *, output: bool | None) -> Pair:
  """Checks one parsed pair at `key`; for `output` see `check_task`."""
  expect_object(where, key, pair)
  if output is None:
    output = "output" in pair
  for field in ("input", "output") if output else ("input",):
    if field not in pair:
      raise InputError(f"{where}: {key}.{field}: expected a grid, got none.")
  return (
    check_grid(where, f"{key}.input", pair["input"]),
    check_grid(where, f"{key}.output", pair["output"]) if output else None,
  )


def check_grid(where: str, key: str, rows: Any) -> np.ndarray:
  """Checks one grid; returns [h, w] uint8."""

  def wrong(expected: str, got: Any) -> InputError:
    return InputError(f"{where}: {key}: expected {expected}, got {got}.")

  if not isinstance(rows, list) or not rows:
    raise wrong("a list of rows", f"{rows!r:.40}")
  for i, row in enumerate(rows):
    if not isinstance(row, list) or not row:
      raise wrong("rows of colours", f"{row!r:.40} as row {i}")
    if len(row) != len(rows[0]):
      raise wrong(
        f"rows of equal length, {len(rows[0])}", f"{len(row)} in row {i}"
      )
    for j, cell in enumerate(row):
      # A bool is an int to Python; 1.0 and true are no colours.
      if type(cell) is not int or not 0 <= cell < arc.COLORS:
        raise wrong("integers 0 to 9", f"{cell!r:.40} at row {i}, column {j}")
  if max(len(rows), len(rows[0])) > arc.SIDE:
    raise wrong(
      f"at most {arc.SIDE}x{arc.SIDE} cells", f"{len(rows)}x{len(rows[0])}"
    )
  return np.array(rows, np.uint8)


def read_questions(source: Source) -> list[Question]:
  """Reads the test inputs of the tasks of a file.

  Args:
    source: the JSON of a task, or of many by name, such as the competition's
      `*_challenges.json`. Outputs of test pairs may be missing.

  Raises:
    InputError: it is something else; names the key.
  """
  value = parse_json(source.name, source.text.encode())
  expect_object(source.name, "", value)
  if value.keys() & {"train", "test"} or not value:
    tasks = [check_task(value, source.stem, source.name, outputs=None)]
  else:
    tasks = [
      check_task(task, name, source.name, f"{name}.", outputs=None)
      for name, task in value.items()
    ]
  return [
    Question(
      task.place("test", i),
      arc.to_tokens(given),
      task.name,
      {"task": task.name, "test": i},
      None if output is None else arc.to_tokens(output),
    )
    for task in tasks
    for i, (given, output) in enumerate(task.test)
  ]

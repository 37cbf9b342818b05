"""Learning curves of other programs, from their logs.

JSON lines, one for each evaluation, other keys beside:
  {"step": 500, "eval": {"all": {"exact_accuracy": 0.5, "lm_loss": 0.3}}}
`evaluate` prints such a line, with "sets" for "eval". Or CSV:
  step,exact_accuracy,lm_loss
  500,0.5,0.3
"""

import csv
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from hrm_jax.console import InputError
from hrm_jax.plot import run

_STEP = "step"
_SETS = ("eval", "sets")


def read(path: pathlib.Path) -> run.Curves:
  """Reads the evaluations in a file, by its ending CSV or JSON lines.

  Raises:
    InputError: names the file and the line, what was expected and what came.
  """
  try:
    text = path.read_text(encoding="utf-8-sig")
  except UnicodeDecodeError:
    raise InputError(f"{path}: expected text in UTF-8, got other bytes.") from (
      None
    )
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  read_lines = _from_csv if path.suffix.lower() == ".csv" else _from_json
  curves: run.Curves = {}
  seen: dict[int, str] = {}
  for where, written, sets in read_lines(path, text):
    step = _step(where, written)
    if step in seen:
      raise InputError(
        f"{where}: expected each step once, got {step} as in {seen[step]}; "
        "runs of other seeds go into files of their own."
      )
    seen[step] = where.rpartition(": ")[2]
    run.add(
      curves,
      step,
      {
        name: {key: _number(where, key, each) for key, each in means.items()}
        for name, means in sets.items()
      },
    )
  if not curves:
    raise InputError(f"{path}: expected evaluations, got none.")
  return curves


# Where it stands, its step as it is written, and its metrics by set.
_Evaluation = tuple[str, Any, Mapping[str, Mapping[str, Any]]]


def _from_json(path: pathlib.Path, text: str) -> Iterator[_Evaluation]:
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    where = f"{path}: line {number}"
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      value = None
    if not isinstance(value, dict) or _STEP not in value:
      raise InputError(
        f"{where}: expected a JSON object with the keys 'step' and 'eval', got "
        f"{line!r:.60}."
      )
    sets = next((value[key] for key in _SETS if key in value), None)
    if (
      not isinstance(sets, dict)
      or not sets
      or not all(isinstance(means, dict) for means in sets.values())
    ):
      raise InputError(
        f"{where}: key 'eval': expected metrics by the name of their set, got "
        f"{sets!r:.60}."
      )
    yield where, value[_STEP], sets


def _from_csv(path: pathlib.Path, text: str) -> Iterator[_Evaluation]:
  reader = csv.reader(text.splitlines(), strict=True)
  rows = _rows(path, reader)
  header = next(rows, [])
  if _STEP not in header or len(set(header)) < max(len(header), 2):
    raise InputError(
      f"{path}: line 1: expected different columns, 'step' and metrics among "
      f"them, got {','.join(header)!r:.60}."
    )
  for row in rows:
    if not row:
      continue
    where = f"{path}: line {reader.line_num}"
    if len(row) != len(header):
      raise InputError(
        f"{where}: expected {len(header)} fields as in line 1, got {len(row)}."
      )
    values: dict[str, Any] = dict(zip(header, row, strict=True))
    step = values.pop(_STEP)
    yield where, step, {"": values}


def _rows(path: pathlib.Path, reader: Any) -> Iterator[list[str]]:
  try:
    yield from reader
  except csv.Error as error:
    raise InputError(
      f"{path}: line {reader.line_num}: not valid CSV ({error})."
    ) from None


def _step(where: str, value: Any) -> int:
  step = _number(where, _STEP, value)
  if step < 0 or step != int(step):
    raise InputError(f"{where}: {_STEP}: expected a whole number, got {value}.")
  return int(step)


def _number(where: str, key: str, value: Any) -> float:
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not math.isfinite(number):
    raise InputError(f"{where}: {key}: expected a number, got {value!r:.40}.")
  if key.endswith("accuracy") and not 0 <= number <= 1:
    raise InputError(
      f"{where}: {key}: expected a share from 0 to 1, got {value!r:.40}."
    )
  return number

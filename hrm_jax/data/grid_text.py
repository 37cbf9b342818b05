"""Reads grids of your own task, from text or JSON.

  rows           a row of characters a line, an empty line between two grids
  JSON           one example, a list of them, or an example a line, as
                 `data_tools.build_grid` reads them; the output may be missing.
                 A list of rows is a grid, too

Where a set has no charset, `puzzle_kind.SYMBOLS` are the characters of its
symbols. Space between cells means nothing unless it is a symbol.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import grid, puzzle_kind, sections
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.question import Line, Question, Source, each_key_once

FORMS = (
  "rows of characters, an empty line between two grids; or JSON, as "
  "data_tools.build_grid reads it"
)


def read(source: Source, board: Board, vocab_size: int) -> list[Question]:
  """Reads the grids of a text.

  Args:
    source: the text.
    board: what the grids have to fit on, and their charset.
    vocab_size: V; there are V - 1 symbols.

  Raises:
    InputError: names the line, or the entry and the key.
  """
  cells = (board.charset or puzzle_kind.SYMBOLS)[: vocab_size - 1]
  start = source.text.lstrip()[:1]
  if start and start in "[{" and start not in cells:
    examples, charset = _json(source), board.charset
  else:
    examples, charset = _rows(source.lines, cells), cells
  return [
    _question(name, value, charset, board.shape, vocab_size)
    for name, value in examples
  ]


def _rows(lines: list[Line], cells: str) -> Iterator[tuple[str, list[str]]]:
  """The rows of each grid that stands as text."""
  first, rows = "", []
  for name, text in [*sections.of_puzzles(lines, cells), ("", "")]:
    row = text if " " in cells else "".join(text.split())
    if row:
      first = first if rows else name
      rows.append(row)
    elif rows:
      yield first, rows
      rows = []


def _json(source: Source) -> Iterator[tuple[str, Any]]:
  """The examples of a whole text, or of its lines."""
  try:
    value = json.loads(source.text, object_pairs_hook=each_key_once)
  except (ValueError, RecursionError):
    for name, text in source.lines:
      if text.strip():
        yield name, _loads(name, text)
    return
  if isinstance(value, dict) and isinstance(value.get("test"), list):
    for i, each in enumerate(value["test"]):
      yield f"{source.name}: test[{i}]", each
  elif isinstance(value, list) and not isinstance((value or [[]])[0], list):
    for i, each in enumerate(value, 1):
      yield f"{source.name}: entry {i}", each
  else:
    yield source.name, value


def _loads(name: str, text: str) -> Any:
  try:
    return json.loads(text, object_pairs_hook=each_key_once)
  except (ValueError, RecursionError) as error:
    raise InputError(
      f"{name}: expected JSON, got something else ({error!s:.80}); read is "
      f"{FORMS}."
    ) from None


def _question(
  name: str,
  value: Any,
  charset: str | None,
  shape: tuple[int, int],
  vocab_size: int,
) -> Question:
  """Checks a grid, or an example with the keys `input` and maybe `output`."""
  if not isinstance(value, dict):
    return Question(name, _tokens(name, value, charset, shape, vocab_size))
  if "input" not in value:
    raise InputError(f"{name}: key 'input' is missing.")
  grids = {
    key: _tokens(f"{name}: key '{key}'", value[key], charset, shape, vocab_size)
    for key in ("input", "output")
    if key in value
  }
  # As the builder names the identifiers of a set that has one for each group.
  task = value.get("group") or value.get("id")
  return Question(
    name,
    grids["input"],
    task=None if task is None else str(task),
    answer=grids.get("output"),
  )


def _tokens(
  name: str,
  value: Any,
  charset: str | None,
  shape: tuple[int, int],
  vocab_size: int,
) -> np.ndarray:
  """[G] uint8 token ids of a grid."""
  symbols = grid.parse(name, value, charset)
  for size, most, what in zip(
    symbols.shape, shape, ("rows", "columns"), strict=True
  ):
    if size > most:
      raise InputError(f"{name}: expected at most {most} {what}, got {size}.")
  if (most := int(symbols.max())) > vocab_size - 2:
    raise InputError(
      f"{name}: expected symbols in 0..{vocab_size - 2}, as in the data that "
      f"were trained on, got {most}."
    )
  return grid.to_tokens(symbols, shape)

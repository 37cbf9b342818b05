"""What kind of puzzles a data set holds.

`build.json` says the kind; sets of the reference have none and are recognised
by vocabulary and length.
"""

import json
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import arc, maze, sudoku
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.split import Split

SUDOKU, MAZE, ARC, GRID = KINDS = ("sudoku", "maze", "arc", "grid")
# Rows of each set that are tried where vocabulary and length leave a choice.
_SAMPLE = 64
# Characters for the symbols of a grid whose set has no charset.
SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Board(NamedTuple):
  """What a grid of token ids looks like to a person."""

  kind: str  # one of KINDS
  shape: tuple[int, int]  # rows and columns
  charset: str | None  # characters of the symbols of a `grid`, if it has any


def read_build(root: pathlib.Path) -> dict:
  """Returns the contents of build.json; of a set without it, nothing.

  Raises:
    InputError: the file is not a JSON object.
  """
  path = root / "build.json"
  try:
    build = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f"{path}: expected a JSON object ({error}).") from None
  if not isinstance(build, dict):
    raise InputError(f"{path}: expected a JSON object, got {build!r:.40}.")
  return build


def kind_of(root: pathlib.Path, splits: list[Split]) -> str:
  """Returns one of KINDS; `grid` is what is none of the others.

  Raises:
    InputError: build.json names a kind that vocabulary or length contradict.
  """
  build = read_build(root)
  metadata = splits[0].metadata
  possible = _possible(metadata.vocab_size, metadata.seq_len)
  if "puzzle" in build:
    kind = build["puzzle"]
    if kind not in KINDS:
      raise InputError(
        f"{root / 'build.json'}: key 'puzzle': expected one of "
        f"{', '.join(KINDS)}, got {kind!r:.40}."
      )
    if kind not in (*possible, GRID):
      raise InputError(
        f"{root / 'build.json'}: key 'puzzle': expected a kind with "
        f"vocab_size {metadata.vocab_size} and seq_len {metadata.seq_len} as "
        f"in {splits[0].path / 'dataset.json'}, got {kind}."
      )
    return kind
  if MAZE not in possible:
    return possible[0] if possible else GRID
  # This vocabulary is also that of 4x4 Sudoku and of tasks with few symbols,
  # so most of the first rows have to look like what the set is said to be.
  inputs, labels = (
    np.concatenate(
      [
        np.asarray(getattr(examples, field)[:_SAMPLE])
        for split in splits
        for examples in split.sets
      ]
    )
    for field in ("inputs", "labels")
  )
  if SUDOKU in possible and sudoku.obeys_rules(labels).mean() > 0.5:
    return SUDOKU
  ends = [
    (inputs == token).sum(1) == 1 for token in (maze.START_ID, maze.GOAL_ID)
  ]
  return MAZE if np.all(ends, axis=0).mean() > 0.5 else GRID


def kind_of_checkpoint(
  metadata: DatasetMetadata, recorded: str | None = None
) -> str:
  """The kind of puzzle that a checkpoint solves.

  Args:
    metadata: of the data that it was trained on.
    recorded: the kind that its run record names, if it does; else the sizes
      tell, as far as they can: those of a 4x4 Sudoku are also those of a maze.

  Raises:
    InputError: the record contradicts the sizes.
  """
  possible = _possible(metadata.vocab_size, metadata.seq_len)
  if recorded is None:
    return possible[0] if possible else GRID
  if recorded not in (*possible, GRID):
    raise InputError(
      "this checkpoint says that it solves puzzles of the kind "
      f"{recorded!r:.40}: expected {' or '.join((*possible, GRID))}, as its "
      f"vocab_size is {metadata.vocab_size} and its seq_len {metadata.seq_len}."
    )
  return recorded


def board_of(
  kind: str, build: dict[str, Any], metadata: DatasetMetadata
) -> Board:
  """The boards of a data set: as build.json says, else square, else one row.

  Args:
    kind: one of KINDS.
    build: the contents of build.json, which may be anything.
    metadata: of the data set.
  """
  seq_len = metadata.seq_len
  rows, columns = build.get("rows"), build.get("columns")
  side = math.isqrt(seq_len)
  shape = (side, side) if side * side == seq_len else (1, seq_len)
  if (
    isinstance(rows, int)
    and isinstance(columns, int)
    and rows > 0
    and rows * columns == seq_len
  ):
    shape = rows, columns
  charset = build.get("charset")
  fits = isinstance(charset, str) and len(charset) == metadata.vocab_size - 1
  return Board(kind, shape, charset if fits else None)


def _possible(vocab_size: int, seq_len: int) -> list[str]:
  """The kinds of this vocabulary and length, beside `grid`."""
  side = math.isqrt(seq_len)
  kinds = []
  if side * side == seq_len:
    if side in sudoku.SIDES and vocab_size == sudoku.vocab_size(side):
      kinds.append(SUDOKU)
    if side > 1 and vocab_size == maze.VOCAB_SIZE:
      kinds.append(MAZE)
    if side == arc.SIDE and vocab_size == arc.VOCAB_SIZE:
      kinds.append(ARC)
  return kinds

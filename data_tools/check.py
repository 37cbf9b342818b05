"""Checks a data set: every file, every count, every token, every answer.

example:
  python -m data_tools.check data/sudoku-1k

The answers of Sudoku and mazes must solve their puzzles; --check-unique also
asks that nothing else does. Exits with 0 where all is good, and with 2 and
one line about the first thing that is not.

"good" only means that the format is valid. Test puzzles that stand in the
training data too are counted beside it, as "test_in_train": those that are
equal to a training puzzle, and others that are symmetry images of one (Sudoku
and mazes; null for other kinds). If there are any, a warning says so. For ARC,
whose examples are moved about, build_arc counts them.
"""

import argparse
import collections
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from data_tools import overlap
from hrm_jax import console
from hrm_jax.console import InputError
from hrm_jax.data import (
  arc,
  maze,
  puzzle_kind,
  ratings,
  sudoku,
  sudoku_solver,
)
from hrm_jax.data.split import ExampleSet, Split, check_splits_agree, open_split

SPLITS = ("train", "test")
# Cells looked at in one piece: some MB, whatever the length of an example.
_CELLS_AT_ONCE = 1 << 20

# [N, G] inputs and labels to None, or the first bad row: its number, and
# "label or input: expected ..., got ...".
ContentCheck = Callable[[np.ndarray, np.ndarray], tuple[int, str] | None]


def check(
  root: str | pathlib.Path, *, check_unique: bool = False
) -> dict[str, Any]:
  """Checks everything about a data set.

  Args:
    root: its directory.
    check_unique: also look for second solutions of Sudoku and mazes.

  Returns:
    `puzzle`, the kind, counts for each split, and `test_in_train`.

  Raises:
    InputError: names the first file, and row or key, that is not as it
      should be, what was expected and what came.
  """
  root = pathlib.Path(root)
  splits = [open_split(root, name) for name in SPLITS]
  check_splits_agree(*splits)
  for split in splits:
    _check_metadata(split)
  names = _check_identifiers(root, splits[0])
  _check_build(root, splits)
  kind = puzzle_kind.kind_of(root, splits)
  result: dict[str, Any] = {"puzzle": kind, "identifiers": len(names)}
  for split in splits:
    content = _content_check(kind, check_unique, split.path.name)
    for examples in split.sets:
      _check_examples(split, examples, content)
      ratings.read(split, examples)
      console.log.info(_summary(split, examples))
    result[split.path.name] = _counts(split)
  if kind != puzzle_kind.ARC:
    found = _count_overlap(kind, *splits)
    found.warn(root)
    result["test_in_train"] = found.to_json()
  return result


def _count_overlap(kind: str, train: Split, test: Split) -> overlap.Overlap:
  """Counts the test puzzles that stand in the training data too."""
  if kind != puzzle_kind.GRID:
    # The first of a group is the puzzle, the others are images of it.
    originals = [
      _concatenate(
        _some(s.inputs, s.puzzle_indices[s.group_indices[:-1]])
        for s in split.sets
      )
      for split in (train, test)
    ]
    return overlap.count(kind, originals[0], originals[1])
  # A group can hold many examples of a task, which its identifier names.
  examples = [
    _concatenate(s.inputs for s in split.sets) for split in (train, test)
  ]
  identifiers = [
    _concatenate(
      s.puzzle_identifiers.repeat(np.diff(s.puzzle_indices)) for s in split.sets
    )
    for split in (train, test)
  ]
  return overlap.count(
    kind,
    examples[0],
    examples[1],
    identifiers=(identifiers[0], identifiers[1]),
  )


def _some(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
  """Rows of an array on disk; not copied into memory if they are all."""
  return rows if len(chosen) == len(rows) else rows[chosen]


def _concatenate(arrays: Iterable[np.ndarray]) -> np.ndarray:
  """As np.concatenate, but a single array stays where it is, on disk."""
  arrays = list(arrays)
  return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _counts(split: Split) -> dict[str, int]:
  return {
    "groups": sum(len(s.group_indices) - 1 for s in split.sets),
    "puzzles": sum(len(s.puzzle_indices) - 1 for s in split.sets),
    "examples": sum(len(s.inputs) for s in split.sets),
  }


def _summary(split: Split, examples: ExampleSet) -> str:
  metadata = split.metadata
  return (
    f"{split.path.name}/{examples.name}: good: "
    f"{len(examples.group_indices) - 1:,} groups, "
    f"{len(examples.puzzle_indices) - 1:,} puzzles, "
    f"{len(examples.inputs):,} examples of {metadata.seq_len} cells, "
    f"{metadata.vocab_size} token ids, inputs {examples.inputs.dtype}, labels "
    f"{examples.labels.dtype}"
  )


def _check_metadata(split: Split) -> None:
  """What `open_split` leaves open: ids in range, and the other counts."""
  metadata, path = split.metadata, split.path / "dataset.json"

  def fail(key: str, expected: str) -> None:
    got = getattr(metadata, key)
    raise InputError(f"{path}: key '{key}': expected {expected}, got {got}.")

  for key, limit, what in (
    ("pad_id", metadata.vocab_size, "vocab_size"),
    (
      "blank_identifier_id",
      metadata.num_puzzle_identifiers,
      "num_puzzle_identifiers",
    ),
  ):
    if getattr(metadata, key) >= limit:
      fail(key, f"less than {what}, {limit}")
  if len(set(metadata.sets)) < len(metadata.sets):
    fail("sets", "different names")
  counts = _counts(split)
  mean = counts["examples"] / counts["puzzles"]
  if not math.isclose(metadata.mean_puzzle_examples, mean, rel_tol=1e-6):
    fail(
      "mean_puzzle_examples",
      f"{mean:g}, the {counts['examples']} examples over the "
      f"{counts['puzzles']} puzzles of the sets' files",
    )
  if metadata.total_puzzles not in (None, counts["puzzles"]):
    fail(
      "total_puzzles", f"{counts['puzzles']}, the puzzles in the sets' files"
    )


def _check_identifiers(root: pathlib.Path, split: Split) -> list[str]:
  path = root / "identifiers.json"
  try:
    names = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    raise InputError(f"{path}: no such file.") from None
  except (OSError, ValueError, RecursionError) as error:
    raise InputError(f"{path}: expected a JSON list ({error}).") from None
  if not isinstance(names, list):
    raise InputError(f"{path}: expected a JSON list, got {names!r:.40}.")
  for i, name in enumerate(names):
    if not isinstance(name, str):
      raise InputError(f"{path}: entry {i}: expected a name, got {name!r:.40}.")
  rows = split.metadata.num_puzzle_identifiers
  if len(names) != rows:
    raise InputError(
      f"{path}: expected {console.counted(rows, 'name')}, the "
      f"num_puzzle_identifiers of {split.path / 'dataset.json'}, got "
      f"{len(names)}."
    )
  # TRM's builder can leave the first numbers unused: they are blank too.
  blank = list(itertools.takewhile(lambda name: name == names[0], names))
  name, times = collections.Counter(names[len(blank) - 1 :]).most_common(1)[0]
  if times > 1:
    raise InputError(
      f"{path}: expected different names, got {name!r:.60} {times} times."
    )
  return names


def _check_build(root: pathlib.Path, splits: list[Split]) -> None:
  """Compares the counts of build.json, where it has any."""
  counts = puzzle_kind.read_build(root).get("counts", {})
  for split in splits:
    name, expected = split.path.name, _counts(split)
    got = counts.get(name, expected) if isinstance(counts, dict) else counts
    if got != expected:
      raise InputError(
        f"{root / 'build.json'}: key 'counts': expected {expected} for "
        f"'{name}' as in {split.path}, got {got!r:.200}."
      )


def _check_examples(
  split: Split, examples: ExampleSet, content: ContentCheck | None
) -> None:
  """Reads all cells of a set once, some rows at a time."""
  metadata = split.metadata
  path = {
    field: split.path / f"{examples.name}__{field}.npy"
    for field in ("inputs", "labels")
  }
  total = len(examples.inputs)
  step = max(1, _CELLS_AT_ONCE // metadata.seq_len)
  what = f"checking {split.path.name}/{examples.name}"
  with console.Progress(what, total, unit="examples") as bar:
    for start in range(0, total, step):
      rows = slice(start, start + step)
      inputs = np.asarray(examples.inputs[rows])
      labels = np.asarray(examples.labels[rows])
      _check_tokens(path["inputs"], inputs, start, metadata.vocab_size, None)
      _check_tokens(
        path["labels"],
        labels,
        start,
        metadata.vocab_size,
        metadata.ignore_label_id,
      )
      if content is not None and (found := content(inputs, labels)):
        row, message = found
        field, message = message.split(": ", 1)
        raise InputError(f"{path[field]}: row {start + row}: {message}.")
      bar.advance(len(inputs))


def _check_tokens(
  path: pathlib.Path,
  tokens: np.ndarray,
  start: int,
  vocab_size: int,
  ignored: int | None,
) -> None:
  if tokens.min() >= 0 and tokens.max() < vocab_size:
    return
  bad = (tokens < 0) | (tokens >= vocab_size)
  if ignored is not None:
    bad &= tokens != ignored
  if bad.any():
    row, cell = np.argwhere(bad)[0]
    raise InputError(
      f"{path}: row {start + row}: cell {cell}: expected a token id in "
      f"0..{vocab_size - 1} (vocab_size {vocab_size}), got "
      f"{tokens[row, cell]}."
    )


def _content_check(kind: str, unique: bool, split: str) -> ContentCheck | None:
  if unique and kind not in (puzzle_kind.SUDOKU, puzzle_kind.MAZE):
    raise InputError(
      f"--check-unique: expected Sudoku or mazes, got a set of kind '{kind}'."
    )
  checks = {
    puzzle_kind.SUDOKU: lambda i, x: _check_sudoku(i, x, unique),
    puzzle_kind.MAZE: lambda i, x: _check_mazes(i, x, unique),
    puzzle_kind.ARC: lambda i, x: _check_arc(i, x, split == "test"),
  }
  return checks.get(kind)


def _check_sudoku(
  inputs: np.ndarray, labels: np.ndarray, unique: bool
) -> tuple[int, str] | None:
  blank = sudoku.BLANK_ID
  for bad, explain in (
    (
      (inputs < blank).any(1),
      lambda i: (
        f"inputs: cell {np.argmin(inputs[i])}: expected a blank or a digit, "
        f"got token id {inputs[i].min()}"
      ),
    ),
    (
      ~sudoku.obeys_rules(labels),
      lambda i: (
        "labels: expected a grid that obeys the rules, got one in which "
        f"{sudoku.contradiction(labels[i]) or 'a cell is not filled'}"
      ),
    ),
    (
      ~sudoku.keeps_clues(inputs, labels),
      lambda i: _lost_clue(inputs[i], labels[i]),
    ),
  ):
    if bad.any():
      row = int(bad.argmax())
      return row, explain(row)
  if unique:
    several = sudoku_solver.count_solutions(inputs) > 1
    if several.any():
      return int(
        several.argmax()
      ), "inputs: expected exactly one solution, got several"
  return None


def _lost_clue(question: np.ndarray, answer: np.ndarray) -> str:
  blank = sudoku.BLANK_ID
  cell = int(np.argmax((question > blank) & (question != answer)))
  return (
    f"labels: cell {cell}: expected {question[cell] - blank} as in the inputs, "
    f"got {answer[cell] - blank}"
  )


def _check_mazes(
  inputs: np.ndarray, labels: np.ndarray, unique: bool
) -> tuple[int, str] | None:
  for row, pair in enumerate(zip(inputs, labels, strict=True)):
    if found := maze.error(*pair):
      field = "inputs" if found.startswith("question") else "labels"
      return row, f"{field}: {found}"
    if unique and not maze.has_one_shortest_path(pair[0]):
      return row, "inputs: expected exactly one shortest path, got several"
  return None


def _check_arc(
  inputs: np.ndarray, labels: np.ndarray, may_be_unknown: bool
) -> tuple[int, str] | None:
  # Test answers that nobody knows have labels that are ignored everywhere.
  unknown = ~labels.any(1) & may_be_unknown
  for field, tokens, exempt in (
    ("inputs", inputs, False),
    ("labels", labels, unknown),
  ):
    good = arc.are_framed(tokens) | exempt
    if not good.all():
      return int(good.argmin()), (
        f"{field}: expected one rectangle of colours with EOS just below and "
        "just right of it, got another layout"
      )
  return None


def main() -> None:
  """Reads the flags, checks, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.check",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "path",
    type=console.path,
    metavar="DIR",
    help="directory of the data set",
  )
  parser.add_argument(
    "--check-unique",
    action="store_true",
    help="Sudoku and mazes: refuse puzzles with several solutions",
  )
  flags = parser.parse_args()
  result = check(flags.path, check_unique=flags.check_unique)
  console.print_json({"path": str(flags.path), "good": True, **result})


if __name__ == "__main__":
  console.run(main)

"""Builds a data set from your own task: pairs of rectangular grids.

example:
  python -m data_tools.build_grid --output-dir data/rotate --source rotate.jsonl

A .jsonl file holds one example a line, {"input": GRID, "output": GRID} with
optional "id", "split" ("train" or "test") and "group"; a .csv file has columns
of these names; a .json file holds an array of such examples, or an object with
the arrays "train" and "test". A GRID is a list of rows of integers, or, with
--charset, which lists the characters, a list of strings or one string with a
line end between rows. Smaller grids are padded at the right and at the bottom.
Test examples whose input stands in the training data too are counted and
warned of.
"""

import argparse
import os
from typing import Any

import numpy as np

from data_tools import overlap
from data_tools.grid_file import (
  Example,
  check_charset,
  read_examples,
)
from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import writer

_EXAMPLES_AT_ONCE = 8192


def build(
  output_dir: str | os.PathLike,
  *,
  source: str | os.PathLike,
  charset: str | None = None,
  max_rows: int | None = None,
  max_columns: int | None = None,
  identifiers: str = "shared",
  test_fraction: float | None = None,
  seed: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Builds the data set; the arguments are the command's flags.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument or a line is not as it should be; nothing is left
      behind.
  """
  check_least("--max-rows", max_rows, 1)
  check_least("--max-columns", max_columns, 1)
  check_least("--seed", seed, 0)
  if test_fraction is not None and not 0 < test_fraction < 1:
    raise InputError(
      f"--test-fraction: expected a number between 0 and 1, got "
      f"{test_fraction}."
    )
  if charset is not None:
    check_charset(charset)
  source = str(source)
  examples = read_examples(
    source, charset=charset, most=(max_rows, max_columns)
  )
  splits = _split(
    source, examples, test_fraction, identifiers, np.random.default_rng(seed)
  )
  grids = [grid for e in examples for grid in (e.input, e.output)]
  shape = (
    max_rows or max(len(grid) for grid in grids),
    max_columns or max(grid.shape[1] for grid in grids),
  )
  symbols = charset and len(charset)
  symbols = symbols or 1 + max(int(grid.max()) for grid in grids)
  names, numbers = _number(source, examples, identifiers)
  found = _count_overlap(splits, numbers)
  found.warn(output_dir)
  with writer.DatasetWriter(
    output_dir,
    seq_len=shape[0] * shape[1],
    vocab_size=symbols + 1,
    overwrite=overwrite,
  ) as dataset:
    for split, chosen in splits.items():
      _write_split(dataset, split, chosen, shape, numbers)
    return dataset.finish(
      identifiers=names,
      build={
        "builder": "build_grid",
        "puzzle": "grid",
        "rows": shape[0],
        "columns": shape[1],
        "charset": charset,
        "seed": seed,
        "source": {
          "sha256": {os.path.basename(source): writer.file_digest(source)}
        },
        "arguments": {
          "identifiers": identifiers,
          "test_fraction": test_fraction,
        },
        "test_in_train": found.to_json(),
      },
    )


def _split(
  path: str,
  examples: list[Example],
  test_fraction: float | None,
  identifiers: str,
  rng: np.random.Generator,
) -> dict[str, list[Example]]:
  """The examples of each split, in order."""
  first = examples[0]
  for example in examples:
    if (example.split is None) != (first.split is None):
      raise InputError(
        f"{path}: {example.place}: key 'split': expected it in every line "
        f"or in none, got {example.split!r} here and {first.split!r} in "
        f"{first.place}."
      )
  if first.split is None:
    if test_fraction is None:
      raise InputError(
        f"{path}: {first.place}: key 'split' is missing; write 'train' or "
        "'test' in every line, or pass --test-fraction."
      )
    # A puzzle that is seen whole in one split teaches nothing about itself in
    # the other. With an identifier per group the test needs known groups.
    whole = identifiers == "shared"
    keys = [e.puzzle if whole else e.place for e in examples]
    puzzles = list(dict.fromkeys(keys))
    if len(puzzles) < 2:
      raise InputError(
        f"{path}: expected at least 2 puzzles to split (--test-fraction), got "
        f"{len(puzzles)}."
      )
    size = round(test_fraction * len(puzzles))
    size = min(max(size, 1), len(puzzles) - 1)
    drawn = rng.choice(len(puzzles), size, replace=False)
    test = {puzzles[i] for i in drawn}
    splits = ["test" if key in test else "train" for key in keys]
  elif test_fraction is not None:
    raise InputError(
      f"{path}: {first.place}: key 'split': expected none beside "
      f"--test-fraction, got {first.split!r}."
    )
  else:
    splits = [example.split for example in examples]
  chosen = {
    split: [e for e, s in zip(examples, splits, strict=True) if s == split]
    for split in writer.SPLITS
  }
  for split, some in chosen.items():
    if not some:
      raise InputError(
        f"{path}: key 'split': expected lines of both splits, got none with "
        f"'{split}'."
      )
  return chosen


def _number(
  path: str, examples: list[Example], identifiers: str
) -> tuple[list[str], dict[tuple, int]]:
  """The names of the identifiers, and the identifier of each puzzle.

  Raises:
    InputError: two puzzles have the same name.
  """
  names, numbers = {"<blank>": writer.BLANK_IDENTIFIER_ID}, {}
  for example in examples:
    if example.puzzle not in numbers:
      numbers[example.puzzle] = writer.BLANK_IDENTIFIER_ID
      if identifiers == "per-group":
        if example.name in names:
          raise InputError(
            f"{path}: {example.place}: expected a name that no puzzle "
            f"before has, got '{example.name}'."
          )
        numbers[example.puzzle] = names[example.name] = len(names)
  return list(names), numbers


def _count_overlap(
  splits: dict[str, list[Example]], numbers: dict[tuple, int]
) -> overlap.Overlap:
  """Counts the test examples whose input stands in the training data.

  The same input under another identifier is an example of another task.
  """
  train, test = (
    [
      (numbers[e.puzzle], e.input.shape, e.input.tobytes())
      for e in splits[name]
    ]
    for name in writer.SPLITS
  )
  known = set(train)
  equal = sum(example in known for example in test)
  return overlap.Overlap(equal, images=None, asked=len(test))


def _write_split(
  dataset: writer.DatasetWriter,
  split: str,
  examples: list[Example],
  shape: tuple[int, int],
  numbers: dict[tuple, int],
) -> None:
  """Writes the examples, gathered into puzzles; one puzzle a group."""
  puzzles: dict[tuple, list[Example]] = {}
  for example in examples:
    puzzles.setdefault(example.puzzle, []).append(example)
  gathered = [e for together in puzzles.values() for e in together]
  with console.Progress(
    f"writing {split}", len(gathered), unit="examples"
  ) as bar:
    for start in range(0, len(gathered), _EXAMPLES_AT_ONCE):
      some = gathered[start : start + _EXAMPLES_AT_ONCE]
      inputs, labels = np.full((2, len(some), *shape), writer.PAD_ID, np.uint8)
      for i, example in enumerate(some):
        for tokens, grid in (
          (inputs[i], example.input),
          (labels[i], example.output),
        ):
          tokens[: grid.shape[0], : grid.shape[1]] = grid + np.uint8(1)
      rows = (len(some), -1)
      dataset.add_examples(split, inputs.reshape(rows), labels.reshape(rows))
      bar.advance(len(some))
  dataset.add_puzzles(
    split,
    identifiers=np.array([numbers[key] for key in puzzles]),
    examples_per_puzzle=np.array(list(map(len, puzzles.values()))),
    puzzles_per_group=np.ones(len(puzzles)),
  )


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.build_grid",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--output-dir",
    type=console.path,
    required=True,
    help="directory to create",
  )
  add(
    "--source",
    type=console.path,
    required=True,
    metavar="FILE",
    help="a .jsonl, .json or .csv file",
  )
  add(
    "--charset",
    metavar="CHARACTERS",
    help="every character that may stand in a grid (needed for strings, so "
    "for .csv)",
  )
  add(
    "--max-rows",
    type=int,
    help="rows that each grid is padded to (default: those of the largest)",
  )
  add(
    "--max-columns",
    type=int,
    help="columns that each grid is padded to (default: those of the largest)",
  )
  add(
    "--identifiers",
    choices=("shared", "per-group"),
    default="shared",
    help="one puzzle identifier for all, or one for each group: a task that "
    "is learned from its examples (default: %(default)s)",
  )
  add(
    "--test-fraction",
    type=float,
    help="share of the groups to hold out for the test, at random, where no "
    "line has a split (with --identifiers per-group: share of the lines)",
  )
  add(
    "--seed",
    type=int,
    default=0,
    help="seed of all random choices (default: 0)",
  )
  add("--overwrite", action="store_true", help="replace an existing data set")
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

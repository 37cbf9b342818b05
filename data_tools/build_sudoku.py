"""Builds a Sudoku data set from the public tables, or from CSV files.

example:
  python -m data_tools.build_sudoku --output-dir data/sudoku-1k \\
    --subsample-size 1000 --num-aug 1000
  python -m data_tools.build_sudoku --output-dir data/mine \\
    --source-csv mine.csv --test-fraction 0.1 \\
    --columns question=start,answer=end

The source is `sapientinc/sudoku-extreme` on the Hugging Face Hub, or the files
train.csv and test.csv of a directory, or one CSV file with --test-fraction. The
columns may be called as in the public tables (question and answer, quizzes and
solutions, puzzle and solution), or as --columns says, and be separated by
commas, semicolons or tabs. A rating (or difficulty) may be missing, and is read
only for --min-difficulty and --keep-ratings; boards may be 4x4, 6x6, 8x8 or
9x9. Test puzzles that stand in the training data too are counted and warned of.
Differs from the reference (HRM dataset/build_sudoku_dataset.py): seeded,
checked, and able to give every training puzzle an identifier of its own.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_tools import overlap, puzzle_columns, puzzle_csv, source, sudoku_csv
from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import puzzle_kind, sudoku, sudoku_augment, writer

DEFAULT_REPO = "sapientinc/sudoku-extreme"


def build(
  output_dir: str | os.PathLike,
  *,
  source_csv: str | os.PathLike | None = None,
  source_repo: str = DEFAULT_REPO,
  columns: Mapping[str, str] | None = None,
  test_fraction: float | None = None,
  subsample_size: int | None = None,
  num_aug: int = 0,
  min_difficulty: float | None = None,
  keep_ratings: bool = False,
  identifiers: str = "shared",
  seed: int = 0,
  overwrite: bool = False,
  check_unique: bool = False,
) -> dict[str, Any]:
  """Builds the data set; the arguments are the command's flags.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument or a file is not as it should be; nothing is left
      behind.
  """
  check_least("--subsample-size", subsample_size, 1)
  check_least("--num-aug", num_aug, 0)
  check_least("--seed", seed, 0)
  rng = np.random.default_rng(seed)
  # Before the download, which may be long; the side is known only after it.
  writer.DatasetWriter(output_dir, seq_len=1, vocab_size=1, overwrite=overwrite)
  paths, origin = source.find(
    source_csv, source_repo, test_fraction=test_fraction
  )
  form = sudoku_csv.form_of(next(iter(paths.values())), columns)
  with writer.DatasetWriter(
    output_dir,
    seq_len=form.cells,
    vocab_size=sudoku.vocab_size(sudoku.side_of(form.cells)),
    overwrite=overwrite,
  ) as dataset:
    # Both are checked before the long part of the work begins.
    train, test = source.read_splits(
      puzzle_kind.SUDOKU,
      paths,
      lambda path: _read(path, form, columns, min_difficulty, keep_ratings),
      test_fraction=test_fraction,
      rng=rng,
    )
    train = source.subsample(rng, train, subsample_size)
    if check_unique:
      sudoku_csv.check_unique(train)
      sudoku_csv.check_unique(test)
    found = overlap.count(puzzle_kind.SUDOKU, train.questions, test.questions)
    found.warn(output_dir)
    names = ["<blank>"]
    train_identifiers = None
    if identifiers == "per-puzzle":
      names += [f"train:{row}" for row in train.rows]
      train_identifiers = np.arange(1, len(names))
    sudoku_augment.write_split(
      dataset,
      "train",
      train.questions,
      train.answers,
      num_aug=num_aug,
      rng=rng,
      identifiers=train_identifiers,
    )
    sudoku_augment.write_split(
      dataset, "test", test.questions, test.answers, num_aug=0, rng=rng
    )
    if keep_ratings:
      assert test.ratings is not None  # `_read` has seen to that.
      dataset.add_ratings("test", test.ratings)
    return dataset.finish(
      identifiers=names,
      build={
        "builder": "build_sudoku",
        "puzzle": "sudoku",
        "seed": seed,
        "source": origin,
        "arguments": {
          "columns": columns,
          "subsample_size": subsample_size,
          "num_aug": num_aug,
          "min_difficulty": min_difficulty,
          "keep_ratings": keep_ratings,
          "identifiers": identifiers,
          "test_fraction": test_fraction,
        },
        "test_in_train": found.to_json(),
      },
    )


def _read(
  path: str,
  form: puzzle_csv.Form,
  columns: Mapping[str, str] | None,
  min_difficulty: float | None,
  keep_ratings: bool,
) -> puzzle_csv.Table:
  flag = "--keep-ratings" if keep_ratings else None
  if min_difficulty is not None:
    flag = "--min-difficulty"
  table = puzzle_csv.read_table(path, form, columns=columns, ratings_for=flag)
  if flag is None:
    return table
  if table.ratings is None:
    names = " or ".join(puzzle_columns.NAMES["rating"])
    raise InputError(
      f"{path}: line 1: expected a column {names} for {flag}, got none; say "
      "which one it is with --columns rating=NAME."
    )
  if min_difficulty is None:
    return table
  hard = table.ratings >= min_difficulty
  if not hard.any():
    raise InputError(
      f"{path}: expected puzzles with a {table.names['rating']} of at least "
      f"{min_difficulty} (--min-difficulty), got {table.ratings.max():g} at "
      "most."
    )
  return table.take(np.flatnonzero(hard))


def _parse_rating(text: str) -> int | float:
  """Reads a number as it is written: build.json records 2 as 2."""
  try:
    return int(text)
  except ValueError:
    pass
  try:
    return float(text)
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"expected a number, got {text!r}"
    ) from None


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.build_sudoku",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  source.add_flags(parser, DEFAULT_REPO, tuple(puzzle_columns.NAMES))
  add(
    "--num-aug",
    type=int,
    default=0,
    help="symmetry images to add to each training puzzle (default: 0)",
  )
  add(
    "--min-difficulty", type=_parse_rating, help="least rating, in both splits"
  )
  add(
    "--keep-ratings",
    action="store_true",
    help="keep the ratings of the test puzzles beside them, for scores by "
    "rating",
  )
  add(
    "--identifiers",
    choices=("shared", "per-puzzle"),
    default="shared",
    help="one puzzle identifier for all, or one for each training puzzle and "
    "its images (default: %(default)s)",
  )
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

"""Builds a Sudoku data set from the public tables, or from CSV files.

  python -m data_tools.build_sudoku --output-dir data/sudoku-1k \\
    --subsample-size 1000 --num-aug 1000

The source is `sapientinc/sudoku-extreme` on the Hugging Face Hub, or the files
train.csv and test.csv of a directory. Differs from the reference (HRM
dataset/build_sudoku_dataset.py): seeded, checked, and able to give every
training puzzle an identifier of its own.
"""

import argparse
import os
from typing import Any

import numpy as np

from data_tools import puzzle_csv, source, sudoku_csv
from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import sudoku, sudoku_augment, writer

DEFAULT_REPO = "sapientinc/sudoku-extreme"


def build(
  output_dir: str | os.PathLike,
  *,
  source_csv: str | os.PathLike | None = None,
  source_repo: str = DEFAULT_REPO,
  subsample_size: int | None = None,
  num_aug: int = 0,
  min_difficulty: int | None = None,
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
  with writer.DatasetWriter(
    output_dir,
    seq_len=sudoku_csv.CELLS,
    vocab_size=sudoku.vocab_size(sudoku_csv.SIDE),
    overwrite=overwrite,
  ) as dataset:
    paths, origin = source.find(source_csv, source_repo)
    # Both are checked before the long part of the work begins.
    train, test = (
      _read_split(paths[split], min_difficulty) for split in writer.SPLITS
    )
    train = source.subsample(rng, train, subsample_size)
    if check_unique:
      sudoku_csv.check_unique(train)
      sudoku_csv.check_unique(test)
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
    return dataset.finish(
      identifiers=names,
      build={
        "builder": "build_sudoku",
        "puzzle": "sudoku",
        "seed": seed,
        "source": origin,
        "arguments": {
          "subsample_size": subsample_size,
          "num_aug": num_aug,
          "min_difficulty": min_difficulty,
          "identifiers": identifiers,
        },
      },
    )


def _read_split(path: str, min_difficulty: int | None) -> puzzle_csv.Table:
  table = sudoku_csv.read_table(path)
  if min_difficulty is None:
    return table
  hard = table.ratings >= min_difficulty
  if not hard.any():
    raise InputError(
      f"{path}: expected puzzles with a rating of at least {min_difficulty} "
      f"(--min-difficulty), got {table.ratings.max()} at most."
    )
  return table.take(np.flatnonzero(hard))


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.build_sudoku",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  source.add_flags(parser, DEFAULT_REPO)
  add(
    "--num-aug",
    type=int,
    default=0,
    help="symmetry images to add to each training puzzle (default: 0)",
  )
  add("--min-difficulty", type=int, help="least rating, in both splits")
  add(
    "--identifiers",
    choices=("shared", "per-puzzle"),
    default="shared",
    help="one puzzle identifier for all, or one for each training puzzle and "
    "its images (default: %(default)s)",
  )
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": flags["output_dir"], **built["counts"]})


if __name__ == "__main__":
  console.run(main)

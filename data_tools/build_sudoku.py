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
import pathlib
from typing import Any

import numpy as np

from data_tools import sudoku_augment, sudoku_csv, writer
from hrm_jax import console, sudoku
from hrm_jax.console import InputError

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
  _check_least("--subsample-size", subsample_size, 1)
  _check_least("--num-aug", num_aug, 0)
  _check_least("--seed", seed, 0)
  rng = np.random.default_rng(seed)
  with writer.DatasetWriter(
    output_dir,
    seq_len=sudoku_csv.CELLS,
    vocab_size=sudoku.vocab_size(sudoku_csv.SIDE),
    overwrite=overwrite,
  ) as dataset:
    paths, source = _find_source(source_csv, source_repo)
    # Both are checked before the long part of the work begins.
    train, test = (
      _read_split(paths[split], min_difficulty) for split in writer.SPLITS
    )
    if subsample_size is not None:
      train = _subsample(rng, train, subsample_size)
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
        "source": source,
        "arguments": {
          "subsample_size": subsample_size,
          "num_aug": num_aug,
          "min_difficulty": min_difficulty,
          "identifiers": identifiers,
        },
      },
    )


def _check_least(flag: str, value: int | None, least: int) -> None:
  if value is not None and value < least:
    raise InputError(f"{flag}: expected at least {least}, got {value}.")


def _find_source(
  source_csv: str | os.PathLike | None, source_repo: str
) -> tuple[dict[str, str], dict[str, Any]]:
  """Returns the file of each split, and what build.json says of them."""
  source = {}
  if source_csv is not None:
    paths = {
      split: str(pathlib.Path(source_csv) / f"{split}.csv")
      for split in writer.SPLITS
    }
    for path in paths.values():
      if not os.path.isfile(path):
        raise InputError(
          f"{path}: no such file; --source-csv expects a directory that holds "
          "train.csv and test.csv."
        )
  else:
    paths = {
      split: _download(source_repo, f"{split}.csv") for split in writer.SPLITS
    }
    # The cache keeps files in snapshots/<revision>/.
    revision = os.path.basename(os.path.dirname(paths["train"]))
    source = {"repo": source_repo, "revision": revision}
  source["sha256"] = {
    f"{split}.csv": writer.file_digest(path) for split, path in paths.items()
  }
  return paths, source


def _download(repo: str, name: str) -> str:
  """Returns the local path of a file of a Hub data set."""
  # Only here, because it takes half a second to import.
  import huggingface_hub

  console.log.info("fetching %s of the Hub data set %s", name, repo)
  # Its retries would fill the terminal before the one line that helps.
  huggingface_hub.logging.set_verbosity_error()
  try:
    return huggingface_hub.hf_hub_download(repo, name, repo_type="dataset")
  except Exception as error:
    # The client raises its own errors, its HTTP library's and OSError; all
    # mean the same here, and no other data may take the place of these.
    reason = " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")
    raise InputError(
      f"cannot get {name} of the Hub data set {repo} "
      f"({type(error).__name__}: {reason}); without a network pass "
      "--source-csv DIR with train.csv and test.csv, or set HF_HUB_OFFLINE=1 "
      "if the files are in the Hub cache."
    ) from error


def _read_split(path: str, min_difficulty: int | None) -> sudoku_csv.Table:
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


def _subsample(
  rng: np.random.Generator, table: sudoku_csv.Table, size: int
) -> sudoku_csv.Table:
  if size > len(table.rows):
    raise InputError(
      f"{table.path}: expected at least {size:,} puzzles to choose from "
      f"(--subsample-size), got {len(table.rows):,}."
    )
  return table.take(rng.choice(len(table.rows), size, replace=False))


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = argparse.ArgumentParser(
    prog="python -m data_tools.build_sudoku",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--output-dir", required=True, help="directory to create")
  source = parser.add_mutually_exclusive_group()
  source.add_argument(
    "--source-repo",
    default=DEFAULT_REPO,
    help="data set on the Hub (default: %(default)s)",
  )
  source.add_argument(
    "--source-csv", metavar="DIR", help="directory with train.csv and test.csv"
  )
  add("--subsample-size", type=int, help="training puzzles to keep, at random")
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
  add("--seed", type=int, default=0, help="of all random choices (default: 0)")
  add("--overwrite", action="store_true", help="replace an existing data set")
  add(
    "--check-unique",
    action="store_true",
    help="refuse puzzles with several solutions",
  )
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": flags["output_dir"], **built["counts"]})


if __name__ == "__main__":
  console.run(main)

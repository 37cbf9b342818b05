"""Where the builders' tables come from: the Hub, or CSV files.

Also the flags and checks that go with it, which all such builders share.
"""

import argparse
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data_tools import overlap, puzzle_columns, puzzle_csv
from hrm_jax import console
from hrm_jax.console import InputError
from hrm_jax.data import hub_cache, writer

# In place of a split's name: one table, of which a part becomes the test.
BOTH = "both"


def find(
  source_csv: str | os.PathLike | None,
  source_repo: str,
  *,
  test_fraction: float | None = None,
) -> tuple[dict[str, str], dict[str, Any]]:
  """Finds the table of each split, downloading it if need be.

  Args:
    source_csv: a directory with train.csv and test.csv, or one table that is
      to be split: the file, or a directory that holds nothing else; None:
      from the Hub.
    source_repo: data set on the Hub.
    test_fraction: share of the one table to hold out for the test.

  Returns:
    The file of each split, or of BOTH; and what build.json says of them.

  Raises:
    InputError: a file is not there, or cannot be fetched; or there are two
      tables and a fraction, or one table and none.
  """
  if test_fraction is not None and not 0 < test_fraction < 1:
    raise InputError(
      "--test-fraction: expected a number between 0 and 1, got "
      f"{test_fraction:g}."
    )
  source: dict[str, Any] = {}
  if source_csv is not None:
    paths = _find_csv(pathlib.Path(source_csv))
    if BOTH in paths and test_fraction is None:
      raise InputError(
        f"{paths[BOTH]}: expected train.csv and test.csv in one directory, got "
        "one table; pass --test-fraction to hold out a part of it for the test."
      )
    if BOTH not in paths and test_fraction is not None:
      raise InputError(
        f"{source_csv}: expected one table to split by --test-fraction, got "
        "train.csv and test.csv."
      )
  elif test_fraction is not None:
    raise InputError(
      "--test-fraction: expected --source-csv with one table to split, got a "
      "data set of the Hub, which has both splits."
    )
  else:
    paths = {
      split: _download(source_repo, f"{split}.csv") for split in writer.SPLITS
    }
    # The cache keeps files in snapshots/<revision>/.
    revision = os.path.basename(os.path.dirname(paths["train"]))
    source = {"repo": source_repo, "revision": revision}
  source["sha256"] = {
    f"{split}.csv" if split != BOTH else os.path.basename(path): (
      writer.file_digest(path)
    )
    for split, path in paths.items()
  }
  return paths, source


def read_splits(
  kind: str,
  paths: dict[str, str],
  read: Callable[[str], puzzle_csv.Table],
  *,
  test_fraction: float | None,
  rng: np.random.Generator,
) -> tuple[puzzle_csv.Table, puzzle_csv.Table]:
  """Reads the tables that `find` found, and splits the one of both.

  Args:
    kind: one of puzzle_kind.KINDS.
    paths: from `find`.
    read: reads one file.
    test_fraction: share of the one table to hold out for the test.
    rng: chooses the test puzzles.

  Returns:
    The training table and the test table.

  Raises:
    InputError: as `read`; or all puzzles are images of each other.
  """
  if BOTH not in paths:
    return read(paths["train"]), read(paths["test"])
  assert test_fraction is not None  # `find` has seen to that.
  table = read(paths[BOTH])
  # Whole symmetry classes: what is trained on says nothing of the test.
  classes = np.unique(
    overlap.class_keys(kind, table.questions), return_inverse=True
  )[1]
  sizes = np.bincount(classes)
  if len(sizes) < 2:
    raise InputError(
      f"{table.path}: expected at least 2 puzzles to split (--test-fraction) "
      f"that are no symmetry images of each other, got {len(sizes)}."
    )
  order = rng.permutation(len(sizes))
  filled = sizes[order].cumsum()
  drawn = np.searchsorted(filled, test_fraction * len(classes), side="right")
  drawn = np.clip(drawn, 1, len(sizes) - 1)
  is_test = np.isin(classes, order[:drawn])
  console.log.info(
    f"{table.path}: {is_test.sum():,} of {len(is_test):,} puzzles are held out "
    "for the test; none of them is equal to a training puzzle or a symmetry "
    "image of one"
  )
  train, test = (
    table.take(np.flatnonzero(some)) for some in (~is_test, is_test)
  )
  return train, test


def _find_csv(source: pathlib.Path) -> dict[str, str]:
  """The table of each split, or the one of BOTH."""
  if source.is_file():
    return {BOTH: str(source)}
  paths = {split: source / f"{split}.csv" for split in writer.SPLITS}
  missing = [path for path in paths.values() if not path.is_file()]
  if not missing:
    return {split: str(path) for split, path in paths.items()}
  tables = [path for path in source.glob("*") if path.suffix.lower() == ".csv"]
  if len(tables) == 1:
    return {BOTH: str(tables[0])}
  raise InputError(
    f"{missing[0]}: no such file; --source-csv expects a directory that holds "
    "train.csv and test.csv, or one CSV file, to be split by --test-fraction."
  )


def subsample(
  rng: np.random.Generator, table: puzzle_csv.Table, size: int | None
) -> puzzle_csv.Table:
  """Draws so many rows of a table; None keeps it as it is.

  Raises:
    InputError: it has fewer.
  """
  if size is None:
    return table
  if size > len(table.rows):
    raise InputError(
      f"{table.path}: expected at least {size:,} puzzles to choose from "
      f"(--subsample-size), got {len(table.rows):,}."
    )
  return table.take(rng.choice(len(table.rows), size, replace=False))


def add_flags(
  parser: argparse.ArgumentParser, default_repo: str, roles: Sequence[str]
) -> None:
  """Adds the flags of every builder that reads tables, but its own.

  Args:
    parser: of the command.
    default_repo: data set on the Hub.
    roles: the columns that it reads, of puzzle_columns.NAMES.
  """
  add = parser.add_argument
  add(
    "--output-dir",
    type=console.path,
    required=True,
    help="directory to create",
  )
  source = parser.add_mutually_exclusive_group()
  source.add_argument(
    "--source-repo",
    default=default_repo,
    help="data set on the Hub (default: %(default)s)",
  )
  source.add_argument(
    "--source-csv",
    type=console.path,
    metavar="PATH",
    help="directory with train.csv and test.csv, or one CSV file",
  )
  add(
    "--columns",
    type=puzzle_columns.argument(roles),
    metavar="ROLE=NAME,...",
    help="names in the header that are no usual ones, by role "
    f"({', '.join(roles)}); one with a comma as in "
    "'\"question=a, b\",answer=c'",
  )
  add(
    "--test-fraction",
    type=float,
    help="share of one CSV file to hold out for the test, at random",
  )
  add("--subsample-size", type=int, help="training puzzles to keep, at random")
  add(
    "--seed",
    type=int,
    default=0,
    help="seed of all random choices (default: 0)",
  )
  add("--overwrite", action="store_true", help="replace an existing data set")
  add(
    "--check-unique",
    action="store_true",
    help="refuse puzzles with several solutions",
  )


def _download(repo: str, name: str) -> str:
  """Returns the local path of a file of a Hub data set."""
  console.log.info("fetching %s of the Hub data set %s", name, repo)
  try:
    # Only here, because it takes half a second to import.
    import huggingface_hub

    # Its retries would fill the terminal before the one line that helps.
    huggingface_hub.logging.set_verbosity_error()
    hub_cache.check_has_a_place()
    return huggingface_hub.hf_hub_download(repo, name, repo_type="dataset")
  except InputError:
    raise
  except Exception as error:
    # The client raises its own errors, its HTTP library's and OSError; all
    # mean the same here, and no other data may take the place of these.
    reason = " ".join(str(error).split()).split(". ")[0][:200].rstrip(".")
    raise InputError(
      f"cannot get {name} of the Hub data set {repo} "
      f"({type(error).__name__}: {reason}); {_way_out(error)}."
    ) from error


def _way_out(error: Exception) -> str:
  # The client's errors of the network name no file.
  if isinstance(error, OSError) and error.filename:
    return "set HOME, or HF_HOME, to a directory that can be written"
  return (
    "without a network pass --source-csv DIR with train.csv and test.csv, or "
    "set HF_HUB_OFFLINE=1 if the files are in the Hub cache"
  )

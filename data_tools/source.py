"""Where the builders' tables come from: the Hub, or a directory of CSV files.

Also the flags and checks that go with it, which all such builders share.
"""

import argparse
import os
import pathlib
from typing import Any

import numpy as np

from data_tools import puzzle_csv
from hrm_jax import console
from hrm_jax.console import InputError
from hrm_jax.data import writer


def find(
  source_csv: str | os.PathLike | None, source_repo: str
) -> tuple[dict[str, str], dict[str, Any]]:
  """Finds the table of each split, downloading it if need be.

  Args:
    source_csv: directory with train.csv and test.csv; None: from the Hub.
    source_repo: data set on the Hub.

  Returns:
    The file of each split, and what build.json says of them.

  Raises:
    InputError: a file is not there, or cannot be fetched.
  """
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


def add_flags(parser: argparse.ArgumentParser, default_repo: str) -> None:
  """Adds the flags of every builder that reads tables, but its own."""
  add = parser.add_argument
  add("--output-dir", required=True, help="directory to create")
  source = parser.add_mutually_exclusive_group()
  source.add_argument(
    "--source-repo",
    default=default_repo,
    help="data set on the Hub (default: %(default)s)",
  )
  source.add_argument(
    "--source-csv", metavar="DIR", help="directory with train.csv and test.csv"
  )
  add("--subsample-size", type=int, help="training puzzles to keep, at random")
  add("--seed", type=int, default=0, help="of all random choices (default: 0)")
  add("--overwrite", action="store_true", help="replace an existing data set")
  add(
    "--check-unique",
    action="store_true",
    help="refuse puzzles with several solutions",
  )


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

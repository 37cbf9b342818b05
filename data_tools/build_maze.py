"""Builds a maze data set from the public tables, or from CSV files.

example:
  python -m data_tools.build_maze --output-dir data/maze-30x30-hard-1k
  python -m data_tools.build_maze --output-dir data/mine \\
    --source-csv mine.csv --test-fraction 0.1 \\
    --columns question=map,answer=route

The source is `sapientinc/maze-30x30-hard-1k` on the Hugging Face Hub, or the
files train.csv and test.csv of a directory, or one CSV file with
--test-fraction, with mazes of any one size. The columns may be called as in the
public tables, or as --columns says. Test mazes that stand in the training data
too, turned or mirrored or not, are counted and warned of. Every answer must be
a shortest path of its question. Differs from the reference (HRM
dataset/build_maze_dataset.py) in being seeded and checked.
"""

import argparse
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_tools import maze_augment, overlap, puzzle_csv, source
from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import maze, puzzle_kind, writer

DEFAULT_REPO = "sapientinc/maze-30x30-hard-1k"


def build(
  output_dir: str | os.PathLike,
  *,
  source_csv: str | os.PathLike | None = None,
  source_repo: str = DEFAULT_REPO,
  columns: Mapping[str, str] | None = None,
  test_fraction: float | None = None,
  subsample_size: int | None = None,
  aug: bool = False,
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
  check_least("--seed", seed, 0)
  rng = np.random.default_rng(seed)
  # Before the download, which may be long; the size is known only after it.
  writer.DatasetWriter(output_dir, seq_len=1, vocab_size=1, overwrite=overwrite)
  paths, origin = source.find(
    source_csv, source_repo, test_fraction=test_fraction
  )
  form = _form_of(next(iter(paths.values())), columns)
  with writer.DatasetWriter(
    output_dir,
    seq_len=form.cells,
    vocab_size=maze.VOCAB_SIZE,
    overwrite=overwrite,
  ) as dataset:
    train, test = source.read_splits(
      puzzle_kind.MAZE,
      paths,
      lambda path: puzzle_csv.read_table(path, form, columns=columns),
      test_fraction=test_fraction,
      rng=rng,
    )
    train = source.subsample(rng, train, subsample_size)
    if check_unique:
      for table in (train, test):
        puzzle_csv.check_unique(table, _are_unique, "shortest path")
    found = overlap.count(puzzle_kind.MAZE, train.questions, test.questions)
    found.warn(output_dir)
    for split, table, images in (("train", train, aug), ("test", test, False)):
      maze_augment.write_split(
        dataset, split, table.questions, table.answers, aug=images
      )
    return dataset.finish(
      identifiers=["<blank>"],
      build={
        "builder": "build_maze",
        "puzzle": "maze",
        "seed": seed,
        "source": origin,
        "arguments": {
          "columns": columns,
          "subsample_size": subsample_size,
          "aug": aug,
          "test_fraction": test_fraction,
        },
        "test_in_train": found.to_json(),
      },
    )


def _form_of(path: str, columns: Mapping[str, str] | None) -> puzzle_csv.Form:
  """What mazes look like in tables of the size of this file's first one."""
  text, line, column = puzzle_csv.first_question(path, columns)
  try:
    maze.side_of(len(text))
  except InputError:
    raise InputError(
      f"{path}: line {line}: {column}: expected a square number of "
      f"characters, 4 at least, got {len(text)}; read is one character a cell, "
      f"row by row, each one of '{maze.CHARSET}'."
    ) from None
  ids = {c: maze.WALL_ID + i for i, c in enumerate(maze.CHARSET)}
  question_characters = maze.CHARSET.replace("o", "")
  return puzzle_csv.Form(
    cells=len(text),
    question_ids=puzzle_csv.character_ids(
      {c: ids[c] for c in question_characters}
    ),
    answer_ids=puzzle_csv.character_ids(ids),
    question_characters=f"one of '{question_characters}'",
    answer_characters=f"one of '{maze.CHARSET}'",
    are_right=maze.is_shortest_path,
    error=maze.error,
    length_from=f" (as on line {line} of {path})",
  )


def _are_unique(questions: np.ndarray) -> np.ndarray:
  return np.array([maze.has_one_shortest_path(q) for q in questions])


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.build_maze",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  source.add_flags(parser, DEFAULT_REPO, ("question", "answer"))
  parser.add_argument(
    "--aug",
    action="store_true",
    help="add the 7 other turned and mirrored images of each training maze",
  )
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

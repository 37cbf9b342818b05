"""Generates Sudoku puzzles with exactly one solution.

No two originals are symmetry images of each other, so no test puzzle is an
image of a training puzzle: what a model solves there it has not memorised.
"""

import os
from typing import Any

import numpy as np

from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import (
  sudoku,
  sudoku_augment,
  sudoku_canonical,
  sudoku_solver,
  symmetry,
  writer,
)

# Side of each box shape, and how many blanks a puzzle gets by default.
SIDES = {"2x2": 4, "2x3": 6, "3x3": 9}

BLANKS = {"2x2": (6, 10), "2x3": (14, 22), "3x3": (40, 50)}

# How many 4x4 puzzles with one solution and 0, 1, 2, ... blanks there are, up
# to symmetry; of fewer than four clues there are none.
CLASSES_4X4 = (2, 2, 22, 56, 210, 414, 788, 980, 1040, 711, 376, 96, 13)

# All of its puzzles share one identifier: no row of a table is a puzzle's own.
IDENTIFIERS = ("<blank>",)

# Puzzles drawn at once, at least and at most.
_DRAWS = (128, 1024)

# So many draws in a row without a new class end the search.
_BARREN_DRAWS = 10_000


def generate(
  output_dir: str | os.PathLike,
  *,
  box: str = "2x2",
  num_train: int = 1000,
  num_test: int = 1024,
  num_aug: int = 0,
  blanks: tuple[int, int] | None = None,
  seed: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Generates the data set; the arguments are the command's flags.

  Args:
    output_dir: directory to create.
    box: rows x columns of a box, a key of SIDES.
    num_train: training puzzles, before augmentation.
    num_test: test puzzles.
    num_aug: symmetry images to add to each training puzzle.
    blanks: least and most blank cells of a puzzle, drawn uniformly; None
      takes those of BLANKS.
    seed: of all random choices.
    overwrite: replace a data set that stands there.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument is out of range, or there are not so many puzzles;
      nothing is left behind.
  """
  if box not in SIDES:
    raise InputError(f"--box: expected one of {', '.join(SIDES)}, got {box}.")
  least, most = blanks or BLANKS[box]
  for flag, value, minimum in (
    ("--num-train", num_train, 1),
    ("--num-test", num_test, 1),
    ("--num-aug", num_aug, 0),
    ("--seed", seed, 0),
  ):
    check_least(flag, value, minimum)
  side = SIDES[box]
  _check_blanks(side, least, most, num_train + num_test)
  rng = np.random.default_rng(seed)
  with writer.DatasetWriter(
    output_dir,
    seq_len=side * side,
    vocab_size=sudoku.vocab_size(side),
    overwrite=overwrite,
  ) as dataset:
    puzzles, solutions = make_puzzles(
      rng, num_train + num_test, side, least, most
    )
    splits = {"train": slice(0, num_train), "test": slice(num_train, None)}
    for split, part in splits.items():
      sudoku_augment.write_split(
        dataset,
        split,
        puzzles[part],
        solutions[part],
        num_aug=num_aug if split == "train" else 0,
        rng=rng,
      )
    return dataset.finish(
      identifiers=list(IDENTIFIERS),
      build={
        "builder": "generate_sudoku",
        "puzzle": "sudoku",
        "seed": seed,
        "source": "generated",
        "arguments": {
          "box": box,
          "num_train": num_train,
          "num_test": num_test,
          "num_aug": num_aug,
          "blanks": [least, most],
        },
      },
    )


def make_puzzles(
  rng: np.random.Generator, count: int, side: int, least: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """Makes puzzles with one solution, none a symmetry image of another.

  Args:
    rng: makes all random choices.
    count: N, how many.
    side: digits of a grid.
    least: least number of blanks of a puzzle.
    most: most blanks of a puzzle.

  Returns:
    [N, G] uint8 puzzles and [N, G] uint8 solutions, in random order.

  Raises:
    InputError: the search keeps finding images of what it has.
  """
  found: dict[bytes, list[np.ndarray]] = {}
  barren = 0
  with console.Progress("generating", count, unit="puzzles") as bar:
    while len(found) < count:
      before = len(found)
      draws = int(np.clip(2 * (count - before), *_DRAWS))
      puzzles, solutions = _draw(rng, draws, side, least, most)
      keys = sudoku_canonical.class_keys(puzzles)
      for key, *pair in zip(keys, puzzles, solutions, strict=True):
        if len(found) < count:
          found.setdefault(key, pair)
      if len(found) > before:
        barren = 0
        bar.advance(len(found) - before)
        continue
      barren += draws
      if barren >= _BARREN_DRAWS:
        raise InputError(
          f"expected {count:,} puzzles of side {side} with {least} to {most} "
          f"blanks, none a symmetry image of another, got {before:,} and then "
          f"none in {barren:,} tries; ask for fewer puzzles or for other "
          "--blanks."
        )
  puzzles, solutions = map(np.stack, zip(*found.values(), strict=True))
  # Common classes are found first: without this the test set would be odd.
  order = rng.permutation(count)
  return puzzles[order], solutions[order]


def _check_blanks(side: int, least: int, most: int, count: int) -> None:
  """Refuses what cannot be, before the search begins."""
  # With two digits absent, swapping them would give another solution.
  limit = side * side - (side - 1)
  if not 0 <= least <= most <= limit:
    raise InputError(
      f"--blanks: expected 0 <= least <= most <= {limit} for side {side}, got "
      f"{least} and {most}."
    )
  if side == 4:
    classes = sum(CLASSES_4X4[least : most + 1])
    if count > classes:
      raise InputError(
        f"--num-train and --num-test: expected {classes:,} puzzles in all at "
        f"most, as there are no more 4x4 puzzles with {least} to {most} blanks "
        f"up to symmetry, got {count:,}."
      )


def _draw(
  rng: np.random.Generator, count: int, side: int, least: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws about `count` puzzles with one solution: grids with cells removed."""
  empty = np.full((count, side * side), sudoku.BLANK_ID, np.uint8)
  solutions, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  # The solver prefers some of the images of a grid; this does not.
  symmetries = symmetry.draw_sudoku(rng, count, side)
  solutions = symmetry.transform(symmetries, solutions)
  target = rng.integers(least, most + 1, size=count)
  order = rng.permuted(np.tile(np.arange(side * side), (count, 1)), axis=1)
  puzzles = solutions.copy()
  for cells in order.T:
    blanks = (puzzles == sudoku.BLANK_ID).sum(1)
    open_ = np.flatnonzero(blanks < target)
    trial = puzzles[open_]
    trial[np.arange(len(open_)), cells[open_]] = sudoku.BLANK_ID
    unique = sudoku_solver.count_solutions(trial) == 1
    puzzles[open_[unique]] = trial[unique]
  reached = (puzzles == sudoku.BLANK_ID).sum(1) == target
  return puzzles[reached], solutions[reached]

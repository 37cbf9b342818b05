"""Generates a maze data set in which every maze has one shortest path.

example:
  python -m data_tools.generate_maze --output-dir data/maze-30x30 --aug

No two mazes are turned or mirrored images of each other, so no test maze is
an image of a training maze. Two styles:

  walls   random walls, S and G as far apart as two breadth-first sweeps find,
          then more walls until one shortest path is left; the default
  carved  corridors dug depth-first on a lattice: one way between any two
          cells; quick, for small tests
"""

import argparse
import os
from typing import Any

import numpy as np

from data_tools import maze_augment
from hrm_jax import console
from hrm_jax.console import InputError, check_least
from hrm_jax.data import maze, writer

STYLES = ("walls", "carved")

# More open and paths are short, less and they end early: 1.2 % of 30x30 mazes
# of this density have a path of more than 110 moves.
_WALL_DENSITY = 0.37
# "Hard" in the published 30x30 set: more than 110 moves.
_MIN_MOVES_30 = 111
# So many tries in a row without a new maze end the search.
_BARREN_TRIES = 20_000


def generate(
  output_dir: str | os.PathLike,
  *,
  size: int = 30,
  num_train: int = 1000,
  num_test: int = 1000,
  style: str = "walls",
  min_moves: int | None = None,
  aug: bool = False,
  seed: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Generates the data set; the arguments are the command's flags.

  Args:
    output_dir: directory to create.
    size: side of a maze.
    num_train: training mazes, before augmentation.
    num_test: test mazes.
    style: one of STYLES.
    min_moves: least length of a shortest path; None takes
      `default_min_moves`.
    aug: add the 7 images of each training maze.
    seed: of all random choices.
    overwrite: replace a data set that stands there.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument is out of range, or there are not so many mazes;
      nothing is left behind.
  """
  if style not in STYLES:
    raise InputError(
      f"--style: expected one of {', '.join(STYLES)}, got {style}."
    )
  for flag, value, least in (
    ("--size", size, 3),
    ("--num-train", num_train, 1),
    ("--num-test", num_test, 1),
    ("--min-moves", min_moves, 1),
    ("--seed", seed, 0),
  ):
    check_least(flag, value, least)
  if min_moves is None:
    min_moves = default_min_moves(size)
  rng = np.random.default_rng(seed)
  with writer.DatasetWriter(
    output_dir,
    seq_len=size * size,
    vocab_size=maze.VOCAB_SIZE,
    overwrite=overwrite,
  ) as dataset:
    questions, answers = make_mazes(
      rng, num_train + num_test, size, style=style, min_moves=min_moves
    )
    splits = {"train": slice(0, num_train), "test": slice(num_train, None)}
    for split, part in splits.items():
      maze_augment.write_split(
        dataset,
        split,
        questions[part],
        answers[part],
        aug=aug and split == "train",
      )
    return dataset.finish(
      identifiers=["<blank>"],
      build={
        "builder": "generate_maze",
        "puzzle": "maze",
        "seed": seed,
        "source": "generated",
        "arguments": {
          "size": size,
          "style": style,
          "min_moves": min_moves,
          "aug": aug,
        },
      },
    )


def default_min_moves(size: int) -> int:
  """The least moves of a "hard" maze: the published 111, by its area."""
  return max(1, _MIN_MOVES_30 * size * size // 900)


def make_mazes(
  rng: np.random.Generator,
  count: int,
  size: int,
  *,
  style: str,
  min_moves: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Makes mazes with one shortest path, none an image of another.

  Args:
    rng: makes all random choices.
    count: N, how many.
    size: side of a maze.
    style: one of STYLES.
    min_moves: least length of a shortest path.

  Returns:
    [N, G] uint8 questions and [N, G] uint8 answers.

  Raises:
    InputError: the search keeps finding short paths, or images of what it
      has.
  """
  found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
  barren = 0
  with console.Progress("generating", count, unit="mazes") as bar:
    while len(found) < count:
      if barren >= _BARREN_TRIES:
        raise InputError(
          f"expected {count:,} mazes of side {size} with at least {min_moves} "
          f"moves, none an image of another, got {len(found):,} and then none "
          f"in {barren:,} tries; ask for fewer mazes, a lower --min-moves or "
          "a larger --size."
        )
      barren += 1
      pair = _draw(rng, size, style, min_moves)
      if pair is None:
        continue
      key = maze_augment.class_key(pair[0])
      if key not in found:
        found[key] = pair
        barren = 0
        bar.advance()
  questions, answers = zip(*found.values(), strict=True)
  return np.stack(questions), np.stack(answers)


def _draw(
  rng: np.random.Generator, size: int, style: str, min_moves: int
) -> tuple[np.ndarray, np.ndarray] | None:
  """Draws a maze and its answer, both [G]; None if its path is too short."""
  cells = _carve(rng, size) if style == "carved" else _scatter(rng, size)
  open_ = maze.board_of(cells)
  if not open_:
    return None
  # The cell farthest from any cell is an end of a long path.
  seed = _one_of(rng, open_)
  start = _one_of(rng, maze.waves_from(open_, seed, size)[-1])
  waves = maze.waves_from(open_, start, size)
  if len(waves) - 1 < min_moves:
    return None
  goal = _one_of(rng, waves[-1])
  while True:
    levels = maze.search(open_, start, goal, size).levels
    choices = [level for level in levels if level.bit_count() > 1]
    if not choices:
      break
    # Another cell of the same level keeps the distance as it is.
    open_ ^= _one_of(rng, choices[rng.integers(len(choices))])
  question = np.where(
    maze.cells_of(open_, size), maze.FREE_ID, maze.WALL_ID
  ).astype(np.uint8)
  question[maze.cells_of(start, size)] = maze.START_ID
  question[maze.cells_of(goal, size)] = maze.GOAL_ID
  answer = question.copy()
  for level in levels[1:-1]:
    answer[maze.cells_of(level, size)] = maze.PATH_ID
  return question.ravel(), answer.ravel()


def _one_of(rng: np.random.Generator, board: int) -> int:
  """A board with one cell of `board`, drawn uniformly."""
  for _ in range(rng.integers(board.bit_count())):
    board &= board - 1
  return board & -board


def _scatter(rng: np.random.Generator, size: int) -> np.ndarray:
  """[n, n] bool: cells that are open, independently of each other."""
  return rng.random((size, size)) >= _WALL_DENSITY


def _carve(rng: np.random.Generator, size: int) -> np.ndarray:
  """[n, n] bool: a tree of corridors through every second row and column."""
  rooms = (size + 1) // 2
  cells = np.zeros((size, size), bool)
  row, column = (2 * int(i) for i in rng.integers(rooms, size=2))
  cells[row, column] = True
  way = [(row, column)]
  while way:
    row, column = way[-1]
    closed = [
      (row + down, column + right)
      for down, right in ((-2, 0), (2, 0), (0, -2), (0, 2))
      if 0 <= row + down < size
      and 0 <= column + right < size
      and not cells[row + down, column + right]
    ]
    if not closed:
      way.pop()
      continue
    new_row, new_column = closed[rng.integers(len(closed))]
    cells[(row + new_row) // 2, (column + new_column) // 2] = True
    cells[new_row, new_column] = True
    way.append((new_row, new_column))
  return cells


def main() -> None:
  """Reads the flags, generates, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.generate_maze",
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
  add("--size", type=int, default=30, help="side (default: %(default)s)")
  add("--num-train", type=int, default=1000, help="default: %(default)s")
  add("--num-test", type=int, default=1000, help="default: %(default)s")
  add("--style", choices=STYLES, default="walls", help="default: %(default)s")
  add(
    "--min-moves",
    type=int,
    help="least length of a shortest path (default: "
    f"{_MIN_MOVES_30} for size 30, for others by their area)",
  )
  add(
    "--aug",
    action="store_true",
    help="add the 7 other turned and mirrored images of each training maze",
  )
  add(
    "--seed",
    type=int,
    default=0,
    help="seed of all random choices (default: 0)",
  )
  add("--overwrite", action="store_true", help="replace an existing data set")
  flags = vars(parser.parse_args())
  built = generate(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

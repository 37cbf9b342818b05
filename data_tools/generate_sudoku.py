"""Generates a Sudoku data set of puzzles with exactly one solution.

example:
  python -m data_tools.generate_sudoku --output-dir data/sudoku-4x4 \\
    --box 2x2 --num-train 1000 --num-test 1024 --num-aug 100

No two originals are symmetry images of each other, so no test puzzle is an
image of a training puzzle: what a model solves there it has not memorised.
"""

import argparse
import re

from hrm_jax import console
from hrm_jax.data import sudoku_generator
from hrm_jax.data.sudoku_generator import BLANKS


def _parse_blanks(text: str) -> tuple[int, int]:
  """Reads `8` or `6-10`."""
  match = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", text)
  if match is None:
    raise argparse.ArgumentTypeError(f"expected N or N-N, got {text!r}")
  return int(match[1]), int(match[2] or match[1])


def main() -> None:
  """Reads the flags, generates, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.generate_sudoku",
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
    "--box",
    choices=tuple(sudoku_generator.SIDES),
    default="2x2",
    help="rows x columns of a box (default: %(default)s)",
  )
  add("--num-train", type=int, default=1000, help="default: %(default)s")
  add("--num-test", type=int, default=1024, help="default: %(default)s")
  add(
    "--num-aug",
    type=int,
    default=0,
    help="symmetry images to add to each training puzzle (default: 0)",
  )
  add(
    "--blanks",
    type=_parse_blanks,
    metavar="N[-N]",
    help="blank cells of a puzzle, or their range (default: "
    + ", ".join(
      f"{low}-{high} for {box}" for box, (low, high) in BLANKS.items()
    )
    + ")",
  )
  add(
    "--seed",
    type=int,
    default=0,
    help="seed of all random choices (default: 0)",
  )
  add("--overwrite", action="store_true", help="replace an existing data set")
  flags = vars(parser.parse_args())
  built = sudoku_generator.generate(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

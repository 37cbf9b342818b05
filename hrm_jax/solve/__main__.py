"""Solves Sudoku puzzles with a trained network.

example: python -m hrm_jax.solve --workdir=runs/sudoku-mini .41..3.231....31

A puzzle is its cells row by row, `.` or `0` for a blank. With --json the last
line of stdout is one JSON object.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import saved_steps
from hrm_jax.checkpoint.load import Trained, load
from hrm_jax.console import InputError
from hrm_jax.data import sudoku
from hrm_jax.machines import compilation_cache
from hrm_jax.solve import solver
from hrm_jax.solve.segments import HALT_MODES
from hrm_jax.solve.solver import Solution

EXAMPLE = (
  "python -m hrm_jax.solve --workdir=runs/sudoku-mini '.41..3.231....31'"
)


def side_of(trained: Trained) -> int:
  """The side of the Sudokus that a checkpoint solves.

  Raises:
    InputError: it was trained on something else.
  """
  side = sudoku.side_of(trained.metadata.seq_len, "this checkpoint's puzzle")
  if trained.metadata.vocab_size != sudoku.vocab_size(side):
    raise InputError(
      f"this checkpoint does not solve Sudokus: expected vocab_size="
      f"{sudoku.vocab_size(side)} for side {side}, got "
      f"{trained.metadata.vocab_size}."
    )
  return side


def read_puzzles(args: argparse.Namespace, side: int) -> np.ndarray:
  """Reads the puzzles from arguments, file or stdin: [n, G] token ids.

  Raises:
    InputError: no puzzle, or one that is not a puzzle of this side.
  """
  named = [(f"puzzle {i}", text) for i, text in enumerate(args.puzzles, 1)]
  if args.file is not None:
    named += _lines(args.file)
    if not named:
      raise InputError(f"{args.file}: expected a puzzle a line, got none.")
  if not named and not sys.stdin.isatty():
    named += _numbered("stdin", sys.stdin.read())
  if not named:
    raise InputError(f"no puzzle given; for example: {EXAMPLE}")
  puzzles = []
  for name, text in named:
    puzzle = sudoku.parse(text, side=side, name=name)
    sudoku.check_clues(puzzle, name)
    puzzles.append(puzzle)
  return np.stack(puzzles)


def _lines(path: pathlib.Path) -> list[tuple[str, str]]:
  try:
    return _numbered(str(path), path.read_text(encoding="utf-8-sig"))
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  except UnicodeDecodeError:
    raise InputError(f"{path}: expected text, a puzzle a line.") from None


def _numbered(source: str, text: str) -> list[tuple[str, str]]:
  lines = enumerate(text.splitlines(), 1)
  return [(f"{source}: line {i}", line) for i, line in lines if line.strip()]


def show(solution: Solution, *, trace: bool) -> None:
  """Prints one solution for a person."""
  if trace:
    for segment, grid in enumerate(solution.trace, 1):
      print(f"after segment {segment}:\n{sudoku.format_grid(grid)}\n")
  facts = solution.to_json()
  print(f"puzzle:\n{sudoku.format_grid(solution.puzzle)}\n")
  print(f"answer:\n{sudoku.format_grid(solution.trace[-1])}\n")
  print(f"segments used: {facts['segments']}")
  print(f"halting probability: {solution.halt_probability:.3f}")
  print(f"obeys the rules: {'yes' if facts['obeys_rules'] else 'no'}")
  print(f"keeps the clues: {'yes' if facts['keeps_clues'] else 'no'}\n")


def _with_progress(
  solutions: Iterator[Solution], total: int
) -> Iterator[Solution]:
  with console.Progress("solve", total, unit="puzzles") as bar:
    for solution in solutions:
      yield solution
      bar.advance()


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.solve",
    description="Solves Sudoku puzzles with a trained network.",
    epilog=f"example: {EXAMPLE}",
  )
  add = parser.add_argument
  add("puzzles", nargs="*", help="cells row by row, '.' or '0' for a blank")
  add("--workdir", type=pathlib.Path, required=True, help="of the run")
  add(
    "--step",
    type=saved_steps.step_argument,
    help="which checkpoint, or 'best'; default: the newest",
  )
  add("--file", type=pathlib.Path, help="a puzzle a line; default: stdin")
  add("--halt", choices=HALT_MODES, default="act", help="default: act")
  add(
    "--trace",
    action="store_true",
    help="the answer after every segment; ? is a token that is no cell",
  )
  add("--json", action="store_true", help="print one JSON object instead")
  args = parser.parse_args()

  compilation_cache.use(compilation_cache.of_user())
  trained = load(args.workdir, args.step)
  puzzles = read_puzzles(args, side_of(trained))
  # Small sets get a small program; large ones the run's batch.
  batch_size = min(len(puzzles), trained.config.global_batch_size)
  solutions = solver.solve(
    trained, puzzles, halt=args.halt, batch_size=batch_size
  )
  if len(puzzles) > batch_size:
    solutions = _with_progress(solutions, len(puzzles))
  if args.json:
    found = [solution.to_json() for solution in solutions]
    console.print_json({"step": trained.step, "puzzles": found})
    return
  for solution in solutions:
    show(solution, trace=args.trace)


if __name__ == "__main__":
  console.run(main)

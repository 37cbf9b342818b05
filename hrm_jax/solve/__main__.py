"""Solves puzzles with a trained network.

example: python -m hrm_jax.solve --workdir=runs/sudoku-mini .41..3.231....31

Puzzles come as arguments, from a file or from stdin, in any form that
`data.sudoku_text` reads. With --json the last line of stdout is one JSON
object.
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import flags
from hrm_jax.console import InputError
from hrm_jax.data import puzzle_text, sudoku_text
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.sudoku_text import Line
from hrm_jax.machines import compilation_cache, out_of_memory, platform
from hrm_jax.solve import by_votes, ensemble, report
from hrm_jax.solve.ensemble import Ensemble
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.segments import HALT_MODES
from hrm_jax.solve.solver import Solution, Solver

EXAMPLE = (
  "python -m hrm_jax.solve --workdir=runs/sudoku-mini '.41..3.231....31'"
)


def read_puzzles(
  args: argparse.Namespace, text: PuzzleText, cells: int
) -> np.ndarray:
  """Reads the puzzles from arguments, file or stdin: [n, G] token ids.

  Args:
    args: the command line.
    text: how the kind of puzzle that the checkpoint solves is read.
    cells: G.

  Raises:
    InputError: no puzzle, or one that is not a puzzle of this size.
  """
  sources = []
  if args.puzzles:
    sources.append(
      ("the arguments", list(_lines_of_arguments(args.puzzles, cells)))
    )
  if args.file is not None:
    sources.append((str(args.file), _lines_of_file(args.file)))
  if not sources and not (sys.stdin is None or sys.stdin.isatty()):
    lines = _lines_of_stdin()
    if any(line.strip() for _, line in lines):
      sources.append(("stdin", lines))
  puzzles = []
  for source, lines in sources:
    found = text.read(lines, cells)
    if not found:
      raise InputError(
        f"{source}: expected puzzles of {cells} cells, got none; read is "
        f"{text.forms}."
      )
    puzzles += [puzzle for _, puzzle in found]
  if not puzzles:
    raise InputError(f"no puzzle given; for example: {EXAMPLE}")
  return np.stack(puzzles)


def _lines_of_arguments(puzzles: list[str], cells: int) -> Iterator[Line]:
  """The rows of one grid may come as several arguments."""
  for i, puzzle in enumerate(puzzles, 1):
    if not puzzle.strip():
      raise InputError(f"puzzle {i}: expected {cells} cells, got 0.")
    yield from ((f"puzzle {i}", line) for line in puzzle.splitlines())


def _lines_of_file(path: pathlib.Path) -> list[Line]:
  try:
    data = path.read_bytes()
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  name = str(path)
  return puzzle_text.numbered(name, puzzle_text.decoded(data, name))


def _lines_of_stdin() -> list[Line]:
  binary = getattr(sys.stdin, "buffer", None)
  if binary is None:
    return puzzle_text.numbered("stdin", sys.stdin.read())
  text = puzzle_text.decoded(binary.read(), "stdin")
  return puzzle_text.numbered("stdin", text)


def _with_progress(
  solutions: Iterator[Solution], total: int
) -> Iterator[Solution]:
  with console.Progress("solve", total, unit="puzzles") as bar:
    for solution in solutions:
      yield solution
      bar.advance()


def _parser() -> console.ArgumentParser:
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.solve",
    description="Solves Sudoku puzzles with a trained network. Puzzles are "
    f"read as {sudoku_text.FORMS}; the form is told by the content.",
    epilog=f"example: {EXAMPLE}",
  )
  add = parser.add_argument
  add(
    "puzzles",
    nargs="*",
    help="the cells row by row, '.' or '0' for a blank, or the rows of a grid",
  )
  flags.add_run(parser, instead="model")
  add(
    "--file",
    type=console.path,
    metavar="FILE",
    help="puzzles as text; default: stdin",
  )
  add(
    "--halt",
    choices=HALT_MODES,
    default="act",
    help="full: every puzzle gets all segments; act: each until it wants to "
    "halt; default: act",
  )
  add(
    "--segments",
    type=int,
    metavar="N",
    help="most segments that a puzzle gets, whichever way it halts, more or "
    "fewer than in training; default: the config's model.halt_max_steps",
  )
  add(
    "--trace",
    action="store_true",
    help="the answer after every segment; ? is a token that is no cell",
  )
  add("--json", action="store_true", help="print one JSON object instead")
  ensemble.add_flags(parser)
  return parser


def main() -> None:
  """The command line."""
  args = _parser().parse_args()
  flags.check_run(args)
  console.check_least("--segments", args.segments, 1)
  tried = ensemble.from_flags(args)

  platform.check()
  compilation_cache.use(compilation_cache.of_user())
  what_helps: list[str] = []  # Known once the puzzles are.
  with out_of_memory.told("solving", lambda: what_helps):
    _solve(args, tried, what_helps)


def _solve(
  args: argparse.Namespace, tried: Ensemble | None, what_helps: list[str]
) -> None:
  networks = ensemble.networks(args, tried)
  trained = next(networks)
  kind = puzzle_text.kind_of_checkpoint(
    trained.metadata, trained.run.get("puzzle")
  )
  text = puzzle_text.OF_KIND[kind]
  puzzles = read_puzzles(args, text, trained.metadata.seq_len)
  model = with_segments(trained.model, args.segments)
  # Small sets get a small program; large ones the run's batch.
  batch_size = trained.config.global_batch_size
  if len(puzzles) > 1:
    at_a_time = min(len(puzzles), batch_size)
    what_helps.append(f"fewer than {at_a_time:,} puzzles at once")
  if tried is None:
    solver = Solver(
      trained._replace(model=model), halt=args.halt, batch_size=batch_size
    )
    solutions = solver(puzzles)
  else:
    solutions = by_votes.solve(
      itertools.chain([trained], networks),
      puzzles,
      None,
      by_votes.settings_of(
        tried,
        kind,
        trained.metadata.seq_len,
        halt=args.halt,
        segments=args.segments,
        batch_size=batch_size,
      ),
    )
  if len(puzzles) > batch_size:
    solutions = _with_progress(solutions, len(puzzles))
  if args.json:
    found = [report.as_json(solution, text) for solution in solutions]
    console.print_json(
      {
        "step": trained.step,
        "segments": model.halt_max_steps,
        "puzzles": found,
      }
    )
    return
  for solution in solutions:
    print(report.as_text(solution, text, trace=args.trace))


if __name__ == "__main__":
  console.run(main)

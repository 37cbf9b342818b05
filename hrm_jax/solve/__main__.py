"""Solves puzzles with a trained network: see docs/solve.md.

Puzzles come as arguments, from a file or from stdin, in any form that
`data.puzzle_text` reads for their kind. With --json the last line of stdout is
one JSON object.
"""

import argparse
import itertools
from collections.abc import Iterator

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import flags
from hrm_jax.console import Pen, film
from hrm_jax.console.pen import colour_on_stdout, escape_on_stdout
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question
from hrm_jax.machines import compilation_cache, out_of_memory, platform
from hrm_jax.solve import by_votes, ensemble, report, sources, table_rows
from hrm_jax.solve.ensemble import Ensemble
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.segments import HALT_MODES
from hrm_jax.solve.solver import Solution, Solver

# How long a person can look at it on a terminal.
_SECONDS_FOR_A_SEGMENT, _MOST_SECONDS = 0.5, 4.0

EXAMPLES = """examples:
  python -m hrm_jax.solve --workdir=runs/sudoku-mini '.41..3.231....31'
  python -m hrm_jax.solve --workdir=runs/maze-1k --file=maze.txt --trace
  python -m hrm_jax.solve --workdir=runs/arc-1 --file=007bbfb7.json
  python -m hrm_jax.solve --model=hf://ORG/NAME@main --file=puzzles.sdm"""


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
    description="Solves puzzles with a trained network: Sudokus, mazes, ARC "
    "tasks, grids of\nyour own task. The network says of which kind they are, "
    "and their content in\nwhich form; docs/solve.md lists the forms.",
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "puzzles",
    nargs="*",
    metavar="PUZZLE",
    help="the cells row by row, such as '.' or '0' for a blank of a Sudoku, or "
    "the rows of a grid",
  )
  flags.add_run(parser, instead="model")
  add(
    "--file",
    type=console.path,
    metavar="FILE",
    help="puzzles as text, ARC tasks as JSON; default: stdin",
  )
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set that the network was trained on, which has the names "
    "of tasks; default: the run's",
  )
  add(
    "--identifier",
    metavar="NAME",
    help="the task that the network is asked for, a name in the data set's "
    "identifiers.json, or '<blank>' for none; default: the puzzle's own",
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
    help="the answer after every segment, in one place on a terminal that "
    "has colours; ? is a token that is no cell",
  )
  add("--json", action="store_true", help="print one JSON object instead")
  ensemble.add_flags(parser)
  return parser


def main() -> None:
  """The command line."""
  args = _parser().parse_args()
  flags.check_run(args)
  console.check_least("--segments", args.segments, 1, below=10_001)
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
  text = sources.text_of(args, trained)
  questions = sources.read(args, text)
  rows, names = table_rows.of_questions(args, trained, questions)
  puzzles = np.stack([question.tokens for question in questions])
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
    solutions = solver(puzzles, rows)
  else:
    solutions = by_votes.solve(
      itertools.chain([trained], networks),
      puzzles,
      rows,
      by_votes.settings_of(
        tried,
        text.kind,
        trained.metadata.seq_len,
        halt=args.halt,
        segments=args.segments,
        batch_size=batch_size,
        names=names,
      ),
    )
  # A bar would tear what is drawn again and again.
  is_film = args.trace and not args.json and colour_on_stdout()
  if len(puzzles) > batch_size and not is_film:
    solutions = _with_progress(solutions, len(puzzles))
  answered = zip(questions, solutions, strict=True)
  if args.json:
    found = [report.as_json(*each, text) for each in answered]
    console.print_json(
      {
        "step": trained.step,
        "kind": text.kind,
        "segments": model.halt_max_steps,
        "puzzles": found,
      }
    )
    return
  escape_on_stdout()
  for each in answered:
    _show(*each, text, trace=args.trace)


def _show(
  question: Question, solution: Solution, text: PuzzleText, *, trace: bool
) -> None:
  """Prints a solution; a trace in one place, where that can be drawn."""
  in_colour = colour_on_stdout()
  pen = Pen(in_colour)
  frames = report.after_segments(solution, text, pen)
  if not (trace and in_colour and film.fits(frames)):
    print(report.as_text(question, solution, text, pen, trace=trace))
    return
  print(report.asked(question, solution, text, pen))
  film.play(frames, min(_SECONDS_FOR_A_SEGMENT, _MOST_SECONDS / len(frames)))
  print(report.answered(question, solution, text, pen))


if __name__ == "__main__":
  console.run(main)

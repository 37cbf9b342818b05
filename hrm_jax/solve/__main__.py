"""Solves Sudoku puzzles with a trained network.

example: python -m hrm_jax.solve --workdir=runs/sudoku-mini .41..3.231....31

A puzzle is its cells row by row, `.` or `0` for a blank. With --json the last
line of stdout is one JSON object.
"""

import argparse
import functools
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import saved_steps, store
from hrm_jax.checkpoint.store import Trained
from hrm_jax.console import InputError
from hrm_jax.data import sudoku
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch
from hrm_jax.machines import compilation_cache
from hrm_jax.model import halting as act
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import continuous_batching, inference

EXAMPLE = (
  "python -m hrm_jax.solve --workdir=runs/sudoku-mini '.41..3.231....31'"
)


class Solution(NamedTuple):
  """What the network makes of one puzzle.

  Attributes:
    puzzle: [G] token ids.
    trace: [segments, G] token ids, its answer after each segment.
    halt_probability: sigmoid(q_halt) at the last segment: how sure it is
      that the answer is right.
  """

  puzzle: np.ndarray
  trace: np.ndarray
  halt_probability: float

  def to_json(self) -> dict[str, Any]:
    """The solution as JSON types; grids become text."""
    answer = self.trace[-1]
    return {
      "puzzle": sudoku.to_text(self.puzzle),
      "answer": sudoku.to_text(answer),
      "segments": len(self.trace),
      "halt_probability": self.halt_probability,
      "obeys_rules": bool(sudoku.obeys_rules(answer)),
      "keeps_clues": bool(sudoku.keeps_clues(self.puzzle, answer)),
      "trace": [sudoku.to_text(grid) for grid in self.trace],
    }


def solve(
  trained: Trained, puzzles: np.ndarray, *, halt: str, batch_size: int
) -> Iterator[Solution]:
  """Solves puzzles; yields the solutions in their order, as they come.

  Args:
    trained: a checkpoint of a Sudoku run.
    puzzles: [n, G] token ids.
    halt: "full" or "act", see `act.run_segments`. With "act" a row whose
      puzzle is solved takes the next one, see `refill`.
    batch_size: rows that think at a time.
  """
  size, answer = batch_size, _answer_batch
  if halt == "act":
    batches = -(-len(puzzles) // batch_size)
    size *= min(batches, continuous_batching.PUZZLES_PER_ROW)
    answer = functools.partial(_answer_queue, num_rows=batch_size)
  run = jax.jit(functools.partial(answer, trained.model))
  pending = None
  for start in range(0, len(puzzles), size):
    rows = puzzles[start : start + size]
    padded = _pad(rows, size, trained)
    result = run(trained.weights, padded, np.int32(len(rows)))
    if pending is not None:  # Read while the device works on the next.
      yield from _solutions(*pending)
    pending = rows, result
  if pending is not None:
    yield from _solutions(*pending)


def _answer_batch(model: HRM, weights: Weights, batch: Batch, _):
  """Segments [B], answers [B, segments, G] and q_halt [B], all rows alike."""
  answer = inference.solve(model, weights, batch, halt="full", observe=_tokens)
  trace = jnp.moveaxis(answer.trace, 0, 1)
  return answer.steps, trace, answer.output.q_halt_logits


def _answer_queue(
  model: HRM, weights: Weights, queue: Batch, count: jax.Array, *, num_rows: int
):
  """The same of the first `count` puzzles, each halting by itself."""
  ids = queue["puzzle_identifiers"]
  rows = gather_puzzle_rows(model, weights, ids)
  answers = inference.solve_queue(
    model,
    weights,
    {**queue, "puzzle_rows": rows},
    count,
    num_rows=num_rows,
    keep=lambda output, steps, puzzles: output.q_halt_logits,
    observe=lambda output, puzzles: _tokens(output),
  )
  return answers.steps, answers.trace, answers.kept


def _tokens(output: SegmentOutput) -> jax.Array:
  return jnp.argmax(output.logits, -1)


def _solutions(puzzles: np.ndarray, result) -> Iterator[Solution]:
  steps, trace, q_halt = jax.device_get(result)
  halting = jax.device_get(jax.nn.sigmoid(q_halt))
  for i, puzzle in enumerate(puzzles):
    yield Solution(puzzle, trace[i, : steps[i]], float(halting[i]))


def _pad(rows: np.ndarray, size: int, trained: Trained) -> Batch:
  # One shape for all batches, so that one compiled program serves them.
  missing = size - len(rows)
  inputs = np.pad(
    rows.astype(np.int32),
    ((0, missing), (0, 0)),
    constant_values=trained.metadata.pad_id,
  )
  blank = trained.metadata.blank_identifier_id
  return Batch(
    inputs=inputs,
    labels=np.full_like(inputs, IGNORE_LABEL_ID),
    puzzle_identifiers=np.full(size, blank, np.int32),
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
  add("--halt", choices=act.HALT_MODES, default="act", help="default: act")
  add(
    "--trace",
    action="store_true",
    help="the answer after every segment; ? is a token that is no cell",
  )
  add("--json", action="store_true", help="print one JSON object instead")
  args = parser.parse_args()

  compilation_cache.use(compilation_cache.of_user())
  trained = store.load(args.workdir, args.step)
  puzzles = read_puzzles(args, side_of(trained))
  # Small sets get a small program; large ones the run's batch.
  batch_size = min(len(puzzles), trained.config.global_batch_size)
  solutions = solve(trained, puzzles, halt=args.halt, batch_size=batch_size)
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

"""Tokens in, solutions out."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.data import sudoku
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import continuous_batching, inference


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
    halt: "full" or "act", see `segments.run_segments`. With "act" a row whose
      puzzle is solved takes the next one, see `continuous_batching`.
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
  return answer.segments, trace, answer.output.q_halt_logits


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
    keep=lambda output, segments, puzzles: output.q_halt_logits,
    observe=lambda output, puzzles: _tokens(output),
  )
  return answers.segments, answers.trace, answers.kept


def _tokens(output: SegmentOutput) -> jax.Array:
  return jnp.argmax(output.logits, -1)


def _solutions(puzzles: np.ndarray, result) -> Iterator[Solution]:
  segments, trace, q_halt = jax.device_get(result)
  halting = jax.device_get(jax.nn.sigmoid(q_halt))
  for i, puzzle in enumerate(puzzles):
    yield Solution(puzzle, trace[i, : segments[i]], float(halting[i]))


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

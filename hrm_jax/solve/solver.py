"""One solver for every kind of puzzle: tokens in, tokens and trace out.

It knows no text and no rules. Commands, benchmarks and whatever else wants
answers one puzzle at a time ask it; only scoring a whole split sums on the
devices instead (`evaluate`), over the same loops.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch, pad_batch
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import continuous_batching, inference
from hrm_jax.solve.segments import check_halt

Asked = TypeVar("Asked")


class Solution(NamedTuple):
  """What the network makes of one puzzle.

  Attributes:
    puzzle: [G] token ids.
    trace: [segments, G] int32 token ids, its answer after each segment.
    q_halt: what halting was worth to it after the last segment, a logit.
    q_continue: what thinking on was worth.
    halt_probability: sigmoid(q_halt): how sure it is that the answer is right.
    attempts: at the puzzle, of which this is one; see `ensemble`.
    votes: how many of them gave its answer.
  """

  puzzle: np.ndarray
  trace: np.ndarray
  q_halt: float
  q_continue: float
  halt_probability: float
  attempts: int = 1
  votes: int = 1

  @property
  def answer(self) -> np.ndarray:
    """[G] int32 token ids, the last of the trace."""
    return self.trace[-1]

  @property
  def segments(self) -> int:
    """How many segments the puzzle took."""
    return len(self.trace)


class Solver:
  """Answers puzzles with trained weights; compiles once for each batch size.

  Args:
    trained: a checkpoint; its model says how many segments a puzzle gets at
      most, see `inference.with_segments`.
    halt: "full" or "act", see `segments.run_segments`. With "act" a row whose
      puzzle halts takes the next one, see `continuous_batching`.
    batch_size: rows that think at a time; fewer where there are fewer puzzles.

  Raises:
    ValueError: unknown `halt`.
  """

  def __init__(self, trained: Trained, *, halt: str, batch_size: int):
    check_halt(halt)
    self._trained, self._halt, self._batch_size = trained, halt, batch_size
    answer = _answer_batch if halt == "full" else _answer_queue
    self._answer = jax.jit(
      functools.partial(answer, trained.model), static_argnames="num_rows"
    )

  def __call__(
    self, puzzles: np.ndarray, puzzle_identifiers: np.ndarray | None = None
  ) -> Iterator[Solution]:
    """Yields the solutions in the order of the puzzles, as they come.

    Args:
      puzzles: [n, G] token ids.
      puzzle_identifiers: [n], rows of the puzzle table; None: none has one.
    """
    if puzzle_identifiers is None:
      blank = self._trained.metadata.blank_identifier_id
      puzzle_identifiers = np.full(len(puzzles), blank)
    size = self.rows_at_a_time(len(puzzles))
    starts = range(0, len(puzzles), size)
    num_rows = min(self._batch_size, size)

    def run(start: int) -> Any:
      part = slice(start, start + size)
      inputs = puzzles[part].astype(np.int32)
      asked = Batch(
        inputs=inputs,
        labels=np.full_like(inputs, IGNORE_LABEL_ID),
        puzzle_identifiers=puzzle_identifiers[part],
      )
      # One shape for all batches, so that one compiled program serves them.
      padded = pad_batch(asked, size, self._trained.metadata)
      count = np.int32(len(inputs))
      return self._answer(
        self._trained.weights, padded, count, num_rows=num_rows
      )

    for start, result in one_behind(run, starts):
      yield from _solutions(puzzles[start : start + size], result)

  def rows_at_a_time(self, count: int) -> int:
    """How many of `count` puzzles go to the device at once, with padding."""
    rows = max(min(self._batch_size, count), 1)
    if self._halt == "full":
      return rows
    batches = max(-(-count // rows), 1)
    return rows * min(batches, continuous_batching.PUZZLES_PER_ROW)


def one_behind(
  run: Callable[[Asked], Any], items: Iterable[Asked]
) -> Iterator[tuple[Asked, Any]]:
  """Yields each item with its result, after the next one has been handed over.

  So the device works on the next batch while the host reads the last.

  Args:
    run: hands an item to the device; returns at once.
    items: what to run, in order.
  """
  pending = None
  for item in items:
    result = run(item)
    if pending is not None:
      yield pending
    pending = item, result
  if pending is not None:
    yield pending


def _answer_batch(
  model: HRM, weights: Weights, batch: Batch, count: jax.Array, *, num_rows: int
) -> tuple[jax.Array, ...]:
  """Answers all rows at once; every row runs all segments.

  It takes the arguments of `_answer_queue`, so that the solver can call either.

  Args:
    model: the network.
    weights: trained ones.
    batch: B puzzles, padding included.
    count: how many are puzzles; not used, because padding is computed too.
    num_rows: not used, because all B rows are computed at once.

  Returns:
    Segments [B], answers [B, halt_max_steps, G], q_halt [B], q_continue [B].
  """
  del count, num_rows
  answer = inference.solve(model, weights, batch, halt="full", observe=_tokens)
  trace = jnp.moveaxis(answer.trace, 0, 1)
  output = answer.output
  return answer.segments, trace, output.q_halt_logits, output.q_continue_logits


def _answer_queue(
  model: HRM, weights: Weights, queue: Batch, count: jax.Array, *, num_rows: int
) -> tuple[jax.Array, ...]:
  """Answers a queue of puzzles; a row that halts takes the next one.

  Args:
    model: the network.
    weights: trained ones.
    queue: N puzzles, padding last.
    count: [], how many are puzzles; the padding after them is not computed.
    num_rows: B, how many are computed at a time.

  Returns:
    Segments [N], answers [N, halt_max_steps, G], q_halt [N], q_continue [N]. An
    answer of a puzzle that took fewer segments is valid up to that many.
  """
  ids = queue["puzzle_identifiers"]
  rows = gather_puzzle_rows(model, weights, ids)
  answers = inference.solve_queue(
    model,
    weights,
    {**cast("Any", queue), "puzzle_rows": rows},
    count,
    num_rows=num_rows,
    keep=lambda output, segments, puzzles: (
      output.q_halt_logits,
      output.q_continue_logits,
    ),
    observe=lambda output, puzzles: _tokens(output),
  )
  return answers.segments, answers.trace, *answers.kept


def _tokens(output: SegmentOutput) -> jax.Array:
  return jnp.argmax(output.logits, -1)


def _solutions(puzzles: np.ndarray, result: Any) -> Iterator[Solution]:
  segments, trace, q_halt, q_continue = jax.device_get(result)
  halting = jax.device_get(jax.nn.sigmoid(q_halt))
  for i, puzzle in enumerate(puzzles):
    yield Solution(
      puzzle,
      trace[i, : segments[i]],
      float(q_halt[i]),
      float(q_continue[i]),
      float(halting[i]),
    )

"""Records what a network answers after every segment, and how sure it is.

The loop is that of `evaluate --halt=full`, so the answers are the same. Where a
puzzle would have halted by itself follows from the halting values.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint.load import Trained
from hrm_jax.data.evaluation_batches import EvaluationBatch, EvaluationData
from hrm_jax.data.puzzle import Batch
from hrm_jax.model import losses
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.weights import Weights
from hrm_jax.solve import inference
from hrm_jax.solve.solver import one_behind


class Recording(NamedTuple):
  """What became of N puzzles in S segments.

  Attributes:
    inputs: [N, G] int32 token ids.
    labels: [N, G] int32 token ids, or IGNORE_LABEL_ID.
    puzzle_identifiers: [N] int32.
    answers: [N, S, G] int32, the likeliest token after each segment.
    confidence: [N, S, G] uint8, its probability in percent, by the function
      that the network was trained with (stablemax or softmax).
    q_halt: [N, S] float32, what halting is worth after each segment, a logit.
    q_continue: [N, S] float32, what thinking on is worth.
  """

  inputs: np.ndarray
  labels: np.ndarray
  puzzle_identifiers: np.ndarray
  answers: np.ndarray
  confidence: np.ndarray
  q_halt: np.ndarray
  q_continue: np.ndarray

  @property
  def wants_to_halt(self) -> np.ndarray:
    """[N, S] bool, whether halting is worth more than thinking on."""
    return self.q_halt > self.q_continue

  @property
  def halts_after(self) -> np.ndarray:
    """[N] segments after which each puzzle halts by itself, at most S."""
    wants = self.wants_to_halt
    segments = wants.shape[1]
    return np.where(wants.any(1), wants.argmax(1) + 1, segments)


def of_nothing(trained: Trained) -> Recording:
  """No puzzles, in as many segments as the model gives each."""
  cells, segments = trained.metadata.seq_len, trained.model.halt_max_steps
  return Recording(
    inputs=np.zeros((0, cells), np.int32),
    labels=np.zeros((0, cells), np.int32),
    puzzle_identifiers=np.zeros(0, np.int32),
    answers=np.zeros((0, segments, cells), np.int32),
    confidence=np.zeros((0, segments, cells), np.uint8),
    q_halt=np.zeros((0, segments), np.float32),
    q_continue=np.zeros((0, segments), np.float32),
  )


class Recorder:
  """Thinks about batches with trained weights; compiles once for each size.

  `start` and `finish` run all segments in one program, as fast as it goes;
  `by_segment` runs a program for each, and tells of it while it thinks.

  Args:
    trained: a checkpoint; its model says how many segments a puzzle gets.
  """

  def __init__(self, trained: Trained):
    self._weights, self._model = trained.weights, trained.model
    loss_type = trained.config.loss.loss_type
    one = trained.model.clone(halt_max_steps=1)
    self._think, self._think_on = (
      jax.jit(functools.partial(think, model, loss_type=loss_type))
      for think, model in ((_think, trained.model), (_think_on, one))
    )

  def start(self, batch: Batch) -> Any:
    """Hands B puzzles to the device and returns at once; see `finish`."""
    return self._think(self._weights, batch)

  def finish(self, batch: Batch, started: Any, count: int) -> Recording:
    """What `start` returned, once it is there, of the first `count` puzzles."""
    # [S, B, ...] on the device, because segments come one after the other.
    seen = (np.moveaxis(leaf, 0, 1) for leaf in jax.device_get(started))
    columns = (
      batch["inputs"],
      batch["labels"],
      batch["puzzle_identifiers"],
      *seen,
    )
    return Recording(*(column[:count] for column in columns))

  def by_segment(self, batch: Batch, count: int) -> Iterator[Recording]:
    """Yields each segment of the first `count` puzzles once it is there.

    Put together along S they are what `finish` returns: on a CPU bit for bit,
    elsewhere up to how the compiler orders sums in either program.

    Args:
      batch: B puzzles.
      count: N, how many of them are wanted.
    """
    states = inference.starting_states(
      self._model, self._weights, len(batch["inputs"])
    )
    for _ in range(self._model.halt_max_steps):
      states, seen = self._think_on(self._weights, batch, states)
      yield self.finish(batch, seen, count)


def record(trained: Trained, data: EvaluationData) -> Recording:
  """Records every example of a split, or as many as `data` has of each set."""
  recorder = Recorder(trained)
  parts = []

  def start(asked: EvaluationBatch) -> Any:
    return recorder.start(asked.batch)

  with console.Progress("think", data.num_examples, unit="puzzles") as bar:
    for asked, started in one_behind(start, data.batches()):
      count = len(asked.rows)
      parts.append(recorder.finish(asked.batch, started, count))
      bar.advance(count)
  return Recording(*map(np.concatenate, zip(*parts, strict=True)))


def _think(
  model: HRM, weights: Weights, batch: Batch, *, loss_type: str
) -> tuple[jax.Array, ...]:
  """Answers [S, B, G], confidence [S, B, G], q_halt and q_continue [S, B]."""
  return _think_on(model, weights, batch, None, loss_type=loss_type)[1]


def _think_on(
  model: HRM,
  weights: Weights,
  batch: Batch,
  states: tuple[jax.Array, jax.Array] | None,
  *,
  loss_type: str,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
  """The states after the model's segments, and what `_think` returns."""

  def observe(output: SegmentOutput) -> tuple[jax.Array, ...]:
    answer = jnp.argmax(output.logits, -1).astype(jnp.int32)  # [B, G]
    # The loss that the answer would have, if it were right.
    surprise = losses.cross_entropy(output.logits, answer, loss_type)
    # Weights that have diverged are sure of nothing.
    chance = jnp.nan_to_num(jnp.exp(-surprise), nan=0.0)
    percent = jnp.round(100 * chance).astype(jnp.uint8)
    return answer, percent, output.q_halt_logits, output.q_continue_logits

  answer = inference.solve(
    model, weights, batch, halt="full", observe=observe, start=states
  )
  return (answer.output.z_H, answer.output.z_L), answer.trace

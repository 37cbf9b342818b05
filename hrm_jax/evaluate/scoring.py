"""From a batch to metric sums: pure functions, on the devices.

What a whole split scores is `evaluator`; what its sums mean, `metrics`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax.data import maze, puzzle_kind
from hrm_jax.data.puzzle import Batch
from hrm_jax.data.split import Split
from hrm_jax.machines import sharding
from hrm_jax.model import losses
from hrm_jax.model.halting import wants_to_halt
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve.inference import solve, solve_queue

# Halting probabilities are counted in as many equal parts of 0..1.
PROBABILITY_BINS = 20


class Counts(NamedTuple):
  """How many rows do what, of those with a label. Batches add up.

  Attributes:
    right_after: [halt_max_steps] int32, whose answer after segment 1, 2, ... is
      right.
    halts_after: [halt_max_steps] int32, that halt by themselves after segment
      1, 2, ...; at the latest after the last one.
    halt_probability: [PROBABILITY_BINS] int32, by sigmoid(q_halt) of the answer
      that is scored.
  """

  right_after: jax.Array
  halts_after: jax.Array
  halt_probability: jax.Array


# Metric sums by name; counts; the answers by column.
Scored = tuple[dict[str, jax.Array], Counts, dict[str, jax.Array]]


def eval_step(
  weights: Weights,
  batch: Batch,
  *,
  model: HRM,
  loss: Loss,
  mesh: Mesh,
  halt: str,
) -> Scored:
  """Thinks about one batch to the end and scores it.

  Each device thinks about its own rows, see `sharding.on_each_device`.

  Args:
    weights: trained weights.
    batch: B puzzles, padding included.
    model: the network.
    loss: which loss.
    mesh: the devices.
    halt: "full" or "act".

  Returns:
    Metric sums over the batch; counts of its rows; and the answers, for saving.
  """

  def think(weights, batch, puzzle_rows):
    answer = solve(
      model,
      weights,
      batch,
      halt=halt,
      observe=lambda output: (
        losses.sequence_correct(output.logits, batch["labels"]),
        wants_to_halt(output),
      ),
      puzzle_rows=puzzle_rows,
    )
    # [B, halt_max_steps], because the devices have rows.
    return answer._replace(trace=jax.tree.map(jnp.transpose, answer.trace))

  labels = batch["labels"]
  # The table may be large, and lie in parts: devices get the rows they need.
  puzzle_rows = gather_puzzle_rows(model, weights, batch["puzzle_identifiers"])
  answer = sharding.on_each_device(think, mesh)(
    weights._replace(puzzle_table=None), batch, puzzle_rows
  )
  sums = _score(answer.output, answer.segments, labels, loss)
  right, wants = answer.trace  # [B, halt_max_steps] each
  last = right.shape[1] - 1
  halts_after = 1 + jnp.where(wants.any(1), jnp.argmax(wants, 1), last)
  q_halt = answer.output.q_halt_logits
  counts = _count(_counted(labels), right, halts_after, q_halt)
  to_save = _to_save(answer.output, answer.segments, with_logits=True)
  return sums, counts, to_save


def eval_chunk(
  weights: Weights,
  chunk: Batch,
  waiting: jax.Array,
  *,
  model: HRM,
  loss: Loss,
  mesh: Mesh,
  batches: int,
  with_logits: bool,
) -> Scored:
  """Thinks about several batches, each row halting by itself, and scores them.

  Each device works through its share of the chunk as a queue, see
  `continuous_batching`.

  Args:
    weights: trained weights.
    chunk: `batches` times B puzzles, padding included.
    waiting: [batches * B] bool, which of them are puzzles; padding, which
      comes last, is not thought about and counts nowhere.
    model: the network.
    loss: which loss.
    mesh: the devices.
    batches: so many times more puzzles than rows to think about them.
    with_logits: whether the answers hold the logits, V numbers a cell.

  Returns:
    As `eval_step`, over the chunk.
  """

  def keep(output, segments, now):
    def of_row(*row):
      output, segments, labels = jax.tree.map(lambda leaf: leaf[None], row)
      return _score(output, segments, labels, loss)

    sums = jax.vmap(of_row)(output, segments, now["labels"])
    return sums, _to_save(output, segments, with_logits=with_logits)

  def work_through(weights, puzzles, waiting):
    return solve_queue(
      model,
      weights,
      puzzles,
      waiting.sum(dtype=jnp.int32),
      num_rows=len(waiting) // batches,
      keep=keep,
      observe=lambda output, now: losses.sequence_correct(
        output.logits, now["labels"]
      ),
    )

  # The table may be large, and lie in parts: devices get the rows they need.
  rows = gather_puzzle_rows(model, weights, chunk["puzzle_identifiers"])
  answers = sharding.on_each_device(work_through, mesh)(
    weights._replace(puzzle_table=None),
    {**chunk, "puzzle_rows": rows},
    waiting,
  )
  per_puzzle, to_save = answers.kept
  sums = jax.tree.map(lambda leaf: leaf.sum(0), per_puzzle)
  counts = _count(
    _counted(chunk["labels"]),
    answers.trace,
    answers.segments,
    to_save["q_halt_logits"],
  )
  return sums, counts, to_save


def _score(
  output: SegmentOutput, segments: jax.Array, labels: jax.Array, loss: Loss
) -> dict[str, jax.Array]:
  """Metric sums over rows that have all come to their end."""
  _, sums = losses.loss_and_metrics(
    output.logits,
    output.q_halt_logits,
    output.q_continue_logits,
    None,
    labels=labels,
    halted=jnp.ones_like(segments, bool),
    segments=segments,
    loss_type=loss.loss_type,
    q_weight=loss.q_weight,
  )
  return sums


def _counted(labels: jax.Array) -> jax.Array:
  return jnp.any(labels >= 0, axis=-1)


def _count(
  counted: jax.Array,
  right: jax.Array,
  halts_after: jax.Array,
  q_halt: jax.Array,
) -> Counts:
  """Counts rows: [B] bool, [B, halt_max_steps] bool, [B] int32, [B] float32."""

  def in_bins(place, bins):  # [B] int32; a row without a label has none.
    place = jnp.where(counted, place, bins)
    return jnp.zeros([bins], jnp.int32).at[place].add(1, mode="drop")

  # Weights that have diverged are sure of nothing.
  chance = jnp.nan_to_num(jax.nn.sigmoid(q_halt.astype(jnp.float32)), nan=0.0)
  part = jnp.floor(chance * PROBABILITY_BINS).astype(jnp.int32)
  return Counts(
    right_after=(right & counted[:, None]).sum(0, dtype=jnp.int32),
    halts_after=in_bins(halts_after - 1, right.shape[1]),
    halt_probability=in_bins(
      jnp.minimum(part, PROBABILITY_BINS - 1), PROBABILITY_BINS
    ),
  )


def _to_save(
  output: SegmentOutput, segments: jax.Array, *, with_logits: bool
) -> dict[str, jax.Array]:
  answers = {
    "predictions": jnp.argmax(output.logits, -1).astype(jnp.int32),
    "q_halt_logits": output.q_halt_logits,
    "q_continue_logits": output.q_continue_logits,
    "segments": segments,
  }
  if with_logits:
    answers["logits"] = output.logits.astype(jnp.float32)
  return answers


def holds_mazes(split: Split) -> bool:
  """Whether a split holds mazes, see `puzzle_kind`."""
  kind = puzzle_kind.kind_of(split.path.parent, [split])
  return kind == puzzle_kind.MAZE


def right_paths(inputs: np.ndarray, predictions: np.ndarray) -> int:
  """How many of [B, G] predictions are a shortest path of their maze."""
  return int(maze.is_shortest_path(inputs, predictions).sum())

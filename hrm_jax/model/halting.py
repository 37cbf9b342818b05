"""Adaptive computation: which rows think on, and what they are told to value.

Control logic only. The network comes in as a function from (z_H, z_L) to a
`SegmentOutput`, so this file can be tested without a transformer.

In training one update is one segment for every row, and each row works on its
own puzzle for as many updates as it needs: the `Carry` remembers where it is.
Were an update to run a puzzle to its end, rows that are done would wait for the
slowest one, and the weights would move once where they can move after every
segment. So rows of one batch stand at different segments, and a row takes its
next puzzle by itself. In evaluation and solving the segments run in one
`lax.while_loop` instead (see `solve.segments`).

Source: arXiv 2506.21734, section "Adaptive computational time"; spec of the
halting rule: models/hrm/hrm_act_v1.py of its code.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch
from hrm_jax.model.hrm import SegmentOutput


class Carry(NamedTuple):
  """What each row keeps between segments, from one update to the next.

  It is part of the training state and of a checkpoint: without it a run that
  resumes would start all its puzzles anew, hence be another run.

  Attributes:
    z_H: [B, S, D] slow state, compute dtype.
    z_L: [B, S, D] fast state, compute dtype.
    segments: [B] int32, segments spent on the current puzzle.
    halted: [B] bool, whether the row takes a new puzzle next.
    current: the batch of puzzles that the rows are working on.
  """

  z_H: jax.Array
  z_L: jax.Array
  segments: jax.Array
  halted: jax.Array
  current: Batch


class Draws(NamedTuple):
  """The random numbers of one update's exploration, one of each per row.

  Attributes:
    uniform: [B] float32 in [0, 1).
    min_segments: [B] int32 in 2..halt_max_steps, what a row that explores
      must reach (the paper's M_min).
  """

  uniform: jax.Array
  min_segments: jax.Array


def init_carry(
  batch_size: int, z_shape: tuple[int, int], seq_len: int, dtype: jnp.dtype
) -> Carry:
  """A carry in which every row has halted, hence takes the first batch.

  Args:
    batch_size: B.
    z_shape: (S, D).
    seq_len: G.
    dtype: of the states.
  """
  # The states are never read, for a row that has halted starts from the initial
  # ones. Two buffers, not one twice: a donated buffer can be given away only
  # once.
  return Carry(
    z_H=jnp.zeros((batch_size, *z_shape), dtype),
    z_L=jnp.zeros((batch_size, *z_shape), dtype),
    segments=jnp.zeros([batch_size], jnp.int32),
    halted=jnp.ones([batch_size], bool),
    current=Batch(
      inputs=jnp.zeros((batch_size, seq_len), jnp.int32),
      labels=jnp.full((batch_size, seq_len), IGNORE_LABEL_ID, jnp.int32),
      puzzle_identifiers=jnp.zeros([batch_size], jnp.int32),
    ),
  )


def refill(
  carry: Carry, batch: Batch, z_H_init: jax.Array, z_L_init: jax.Array
) -> Carry:
  """Gives each halted row its row of the new batch and the initial states.

  A puzzle offered to a row that has not halted is dropped, as in the reference:
  so what data a run sees depends on when its rows halt, and data loading does
  not. The shapes stay the same, whichever rows halt.

  Args:
    carry: from the previous update.
    batch: B new puzzles.
    z_H_init: [1, 1, D] slow state every puzzle starts from.
    z_L_init: [1, 1, D] fast state every puzzle starts from.
  """
  return Carry(
    z_H=where_row(carry.halted, z_H_init, carry.z_H),  # [B, S, D]
    z_L=where_row(carry.halted, z_L_init, carry.z_L),  # [B, S, D]
    segments=jnp.where(carry.halted, 0, carry.segments),
    halted=jnp.zeros_like(carry.halted),
    current=jax.tree.map(
      lambda new, old: where_row(carry.halted, new, old), batch, carry.current
    ),
  )


def halt_broken(carry: Carry) -> Carry:
  """Halts the rows whose states are not finite: they take a new puzzle.

  They would keep them for all their remaining segments, and every update
  meanwhile would be left out.
  """
  broken = ~jnp.all(jnp.isfinite(carry.z_H) & jnp.isfinite(carry.z_L), (1, 2))
  return carry._replace(halted=carry.halted | broken)


def exploration_draws(
  key: jax.Array, batch_size: int, halt_max_steps: int
) -> Draws:
  """Draws one update's random numbers; row i's do not depend on the mesh."""
  uniform_key, integer_key = jax.random.split(key)
  return Draws(
    uniform=jax.random.uniform(uniform_key, [batch_size]),
    # With one segment there is nothing to explore; the range must not be
    # empty all the same.
    min_segments=jax.random.randint(
      integer_key, [batch_size], 2, max(2, halt_max_steps) + 1
    ),
  )


def decide_halting(
  output: SegmentOutput,
  segments: jax.Array,
  draws: Draws,
  *,
  halt_max_steps: int,
  halt_exploration_prob: float,
  halt_early: bool = True,
) -> jax.Array:
  """The training rule: which rows stop after this segment, [B] bool.

  A row stops when stopping is worth more than going on, or at
  `halt_max_steps`. A row that explores must first reach its drawn minimum, so
  that the Q values of longer thinking are learned too.

  Args:
    output: of this segment.
    segments: [B] int32, this segment included.
    draws: this update's random numbers.
    halt_max_steps: segments a puzzle gets at most.
    halt_exploration_prob: how often a row explores.
    halt_early: whether a row may stop before `halt_max_steps` at all.
  """
  last = segments >= halt_max_steps  # [B]
  if halt_max_steps == 1 or not halt_early:
    return last
  halted = last | wants_to_halt(output)
  # By the greedy rule alone a row that overrates halting would stop at once,
  # every time, and what its longer thinking is worth would never be seen.
  explores = draws.uniform < halt_exploration_prob
  at_least = jnp.where(explores, draws.min_segments, 0)
  return halted & (segments >= at_least)


def bootstrap_target(
  look_ahead: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  output: SegmentOutput,
  segments: jax.Array,
  *,
  halt_max_steps: int,
) -> jax.Array:
  """target_q_continue: what one more segment is worth, [B] float32 in 0..1.

  Q-learning: the value of going on is the better of the two values after the
  next segment, which is why an update looks one segment ahead. Both values are
  chances of a right answer, so there is no discount and no reward on the way.
  There is neither replay nor a target network: the same weights look ahead, as
  they are before the update. Post-norm and weight decay bound the network,
  which keeps this stable (PQN, arXiv 2407.04811).

  No gradient: the target is what is learned from, and must not move towards
  what it judges.

  Args:
    look_ahead: from the states, q_halt and q_continue after one more segment.
    output: of this segment; its states are where the next one starts.
    segments: [B] int32, this segment included.
    halt_max_steps: at this many segments, halting is the only choice left.
  """
  q_halt, q_continue = look_ahead(*lax.stop_gradient((output.z_H, output.z_L)))
  best = jnp.maximum(q_halt, q_continue)  # [B], before the sigmoid
  last = segments >= halt_max_steps
  value = jnp.where(last, q_halt, best)
  return lax.stop_gradient(jax.nn.sigmoid(value))


def wants_to_halt(output: SegmentOutput) -> jax.Array:
  """Which rows value stopping above thinking on, [B] bool; a tie goes on."""
  return output.q_halt_logits > output.q_continue_logits


def where_row(rows: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
  """`jnp.where` by the leading axis: rows [B], yes and no [B or 1, ...]."""
  rows = jnp.expand_dims(rows, range(1, no.ndim))  # [B, 1, ...]
  return jnp.where(rows, yes, no)


def zeros_like_result(function: Callable[..., Any], *args: Any) -> Any:
  """Zeros laid out like what the function returns; it is not run."""
  shapes = jax.eval_shape(function, *args)
  return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

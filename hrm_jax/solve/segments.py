"""Thinks about a batch until its rows are done, in one loop on the device.

Control logic only: the network comes in as a function. Where there are more
puzzles than rows, see `continuous_batching`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hrm_jax.model.halting import wants_to_halt, where_row, zeros_like_result
from hrm_jax.model.hrm import SegmentOutput

Segment = Callable[[jax.Array, jax.Array], SegmentOutput]

HALT_MODES = ("full", "act")


class Answer(NamedTuple):
  """The result of `run_segments`.

  Attributes:
    output: what each row's own last segment put out.
    segments: [B] int32, how many the row took.
    trace: what `observe` saw after segment 1, 2, ..., halt_max_steps, stacked
      on a leading axis; a row that stopped repeats its last entry.
  """

  output: SegmentOutput
  segments: jax.Array
  trace: Any


def check_halt(halt: str) -> None:
  """Raises a ValueError if `halt` is none of `HALT_MODES`."""
  if halt not in HALT_MODES:
    raise ValueError(
      f"halt: expected one of {', '.join(HALT_MODES)}, got {halt!r}."
    )


def run_segments(
  segment: Segment,
  z_H: jax.Array,
  z_L: jax.Array,
  *,
  halt_max_steps: int,
  halt: str,
  observe: Callable[[SegmentOutput], Any] = lambda output: (),
) -> Answer:
  """Thinks until the rows are done, in one loop on the device.

  Args:
    segment: the network on a fixed batch.
    z_H: [B, S, D] initial slow states.
    z_L: [B, S, D] initial fast states.
    halt_max_steps: segments a puzzle gets at most.
    halt: "full": every row runs `halt_max_steps` segments, as the reference
      evaluates. "act": a row stops when q_halt > q_continue; its state and
      answer freeze there, and the loop ends when all rows have stopped.
    observe: what to keep of the (frozen) output after every segment.

  Raises:
    ValueError: unknown `halt`.
  """
  check_halt(halt)
  batch_size = z_H.shape[0]
  blank = zeros_like_result(segment, z_H, z_L)._replace(z_H=z_H, z_L=z_L)
  seen = jax.tree.map(
    lambda leaf: jnp.zeros((halt_max_steps, *leaf.shape), leaf.dtype),
    zeros_like_result(observe, blank),
  )

  def keep_going(state):
    _, _, halted, done, _ = state
    return (done < halt_max_steps) & ~jnp.all(halted)

  def think(state):
    output, segments, halted, done, seen = state
    new = segment(output.z_H, output.z_L)
    if halt == "act":
      new = jax.tree.map(
        lambda old, new: where_row(halted, old, new), output, new
      )
      segments = jnp.where(halted, segments, done + 1)
      halted |= wants_to_halt(new)
    else:
      segments = jnp.full_like(segments, done + 1)
    seen = jax.tree.map(
      lambda leaf, now: leaf.at[done].set(now), seen, observe(new)
    )
    return new, segments, halted, done + 1, seen

  none = jnp.zeros([batch_size], jnp.int32)
  state = (blank, none, none.astype(bool), jnp.zeros([], jnp.int32), seen)
  output, segments, _, done, seen = lax.while_loop(keep_going, think, state)
  # The loop may have ended early: all rows repeat their answer from there.
  ran = jnp.arange(halt_max_steps) < done
  trace = jax.tree.map(
    lambda leaf, now: where_row(ran, leaf, now[None]), seen, observe(output)
  )
  return Answer(output, segments, trace)

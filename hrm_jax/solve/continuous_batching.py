"""Thinking about more puzzles than there are rows, without idle rows.

A batch that is thought about to its end waits for its slowest row. Here the
rows work through a queue: a row that halts writes its answer to the place of
its puzzle and takes the next one, all inside one `lax.while_loop` on one
device. A puzzle gets the very segments that it gets in `segments.run_segments`,
so the answers are the same; they only come sooner.

Control logic only, as in `segments`: the network comes in as a function.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from hrm_jax.model.halting import wants_to_halt, where_row, zeros_like_result
from hrm_jax.model.hrm import SegmentOutput
from hrm_jax.solve.segments import check_halt

# A good length for a queue. Only at its end do rows idle, each for less than
# the time of the longest puzzle. A queue of ARC (768 rows) takes 0.3 GB on the
# device, and 1 GB more where logits are kept.
PUZZLES_PER_ROW = 32

# z_H, z_L and the B puzzles that the rows are working on.
Segment = Callable[[jax.Array, jax.Array, Any], SegmentOutput]

# From the initial states and B puzzles to the states that these start from.
Start = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, jax.Array]]


class Answers(NamedTuple):
  """The result of `run_queue`; zeros for puzzles that were not asked for.

  Attributes:
    kept: what `keep` made of each puzzle's last segment, [N, ...] each.
    segments: [N] int32, how many the puzzle took.
    trace: what `observe` saw of each puzzle after segment 1, 2, ...,
      halt_max_steps, [N, halt_max_steps, ...] each; from its last segment on
      a puzzle repeats the entry.
  """

  kept: Any
  segments: jax.Array
  trace: Any


def run_queue(
  segment: Segment,
  puzzles: Any,
  count: jax.Array,
  z_H: jax.Array,
  z_L: jax.Array,
  *,
  halt_max_steps: int,
  keep: Callable[[SegmentOutput, jax.Array, Any], Any],
  observe: Callable[[SegmentOutput, Any], Any] = lambda output, puzzles: (),
  halt: str = "act",
  start: Start | None = None,
) -> Answers:
  """Answers a queue of puzzles, each halting by itself, in one loop.

  The loop does not grow with the logits of the whole queue: only what `keep`
  and `observe` return is stored per puzzle.

  Args:
    segment: the network, on any B puzzles.
    puzzles: arrays with a leading axis N, the queue.
    count: [] int32 up to N; the puzzles after the first `count` are padding
      and are never started.
    z_H: [B, S, D] slow states that a puzzle starts from in each row.
    z_L: [B, S, D] fast states likewise. B may be more or less than N.
    halt_max_steps: segments a puzzle gets at most.
    keep: from a segment's output, the segments that its rows have spent [B]
      int32 and their puzzles to what is stored where a row halts, [B, ...]
      each.
    observe: from a segment's output and its rows' puzzles to what is stored
      after every segment, [B, ...] each.
    halt: "act", or "full": a puzzle gets all its segments, and then the row
      takes the next one.
    start: from `z_H`, `z_L` and the rows' puzzles to the states that these
      start from, where puzzles differ in them.
  """
  check_halt(halt)
  B, N = z_H.shape[0], len(jax.tree.leaves(puzzles)[0])
  row = jnp.arange(B)

  def taken_by(slot):  # Idle rows look at some puzzle, and write nowhere.
    return jax.tree.map(lambda leaf: leaf.at[slot].get(mode="clip"), puzzles)

  def states_before(slot):
    return (z_H, z_L) if start is None else start(z_H, z_L, taken_by(slot))

  def examine(z_H, z_L, segments, slot):
    now = taken_by(slot)
    output = segment(z_H, z_L, now)
    return output, keep(output, segments, now), observe(output, now)

  def keep_going(state):
    return jnp.any(state[3] < count)

  def think(state):
    z_H_now, z_L_now, segments, slot, started, answers = state
    segments = segments + 1
    output, kept, seen = examine(z_H_now, z_L_now, segments, slot)
    working = slot < count
    done = segments >= halt_max_steps
    if halt == "act":
      done |= wants_to_halt(output)
    halted = working & done
    # Beyond the end, each in a place of its own: those are dropped.
    at = jnp.where(halted, slot, N + row)
    place = jnp.where(working, slot, N + row), segments - 1
    answers = Answers(
      _write(answers.kept, at, kept),
      _write(answers.segments, at, segments),
      _write(answers.trace, place, seen),
    )
    following = started + jnp.cumsum(halted, dtype=jnp.int32) - 1
    slot = jnp.where(halted, following, slot)
    first_H, first_L = states_before(slot)
    return (
      where_row(halted, first_H, output.z_H),
      where_row(halted, first_L, output.z_L),
      jnp.where(halted, 0, segments),
      slot,
      started + halted.sum(dtype=jnp.int32),
      answers,
    )

  none, slot = jnp.zeros([B], jnp.int32), jnp.arange(B, dtype=jnp.int32)
  _, kept, seen = zeros_like_result(examine, z_H, z_L, none, slot)
  blank = Answers(
    kept=jax.tree.map(lambda x: jnp.zeros((N, *x.shape[1:]), x.dtype), kept),
    segments=jnp.zeros([N], jnp.int32),
    trace=jax.tree.map(
      lambda x: jnp.zeros((N, halt_max_steps, *x.shape[1:]), x.dtype), seen
    ),
  )
  state = (*states_before(slot), none, slot, jnp.int32(B), blank)
  *_, answers = lax.while_loop(keep_going, think, state)
  return answers._replace(trace=_repeat_last(answers.trace, answers.segments))


def _write(stored: Any, at: Any, rows: Any) -> Any:
  return jax.tree.map(
    lambda leaf, new: leaf.at[at].set(new, mode="drop", unique_indices=True),
    stored,
    rows,
  )


def _repeat_last(trace: Any, segments: jax.Array) -> Any:
  """Fills the entries [N, segments:] of each leaf with entry segments - 1."""

  def fill(leaf):
    last = jnp.maximum(segments - 1, 0)[:, None]
    entry = jnp.minimum(jnp.arange(leaf.shape[1])[None], last)
    entry = jnp.expand_dims(entry, range(2, leaf.ndim))
    return jnp.take_along_axis(leaf, entry, axis=1)

  return jax.tree.map(fill, trace)

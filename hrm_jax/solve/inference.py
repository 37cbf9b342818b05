"""Thinks about puzzles with trained weights; pure functions, no mesh.

The loops of `segments` and `continuous_batching`, bound to the network.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from hrm_jax.data.puzzle import Batch
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.weights import Weights, gather_puzzle_rows, initial_latents
from hrm_jax.solve import continuous_batching, segments
from hrm_jax.solve.segments import Answer


def with_segments(model: HRM, segments: int | None) -> HRM:
  """The same network with another limit of segments for a puzzle.

  Args:
    model: the network; its weights do not depend on the limit.
    segments: at most so many, whether puzzles halt by themselves or not; more
      than in training let it think longer. None: as in training.
  """
  return model if segments is None else model.clone(halt_max_steps=segments)


def solve(
  model: HRM,
  weights: Weights,
  batch: Batch,
  *,
  halt: str,
  observe: Callable[[SegmentOutput], Any] = lambda output: (),
  puzzle_rows: jax.Array | None = None,
  start: tuple[jax.Array, jax.Array] | None = None,
) -> Answer:
  """Thinks about a batch until its rows are done.

  Args:
    model: the network.
    weights: trained weights.
    batch: B puzzles; the labels are not read.
    halt: "full" or "act", see `segments.run_segments`.
    observe: what to keep of the output after every segment.
    puzzle_rows: [B, W], see `gather_puzzle_rows`; None: taken from the table.
    start: z_H and z_L to think on from, each [B, S, D] in the compute dtype;
      None: `starting_states`.
  """
  ids = batch["puzzle_identifiers"]
  if puzzle_rows is None:
    puzzle_rows = gather_puzzle_rows(model, weights, ids)
  if start is None:
    start = starting_states(model, weights, len(ids))
  segment = functools.partial(
    _segment,
    model,
    weights,
    inputs=batch["inputs"],
    puzzle_rows=puzzle_rows,
  )
  return segments.run_segments(
    segment,
    *start,
    halt_max_steps=model.halt_max_steps,
    halt=halt,
    observe=observe,
  )


def solve_queue(
  model: HRM,
  weights: Weights,
  puzzles: Mapping[str, jax.Array],
  count: jax.Array,
  *,
  num_rows: int,
  keep: Callable[[SegmentOutput, jax.Array, Any], Any],
  observe: Callable[[SegmentOutput, Any], Any] = lambda output, puzzles: (),
  halt: str = "act",
  start: continuous_batching.Start | None = None,
) -> continuous_batching.Answers:
  """Thinks about a queue of puzzles, each until it halts by itself.

  Args:
    model: the network.
    weights: trained weights; the puzzle table is not read.
    puzzles: N puzzles as in a batch, with their `puzzle_rows` [N, W], see
      `gather_puzzle_rows`.
    count: [] int32, how many of them, from the first on, to answer.
    num_rows: B, puzzles that are thought about at a time.
    keep: what to keep of each answer, see
      `continuous_batching.run_queue`.
    observe: what to keep of the output after every segment.
    halt: "full": each until it had all segments.
    start: the states that each puzzle starts from, see
      `continuous_batching.run_queue`; None: the initial ones.
  """

  def segment(z_H, z_L, now):
    return _segment(model, weights, z_H, z_L, now["inputs"], now["puzzle_rows"])

  return continuous_batching.run_queue(
    segment,
    puzzles,
    count,
    *starting_states(model, weights, num_rows),
    halt_max_steps=model.halt_max_steps,
    keep=keep,
    observe=observe,
    halt=halt,
    start=start,
  )


def starting_states(
  model: HRM, weights: Weights, num_rows: int
) -> tuple[jax.Array, jax.Array]:
  """The states that puzzles start from: z_H and z_L, each [num_rows, S, D]."""
  z_shape = (num_rows, model.num_positions, model.hidden_size)
  z_H, z_L = initial_latents(model, weights)
  return jnp.broadcast_to(z_H, z_shape), jnp.broadcast_to(z_L, z_shape)


def _segment(
  model: HRM,
  weights: Weights,
  z_H: jax.Array,
  z_L: jax.Array,
  inputs: jax.Array,
  puzzle_rows: jax.Array | None,
) -> SegmentOutput:
  output = model.apply(weights.variables, z_H, z_L, inputs, puzzle_rows)
  return cast("SegmentOutput", output)

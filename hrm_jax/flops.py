"""Arithmetic of an update by formula, and what the hardware can do.

MFU, model FLOPs utilisation, is the first over the second.
"""

import time

import jax
import jax.numpy as jnp

from hrm_jax.layers import swiglu_width
from hrm_jax.model import HRM


def per_segment(model: HRM) -> float:
  """FLOPs of one forward segment of one puzzle.

  Counts matrix products, two per multiply-add: projections, attention, MLP
  and the token head; every cycle counts, those without gradient too.
  """
  H_passes = model.H_cycles
  L_passes = model.H_cycles * model.L_cycles
  passes = H_passes * model.H_layers + L_passes * model.L_layers
  return passes * _per_block(model) + _head(model)


def per_update(model: HRM) -> float:
  """FLOPs of a training update of one puzzle.

  A segment, the backward pass of the last update of each level (twice its
  forward), and the segment behind the bootstrapped target, if there is one.
  """
  segments = 2 if model.needs_next_segment else 1
  layers_with_gradient = model.H_layers + model.L_layers
  backward = 2 * (layers_with_gradient * _per_block(model) + _head(model))
  return segments * per_segment(model) + backward


def _per_block(model: HRM) -> float:
  S, D = model.num_positions, model.hidden_size
  F = swiglu_width(D, model.expansion)
  projections = 2 * (4 * D * D + 3 * D * F)
  attention = 4 * S * D
  return S * (projections + attention)


def _head(model: HRM) -> float:
  return 2 * model.seq_len * model.hidden_size * model.vocab_size


def measured_peak(dtype: jnp.dtype, *, size: int = 2048) -> float:
  """FLOP/s of a large matrix product, summed over all devices.

  The best of a few: what the hardware can do, not what it averages.
  """

  @jax.jit
  def multiply(a, b):
    with jax.default_matmul_precision("highest"):
      return a @ b

  a = jnp.ones((size, size), dtype)
  multiply(a, a).block_until_ready()
  best = float("inf")
  for _ in range(4):
    start = time.perf_counter()
    multiply(a, a).block_until_ready()
    best = min(best, time.perf_counter() - start)
  return 2 * size**3 / best * jax.device_count()

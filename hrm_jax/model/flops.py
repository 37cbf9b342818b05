"""Arithmetic of an update by formula, and what the hardware can do.

MFU, model FLOPs utilisation, is the first over the second.
"""

import functools
import time

import jax
import jax.numpy as jnp

from hrm_jax.model.hrm import HRM
from hrm_jax.model.layers import swiglu_width

# Seconds: starting a program takes some 1e-5 of them, more than one product
# does on an accelerator.
_LONG_ENOUGH = 0.05


def per_segment(model: HRM) -> float:
  """FLOPs of one forward segment of one puzzle.

  Counts matrix products, two per multiply-add: projections, attention, MLP
  and the token head; every cycle counts, those without gradient too.
  """
  H_passes = model.H_cycles
  L_passes = model.H_cycles * model.L_updates_per_cycle
  passes = H_passes * model.num_H_blocks + L_passes * model.L_layers
  return passes * _per_block(model) + _head(model)


def per_update(model: HRM, *, table_only: bool = False) -> float:
  """FLOPs of a training update of one puzzle.

  A segment, the backward pass of the updates that gradient passes through
  (twice their forward), and the segment behind the bootstrapped target, if
  there is one.

  Args:
    model: the network.
    table_only: whether the dense parameters have no gradient: of the two
      products that a product has in the backward pass, theirs is left out.
  """
  L_blocks = model.L_updates_with_gradient * model.L_layers
  blocks_with_gradient = model.num_H_blocks + L_blocks
  backward = 2 * (blocks_with_gradient * _per_block(model) + _head(model))
  if table_only:
    # Scores and mix have two factors that are no parameters.
    backward = backward / 2 + blocks_with_gradient * of_attention(model)
  update = per_segment(model) + backward
  if model.needs_next_segment:
    # Its last block computes only the position that Q is read from, and
    # nothing asks for its logits.
    unread = _head(model) + _per_block(model) - _per_block(model, 1)
    update += per_segment(model) - unread
  return update


def _per_block(model: HRM, num_outputs: int | None = None) -> float:
  """FLOPs of one block of which `num_outputs` positions are asked for, or all.

  Keys and values are computed for every position all the same.
  """
  S, D = model.num_positions, model.hidden_size
  F = swiglu_width(D, model.expansion)
  if model.mlp_t:
    across = 6 * S * swiglu_width(S, model.expansion)  # One component of D.
    return D * across + (num_outputs or S) * 6 * D * F
  qkv = S * 6 * D * D  # [S, D] x [D, 3D], the factor 2 in each of these.
  # For one position: scores and mix of S positions, [D, D], [D, 3F] in all.
  attention, o_proj, mlp = 4 * S * D, 2 * D * D, 6 * D * F
  return qkv + (num_outputs or S) * (attention + o_proj + mlp)


def of_attention(model: HRM) -> float:
  """FLOPs of the two products of attention in one block, for one puzzle."""
  if model.mlp_t:
    return 0
  return 4 * model.num_positions**2 * model.hidden_size


def of_attention_layer(model: HRM) -> float:
  """The same with the projections."""
  S, D = model.num_positions, model.hidden_size
  return of_attention(model) + 8 * S * D * D


def _head(model: HRM) -> float:
  return 2 * model.seq_len * model.hidden_size * model.vocab_size


@functools.cache
def measured_peak(dtype: jnp.dtype, *, size: int | None = None) -> float:
  """FLOP/s of a large matrix product, summed over all devices.

  Measured once in a process: a run that rolls back does not wait for it again.

  The best of a few: what the hardware can do, not what it averages. Each
  product takes the one before, and so many are one program that starting it
  does not count.

  Args:
    dtype: of the factors.
    size: of the square matrices; None: one that fills a device.
  """
  on_cpu = jax.default_backend() == "cpu"
  size = size or (2048 if on_cpu else 8192)
  # Products of such a matrix neither grow nor shrink.
  noise = jax.random.normal(jax.random.key(0), (size, size))
  factor = (noise / size**0.5).astype(dtype)
  number, seconds = 1, _seconds_of(factor, 1)
  if seconds < _LONG_ENOUGH:
    number = round(_LONG_ENOUGH / seconds)
    seconds = _seconds_of(factor, number)
  # CPU devices of one process share its cores.
  devices = jax.process_count() if on_cpu else jax.device_count()
  return 2 * size**3 * number / seconds * devices


def _seconds_of(factor: jax.Array, number: int) -> float:
  """The time of `number` products in a row, at best."""

  @jax.jit
  def multiply(factor):
    with jax.default_matmul_precision("highest"):
      return jax.lax.fori_loop(0, number, lambda _, a: a @ factor, factor)

  multiply(factor).block_until_ready()
  best = float("inf")
  for _ in range(4):
    start = time.perf_counter()
    multiply(factor).block_until_ready()
    best = min(best, time.perf_counter() - start)
  return best

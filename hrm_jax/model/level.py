"""One recurrent module of the HRM, and the same as a pure function.

Shape letters: B rows, S positions, D hidden size.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from hrm_jax.model.layers import Block

# An update of a state: from the state and the injection, both [B, S, D], to the
# new state.
Update = Callable[[jax.Array, jax.Array], jax.Array]


class Level(nn.Module):
  """One recurrent module: adds its injection to the state, runs its blocks.

  The injection is the module's input from outside, added anew at every update:
  z_H + x for L_level, so that the puzzle is never forgotten however long it
  thinks; z_L for H_level.

  Each block has parameters of its own, `layers_0`, `layers_1`, and so on. By
  default `as_function` stacks copies of them and scans over the stack, so the
  compiled program holds one block however many there are.

  Attributes:
    num_layers: how many blocks.
    make_block: makes a block.
    remat: whether the backward pass computes a block's intermediates again.
    unroll: whether the program has every block written out, instead of a scan.
      A scan copies each block's weights out of the stack on every pass, and
      its intermediates and gradients into a stack.
  """

  num_layers: int
  make_block: Callable[..., Block]
  remat: bool = False
  unroll: bool = False

  def setup(self) -> None:
    self.layers = [self.make_block() for _ in range(self.num_layers)]

  def __call__(self, z: jax.Array, injection: jax.Array) -> jax.Array:
    """Maps [B, S, D], [B, S, D] to [B, S, D]; draws the weights at first."""
    z += injection
    for block in self.layers:
      z = block(z)  # [B, S, D]
    return z

  def as_function(
    self,
    dtype: jnp.dtype,
    *,
    frozen: bool = False,
    num_outputs: int | None = None,
  ) -> Update:
    """`__call__` as a pure function, to be called many times.

    Linen modules cannot be called inside a `lax` loop, pure functions can. The
    weights are cast and stacked here, once, not on every pass.

    Args:
      dtype: of the states.
      frozen: whether no gradient enters.
      num_outputs: how many positions are asked for, the first ones; None: all.
        Only the last block can leave out the others: attention in the blocks
        before it reads every position.
    """
    params = self.variables["params"]
    if frozen:
      params = lax.stop_gradient(params)
    params = jax.tree.map(lambda weight: weight.astype(dtype), params)
    blocks = [params[f"layers_{i}"] for i in range(self.num_layers)]
    whole, last = blocks, None
    if num_outputs is not None:
      *whole, last = blocks
    block = self.make_block(parent=None)

    def run_block(z, block_params):
      return block.apply({"params": block_params}, z), None

    if self.remat:
      # What the backward pass needs of a block is its input alone then.
      run_block = jax.checkpoint(run_block)
    in_loop = bool(whole) and not self.unroll
    stacked = None
    if in_loop:
      # Each leaf [number of whole blocks, ...].
      stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *whole)

    def run(z, injection) -> Any:
      z += injection
      if in_loop:
        z, _ = lax.scan(run_block, z, stacked)
      else:
        for block_params in whole:
          z, _ = run_block(z, block_params)
      if last is not None:
        z = block.apply({"params": last}, z, num_outputs)  # [B, outputs, D]
      return z

    return run

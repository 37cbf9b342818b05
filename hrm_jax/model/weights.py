"""What a trained network consists of, and how it starts."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from hrm_jax.model.hrm import HRM

# The rows of a run's puzzle table are a multiple of this. It is a constant, so
# that it says nothing of the mesh; 1024 rows of 512 are 2 MB.
TABLE_ROW_MULTIPLE = 1024


class Weights(NamedTuple):
  """All that inference needs.

  The puzzle table stands apart from the dense parameters, because it moves by
  another optimiser (see `optim.sparse_sign_sgd`), a few rows at a time, and
  because it may be split over devices where they are not.

  Attributes:
    params: the trained dense parameters, float32.
    initial_states: H_init and L_init, [D] each, compute dtype, fixed.
    puzzle_table: [N, W] float32, a row per puzzle identifier, and in a run
      some more; None when the model has no puzzle embedding.
  """

  params: Any
  initial_states: Any
  puzzle_table: jax.Array | None

  @property
  def variables(self) -> dict[str, Any]:
    """What the network's `apply` takes."""
    return {"params": self.params, "initial_states": self.initial_states}


def num_table_rows(num_puzzle_identifiers: int) -> int:
  """Rows of the puzzle table of a run: rounded up, whatever the mesh.

  So any mesh can split them whose `table` divides the multiple, and checkpoints
  move between meshes. No batch names the rows added, hence they stay zero.
  """
  return -(-num_puzzle_identifiers // TABLE_ROW_MULTIPLE) * TABLE_ROW_MULTIPLE


def init_weights(model: HRM, key: jax.Array, num_rows: int) -> Weights:
  """Draws the initial weights; the puzzle table starts at zero.

  So all puzzles begin alike, and a row says only what training needed it to.

  Args:
    model: the network.
    key: typed PRNG key.
    num_rows: N, rows of the puzzle table, see `num_table_rows`.
  """
  # One row is enough: weights do not depend on the batch.
  z = jnp.zeros((1, model.num_positions, model.hidden_size), model.dtype)
  inputs = jnp.zeros((1, model.seq_len), jnp.int32)
  rows = jnp.zeros((1, model.puzzle_width))
  variables = model.init(key, z, z, inputs, rows)
  table = None
  if model.puzzle_width:
    table = jnp.zeros((num_rows, model.puzzle_width))
  return Weights(variables["params"], variables["initial_states"], table)


def initial_latents(
  model: HRM, weights: Weights
) -> tuple[jax.Array, jax.Array]:
  """The states every puzzle starts from: z_H and z_L, each [1, 1, D]."""
  variables = {"initial_states": weights.initial_states}
  states = model.apply(variables, method=HRM.initial_states)
  return cast("tuple[jax.Array, jax.Array]", states)


def gather_puzzle_rows(
  model: HRM, weights: Weights, ids: jax.Array
) -> jax.Array:
  """Each row's puzzle embedding: [B] int32 to [B, W] float32."""
  if weights.puzzle_table is None:  # W is 0 then.
    return jnp.zeros((ids.shape[0], model.puzzle_width))
  return gather_rows(weights.puzzle_table, ids)


def gather_rows(table: jax.Array, ids: jax.Array) -> jax.Array:
  """The rows of the identifiers: [N, W] float32, [B] int32 to [B, W]."""
  return jnp.take(table, ids, axis=0)

"""What a run holds from one update to the next."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hrm_jax.model import halting
from hrm_jax.model.halting import Carry
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights


class TrainState(NamedTuple):
  """Everything a run needs to go on, bit for bit.

  What is not here follows from the configuration and from `step`: the order of
  the data, the learning rate, the random numbers of each update.

  Attributes:
    step: [] int32, updates done.
    key: typed PRNG key; update t uses fold_in(key, t).
    weights: what inference needs.
    opt_state: of the dense parameters' transform.
    table_opt_state: of the puzzle table's transform; None without a table.
    carry: what the rows are thinking about.
  """

  step: jax.Array
  key: jax.Array
  weights: Weights
  opt_state: optax.OptState
  table_opt_state: optax.OptState | None
  carry: Carry


class Optimizers(NamedTuple):
  """How the weights move.

  The puzzle table has its own transform, because an update sees a few of its
  rows and the dense parameters all.

  Attributes:
    dense: transform of the dense parameters; takes `is_good`.
    table: transform of the puzzle table.
    learning_rate: of the dense parameters, by update from 1; for the log.
    table_only: whether the dense parameters and their moments stay as they are,
      and no gradient of them is computed.
  """

  dense: optax.GradientTransformationExtraArgs
  table: optax.GradientTransformationExtraArgs
  learning_rate: optax.Schedule
  table_only: bool = False


def init_state(
  model: HRM,
  optimizers: Optimizers,
  *,
  seed: int,
  batch_size: int,
  num_rows: int,
) -> TrainState:
  """The state before the first update; every row waits for its puzzle.

  Args:
    model: the network.
    optimizers: their states start here too.
    seed: of the weights and of all that is random in the updates.
    batch_size: B, of the global batch: one row of the carry each.
    num_rows: N, rows of the puzzle table.
  """
  init_key, key = jax.random.split(jax.random.key(seed))
  weights = init_weights(model, init_key, num_rows)
  table_opt_state = None
  if weights.puzzle_table is not None:
    table_opt_state = optimizers.table.init(weights.puzzle_table)
  return TrainState(
    step=jnp.zeros([], jnp.int32),
    key=key,
    weights=weights,
    opt_state=optimizers.dense.init(weights.params),
    table_opt_state=table_opt_state,
    carry=halting.init_carry(
      batch_size,
      (model.num_positions, model.hidden_size),
      model.seq_len,
      model.dtype,
    ),
  )

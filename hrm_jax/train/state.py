"""What a run holds from one update to the next."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from hrm_jax.checkpoint import run_record
from hrm_jax.model import halting
from hrm_jax.model.halting import Carry
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights
from hrm_jax.optim.adam_atan2 import ScaleByLearningRateState
from hrm_jax.optim.ema import EmaState
from hrm_jax.optim.sparse_sign_sgd import SparseSignSgdState


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
    average: of the dense parameters, state of `Optimizers.average`; None if
      nothing is averaged.
  """

  step: jax.Array
  key: jax.Array
  weights: Weights
  opt_state: optax.OptState
  table_opt_state: optax.OptState | None
  carry: Carry
  average: EmaState | None = None

  @property
  def weights_to_use(self) -> Weights:
    """What evaluation and whoever gets the model use: the average, if any."""
    if self.average is None:
      return self.weights
    return self.weights._replace(params=self.average.params)


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
    average: keeps an average of the dense parameters, see `optim.ema`; None:
      there is none.
  """

  dense: optax.GradientTransformationExtraArgs
  table: optax.GradientTransformationExtraArgs
  learning_rate: optax.Schedule
  table_only: bool = False
  average: optax.GradientTransformationExtraArgs | None = None


def to_save(state: TrainState) -> dict[str, Any]:
  """What a checkpoint holds of a state: its parts by their names.

  Without an average there is no such entry: so it was before there were any.
  """
  parts = state._asdict()
  if state.average is None:
    del parts["average"]
  return parts


def saved_part(run: Mapping[str, Any], shapes: TrainState) -> dict[str, Any]:
  """What of a state the checkpoint with this run record holds.

  Returns:
    The parts of `shapes` by their names: all, or the weights alone.
  """
  if run.get(run_record.WEIGHTS_ONLY):
    return {"weights": shapes.weights}
  return to_save(shapes)


def restored(
  parts: Mapping[str, Any], init: Callable[[], TrainState], done: int
) -> TrainState:
  """The state that a checkpoint's parts make, see `saved_part`.

  Args:
    parts: of the state, by their names.
    init: makes a fresh state, for what the checkpoint does not hold.
    done: updates that it has seen.
  """
  if "opt_state" in parts:
    return TrainState(**parts)
  return begin_at(init(), parts["weights"], done)


def begin_at(fresh: TrainState, weights: Weights, done: int) -> TrainState:
  """A run that goes on from weights whose optimisers nobody has kept.

  Adam's moments begin anew, and their bias correction with them. The learning
  rates go on where their curve is.

  Args:
    fresh: the state before the first update; its weights are not used.
    weights: those to go on from.
    done: updates that they have seen.
  """

  def count(old: jax.Array) -> jax.Array:
    return jax.device_put(jnp.asarray(done, old.dtype), old.sharding)

  def go_on(state: Any) -> Any:
    return state._replace(count=count(state.count)) if _counts(state) else state

  opt_state, table_opt_state = jax.tree.map(
    go_on, (fresh.opt_state, fresh.table_opt_state), is_leaf=_counts
  )
  return with_weights(fresh, weights)._replace(
    step=count(fresh.step),
    opt_state=opt_state,
    table_opt_state=table_opt_state,
  )


def with_weights(fresh: TrainState, weights: Weights) -> TrainState:
  """A fresh state that begins with these weights; so does their average."""
  average = fresh.average
  if average is not None:
    # Copies: a donated buffer can be given away only once.
    average = EmaState(jax.tree.map(jnp.copy, weights.params))
  return fresh._replace(weights=weights, average=average)


def _counts(state: Any) -> bool:
  """Whether it is what counts updates for a learning rate."""
  kinds = (ScaleByLearningRateState, SparseSignSgdState)
  return isinstance(state, kinds)


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
  table_opt_state = average = None
  if optimizers.average is not None:
    average = optimizers.average.init(weights.params)
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
    average=cast("EmaState | None", average),
  )

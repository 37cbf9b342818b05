"""From a configuration to the pure functions of a run."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
from flax import traverse_util
from jax.sharding import Mesh

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.train_batches import check_schedule
from hrm_jax.machines import sharding
from hrm_jax.model import attention, losses
from hrm_jax.model.build import check_arch, make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import num_table_rows
from hrm_jax.optim import adam_atan2, sparse_sign_sgd
from hrm_jax.train import update as step

ON_NONFINITE = ("stop", "rollback", "skip")


class Parts(NamedTuple):
  """What a run is made of.

  Attributes:
    mesh: all devices.
    model: the network.
    loss: which loss.
    optimizers: of the weights.
    init: from nothing to the first state, on the devices.
    shapes: of the state, with its dtypes and shardings.
  """

  mesh: Mesh
  model: HRM
  loss: step.Loss
  optimizers: step.Optimizers
  init: Callable[[], step.TrainState]
  shapes: step.TrainState

  def train_step(self, update: Callable[..., Any]) -> Callable[..., Any]:
    """See `make_train_step`."""
    return make_train_step(
      self.model,
      self.optimizers,
      self.loss,
      self.mesh,
      jax.tree.map(lambda shape: shape.sharding, self.shapes),
      update=update,
    )


def make_parts(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  *,
  total_steps: int,
  earlier_attention: str | None = None,
) -> Parts:
  """Builds what the configuration says; nothing of it compiles yet.

  Args:
    config: checked by `check_config`.
    metadata: of the data set.
    total_steps: of the run, for the learning rate's schedule.
    earlier_attention: see `attention.choose`.

  Raises:
    InputError: the batch or the table does not divide over the devices; there
      is no such loss or attention.
  """
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.table)
  sharding.check_batch_size(config.global_batch_size, mesh)
  model = attention.choose(
    config.attention,
    make_model(config.model, metadata),
    config.global_batch_size // mesh.size,
    earlier=earlier_attention,
  )
  num_rows = num_table_rows(metadata.num_puzzle_identifiers)
  if model.puzzle_width and num_rows % config.mesh.table:
    raise InputError(
      f"mesh.table: expected a divisor of {num_rows:,}, the rows of the puzzle "
      f"table, got {config.mesh.table}."
    )
  optimizers = make_optimizers(config, total_steps)
  init = functools.partial(
    step.init_state,
    model,
    optimizers,
    seed=config.seed,
    batch_size=config.global_batch_size,
    num_rows=num_rows,
  )
  shapes = jax.eval_shape(init)
  shardings = sharding.of_state(
    mesh, shapes, split_moments=config.mesh.split_moments
  )
  return Parts(
    mesh,
    model,
    make_loss(config),
    optimizers,
    jax.jit(init, out_shardings=shardings),
    jax.tree.map(lambda s, at: s.update(sharding=at), shapes, shardings),
  )


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses what makes no sense with any data, before any work is done.

  Raises:
    InputError: names the key.
  """
  check_arch(config.model)
  check_schedule(config.global_batch_size, config.epochs, config.eval_interval)
  at_least = {"log_every": 1, "num_steps": 0, "checkpoint_interval": 0}
  at_least |= {"lr_warmup_steps": 0, "lr": 0, "puzzle_emb_lr": 0}
  at_least |= {"weight_decay": 0, "puzzle_emb_weight_decay": 0}
  at_least |= {"keep_period": 0, "watchdog_seconds": 0}
  at_least |= {"updates_per_dispatch": 1}
  at_least |= {"lr_min_ratio": 0, "loss.q_weight": 0}
  values = traverse_util.flatten_dict(config.to_dict(), sep=".")
  for key, least in at_least.items():
    if not values[key] >= least:  # Nor is NaN.
      raise InputError(
        f"config.{key}: expected at least {least}, got {values[key]}."
      )
  if config.max_to_keep is not None and config.max_to_keep < 1:
    raise InputError(
      f"config.max_to_keep: expected at least 1, got {config.max_to_keep}."
    )
  if config.on_nonfinite not in ON_NONFINITE:
    raise InputError(
      f"config.on_nonfinite: expected one of {', '.join(ON_NONFINITE)}, got "
      f"'{config.on_nonfinite}'."
    )
  for key in ("beta1", "beta2"):
    if not 0 <= config[key] < 1:
      raise InputError(
        f"config.{key}: expected 0 or more, below 1, got {config[key]}."
      )
  if not 0 <= config.early_stop_train_accuracy <= 1:
    raise InputError(
      "config.early_stop_train_accuracy: expected a share from 0 (never) to "
      f"1, got {config.early_stop_train_accuracy}."
    )


def make_loss(config: ml_collections.ConfigDict) -> step.Loss:
  """The loss that the configuration names.

  Raises:
    InputError: there is no such loss.
  """
  if config.loss.loss_type not in losses.LOSS_TYPES:
    raise InputError(
      f"config.loss.loss_type: expected one of "
      f"{', '.join(losses.LOSS_TYPES)}, got '{config.loss.loss_type}'."
    )
  return step.Loss(**config.loss)


def make_optimizers(
  config: ml_collections.ConfigDict, total_steps: int
) -> step.Optimizers:
  """Adam-atan2 for the dense parameters, sign-SGD for the puzzle table."""
  schedule = functools.partial(
    adam_atan2.warmup_cosine,
    warmup_steps=config.lr_warmup_steps,
    total_steps=total_steps,
    min_ratio=config.lr_min_ratio,
  )
  learning_rate = schedule(config.lr)
  return step.Optimizers(
    dense=adam_atan2.adam_atan2(
      learning_rate,
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
    ),
    table=sparse_sign_sgd.sparse_sign_sgd(
      schedule(config.puzzle_emb_lr),
      weight_decay=config.puzzle_emb_weight_decay,
    ),
    learning_rate=learning_rate,
  )


def make_train_step(
  model: HRM,
  optimizers: step.Optimizers,
  loss: step.Loss,
  mesh: Mesh,
  shardings: step.TrainState,
  update: Callable[..., Any] = step.train_step,
) -> Callable[[step.TrainState, Any], Any]:
  """`step.train_step`, jitted for a mesh; it donates the state.

  The state leaves as it came in, so the second update finds the program of
  the first.

  Args:
    model: the network.
    optimizers: of its weights.
    loss: which loss.
    mesh: the devices.
    shardings: laid out like the state.
    update: `step.train_step` or `step.train_steps`.
  """
  return jax.jit(
    functools.partial(update, model=model, optimizers=optimizers, loss=loss),
    donate_argnums=0,
    out_shardings=(shardings, sharding.replicated(mesh)),
  )

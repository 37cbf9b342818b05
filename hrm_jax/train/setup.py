"""From a configuration to the pure functions of a run."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import ml_collections
from jax.sharding import Mesh

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.machines import sharding
from hrm_jax.model import attention
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import num_table_rows
from hrm_jax.optim import adam_atan2, ema, sparse_sign_sgd
from hrm_jax.optim.schedule import warmup_cosine
from hrm_jax.train import data_parallel, portions
from hrm_jax.train.state import Optimizers, TrainState, init_state


class Setup(NamedTuple):
  """What a run is made of.

  Attributes:
    mesh: all devices.
    model: the network.
    loss: which loss.
    optimizers: of the weights.
    init: makes the first state, on the devices.
    shapes: the state's shapes, dtypes and shardings, without its numbers: what
      a checkpoint is restored into.
    reduce_dtype: what gradients are added up in over the devices.
    rows_at_once: how many of its rows a device takes at a time; None: all.
  """

  mesh: Mesh
  model: HRM
  loss: Loss
  optimizers: Optimizers
  init: Callable[[], TrainState]
  shapes: TrainState
  reduce_dtype: str = "float32"
  rows_at_once: int | None = None

  def jit_update(self, update: Callable[..., Any]) -> Callable[..., Any]:
    """`update.train_step` or `train_steps`, jitted; it donates the state.

    The state leaves laid out as it came in, so the second update finds the
    program of the first. What is logged comes out whole on every device.
    """
    update = functools.partial(
      update,
      model=self.model,
      optimizers=self.optimizers,
      loss=self.loss,
      spread=data_parallel.over(
        self.mesh, self.reduce_dtype, self.rows_at_once
      ),
    )
    shardings = jax.tree.map(lambda shape: shape.sharding, self.shapes)
    everywhere = sharding.replicated(self.mesh)
    # Donated: the new state takes the old one's memory, most of what a run
    # needs.
    return jax.jit(
      update,
      donate_argnums=0,
      out_shardings=(shardings, everywhere, everywhere),
    )


def make_setup(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  *,
  total_steps: int,
  devices: Iterable[Any] | None = None,
  timing: attention.Timing | None = None,
  earlier_attention: str | None = None,
) -> Setup:
  """Builds what the configuration says; nothing of it compiles yet.

  Args:
    config: checked by `check_config`.
    metadata: of the data set.
    total_steps: of the run, for the learning rate's schedule.
    devices: that it is for; they need not be here if all that is done is to
      compile. Default: all of all processes.
    timing: how "auto" times attention, see `attention.choose`; it must be given
      for devices that are not here.
    earlier_attention: see `attention.choose`.

  Raises:
    InputError: the batch or the table does not divide over the devices; the
      attention that was asked for does not run.
  """
  # What does not fit the machines is said before anything is timed or traced.
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.table, devices)
  sharding.check_batch_size(config.global_batch_size, mesh)
  model = make_model(config.model, metadata)
  if config.train_only == "puzzle_emb" and not model.puzzle_width:
    raise InputError(
      "config.train_only: expected all with config.model.puzzle_emb_ndim=0, "
      "got puzzle_emb: there is no puzzle table that could move."
    )
  num_rows = num_table_rows(metadata.num_puzzle_identifiers)
  if model.puzzle_width and num_rows % config.mesh.table:
    raise InputError(
      f"config.mesh.table: expected a divisor of {num_rows:,}, the rows of the "
      f"puzzle table, got {config.mesh.table}."
    )
  platform = sharding.platform(mesh)
  rows_at_once = portions.rows_at_once(
    config.rows_at_once,
    model,
    config.global_batch_size // mesh.size,
    platform=platform,
  )
  model = attention.choose(
    config.attention,
    model,
    rows_at_once,
    timing,
    platform=platform,
    earlier=earlier_attention,
  )
  optimizers = make_optimizers(config, total_steps)
  init = functools.partial(
    init_state,
    model,
    optimizers,
    seed=config.seed,
    batch_size=config.global_batch_size,
    num_rows=num_rows,
  )
  # The state is described before it exists. So it is drawn where it shall lie,
  # each device its part, and a run that resumes never draws it.
  shapes = jax.eval_shape(init)
  shardings = sharding.of_state(
    mesh, shapes, split_moments=config.mesh.split_moments
  )
  return Setup(
    mesh,
    model,
    Loss(**config.loss),
    optimizers,
    jax.jit(init, out_shardings=shardings),
    jax.tree.map(lambda s, at: s.update(sharding=at), shapes, shardings),
    config.mesh.reduce_dtype,
    rows_at_once,
  )


def make_optimizers(
  config: ml_collections.ConfigDict, total_steps: int
) -> Optimizers:
  """Adam-atan2 for the dense parameters, sign-SGD for the puzzle table.

  Args:
    config: checked by `check_config`.
    total_steps: of the run; both learning rates follow one curve.
  """
  schedule = functools.partial(
    warmup_cosine,
    warmup_steps=config.lr_warmup_steps,
    total_steps=total_steps,
    min_ratio=config.lr_min_ratio,
  )
  # The table has a rate and a decay of its own: where there are many puzzles, a
  # row of it is used in few updates.
  learning_rate = schedule(config.lr)
  return Optimizers(
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
    table_only=config.train_only == "puzzle_emb",
    average=ema.ema(config.ema_rate) if config.ema else None,
  )

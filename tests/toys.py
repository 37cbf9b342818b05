"""A toy HRM, and what a test needs around it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch, DatasetMetadata
from hrm_jax.machines import sharding
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import Weights, init_weights
from hrm_jax.optim import adam_atan2, sparse_sign_sgd
from hrm_jax.optim.schedule import warmup_cosine
from hrm_jax.train import setup
from hrm_jax.train.state import Optimizers, TrainState, init_state
from hrm_jax.train.update import train_step

BATCH_SIZE = 8
METADATA = DatasetMetadata(
  pad_id=0,
  ignore_label_id=0,
  blank_identifier_id=0,
  vocab_size=7,
  seq_len=5,
  num_puzzle_identifiers=6,
  total_groups=5,
  mean_puzzle_examples=1.0,
  sets=("all",),
)
NUM_ROWS = 8  # In the puzzle table: two more than there are identifiers.

# Kinds of network, by what they change in `toy_model`. What every network must
# hold is one test over all of them; a new kind is one more row.
ARCHS = {
  "hrm": {},
  "deep": {"H_layers": 3, "L_layers": 2, "H_cycles": 1, "unroll": True},
  "no_q": {"q_target": "none"},
  "no_table": {"puzzle_emb_ndim": 0},
  "two_slots": {"puzzle_emb_ndim": 24},
  "learned": {"pos_encodings": "learned"},
  "last_cycle": {"gradient_scope": "last_cycle"},
  "one_module": {"shared_level": True},
  "mlp_t": {"mlp_t": True, "L_layers": 2},
  "wide_slots": {"puzzle_emb_len": 3},
  "H_only": {"H_only": True},
}


def normal(*shape: int, seed: int = 0, dtype=jnp.float32) -> jax.Array:
  """Standard normal numbers."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def toy_model(**arch) -> HRM:
  """One block a level, D 16, float32, at most four segments."""
  toy = {
    "H_layers": 1,
    "L_layers": 1,
    "hidden_size": 16,
    "num_heads": 2,
    "expansion": 1.0,
    "forward_dtype": "float32",
    "halt_max_steps": 4,
  }
  return make_model({**toy, **arch}, METADATA)


def toy_batch(
  seed: int = 0, batch_size: int = BATCH_SIZE, *, padding: int = 0
) -> Batch:
  """Random puzzles; the last `padding` rows are padding."""
  rng = np.random.default_rng(seed)
  shape = (batch_size, METADATA.seq_len)
  batch = Batch(
    inputs=rng.integers(1, METADATA.vocab_size, shape, np.int32),
    labels=rng.integers(1, METADATA.vocab_size, shape, np.int32),
    puzzle_identifiers=rng.integers(
      1, METADATA.num_puzzle_identifiers, batch_size, np.int32
    ),
  )
  batch["labels"][:, 0] = IGNORE_LABEL_ID
  real = batch_size - padding
  batch["inputs"][real:] = METADATA.pad_id
  batch["labels"][real:] = IGNORE_LABEL_ID
  batch["puzzle_identifiers"][real:] = METADATA.blank_identifier_id
  return batch


def toy_weights(model: HRM, seed: int = 0) -> Weights:
  """Random weights everywhere: fresh ones never halt, their table is zero."""
  return random_like(weight_shapes(model), seed)


def random_like(weights: Weights, seed: int = 0) -> Weights:
  """Random weights of the same shapes."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    std = leaf.shape[-2] ** -0.5 if leaf.ndim > 1 else 1.0
    return jnp.asarray(rng.normal(0, std, leaf.shape), leaf.dtype)

  return jax.tree.map(draw, weights)


def weight_shapes(model: HRM) -> Weights:
  """What `init_weights` would draw, without drawing it."""
  return jax.eval_shape(
    lambda key: init_weights(model, key, NUM_ROWS),
    jax.random.key(0),
  )


def without_halting(weights: Weights) -> Weights:
  """Weights whose rows all run until halt_max_steps."""
  q_head = weights.params["q_head"]
  sure = {**q_head, "bias": jnp.asarray([-100.0, 100.0])}
  return weights._replace(params={**weights.params, "q_head": sure})


def toy_optimizers(lr: float = 1e-2, decay: float = 0.1) -> Optimizers:
  """Both transforms at a constant rate."""
  schedule = warmup_cosine(lr, warmup_steps=0, total_steps=10, min_ratio=1.0)
  return Optimizers(
    adam_atan2.adam_atan2(schedule, weight_decay=decay),
    sparse_sign_sgd.sparse_sign_sgd(schedule, weight_decay=decay),
    schedule,
  )


def mesh_of(data: int, table: int = 1) -> Mesh:
  """`sharding.make_mesh` of some of the devices."""
  return sharding.make_mesh(data, table, jax.devices()[: data * table])


class Trainer:
  """`update.train_step`, jitted for some devices, and a state to start from.

  Args:
    model: the network.
    mesh: the devices; default: one.
    num_rows: of the puzzle table.
    split_moments: see `sharding.of_state`.
  """

  def __init__(
    self,
    model: HRM,
    mesh: Mesh | None = None,
    num_rows: int = NUM_ROWS,
    *,
    split_moments: bool = False,
  ):
    self.model, self.mesh = model, mesh or mesh_of(1)
    self.optimizers = toy_optimizers()

    def init(seed):
      return init_state(
        model,
        self.optimizers,
        seed=seed,
        batch_size=BATCH_SIZE,
        num_rows=num_rows,
      )

    self.shapes = jax.eval_shape(init, 0)
    shardings = sharding.of_state(
      self.mesh, self.shapes, split_moments=split_moments
    )
    self.fresh_state = jax.jit(init, out_shardings=shardings)
    self.setup = setup.Setup(
      self.mesh,
      model,
      Loss(),
      self.optimizers,
      lambda: self.fresh_state(0),
      jax.tree.map(lambda s, at: s.update(sharding=at), self.shapes, shardings),
    )
    self.step = self.setup.jit_update(train_step)

  def state(self, seed: int = 0, weights: Weights | None = None) -> TrainState:
    """The state before the first update, with `toy_weights` or others."""
    weights = weights or toy_weights(self.model)
    weights = jax.device_put(weights, sharding.of_weights(self.mesh, weights))
    return self.fresh_state(seed)._replace(weights=weights)

  def put(self, batch: Batch) -> Batch:
    """The batch on the mesh."""
    return jax.device_put(batch, sharding.by_row(self.mesh))


# What `losses.loss_and_metrics` and the optimisers say of one update.
METRIC_SUMS = {
  "count": np.int32(4),
  "accuracy": np.float32(3),
  "exact_accuracy": np.int32(2),
  "q_halt_accuracy": np.int32(4),
  "steps": np.int32(10),
  "lm_loss": np.float32(16),
  "q_halt_loss": np.float32(8),
  "grad_norm": np.float32(0.5),
  "lr": np.float32(0.25),
}

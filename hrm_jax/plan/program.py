"""The training update of a configuration, ready to be compiled.

For devices that are here or not, on puzzles that are only described: neither
data nor a run is needed.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import jax
import ml_collections
import numpy as np

from hrm_jax.config import check_config
from hrm_jax.data.puzzle import Batch, DatasetMetadata
from hrm_jax.machines import sharding
from hrm_jax.model import attention
from hrm_jax.model.build import check_arch
from hrm_jax.train.setup import Setup, make_setup
from hrm_jax.train.update import train_step

# The schedule does not matter for speed, but needs an end.
TOTAL_STEPS = 1_000_000


class Program(NamedTuple):
  """A training update, and what it works on.

  Attributes:
    config: what it was built from.
    metadata: what the generated puzzles look like.
    setup: the network, optimisers and mesh that `config` asks for.
    step: the update, jitted; it donates the state.
  """

  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  setup: Setup
  step: jax.stages.Wrapped

  def batch_shapes(self) -> Batch:
    """Shapes, dtypes and shardings of a batch."""
    B, G = self.config.global_batch_size, self.metadata.seq_len
    by_row = sharding.by_row(self.setup.mesh)

    def int32(*shape: int) -> Any:
      return jax.ShapeDtypeStruct(shape, np.int32, sharding=by_row)

    return Batch(
      inputs=int32(B, G), labels=int32(B, G), puzzle_identifiers=int32(B)
    )

  def lower(self) -> jax.stages.Lowered:
    """The update, traced anew."""
    return self.step.lower(self.setup.shapes, self.batch_shapes())

  def compile(self) -> jax.stages.Compiled:
    """The update, compiled anew."""
    return self.lower().compile()


def make_program(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  *,
  devices: Iterable[Any] | None = None,
  timing: attention.Timing | None = None,
) -> Program:
  """Builds the update that `hrm_jax.train` would run.

  Args:
    config: of the run.
    metadata: see `generated_puzzles`.
    devices: see `make_setup`.
    timing: see `make_setup`.
  """
  check_config(config)
  check_arch(config.model)
  setup = make_setup(
    config,
    metadata,
    total_steps=TOTAL_STEPS,
    devices=devices,
    timing=timing,
  )
  step = cast("Any", setup.jit_update(train_step))
  return Program(config, metadata, setup, step)


def generated_puzzles(
  seq_len: int, vocab_size: int, num_puzzle_identifiers: int
) -> DatasetMetadata:
  """What there is to know of generated puzzles."""
  return DatasetMetadata(
    pad_id=0,
    ignore_label_id=0,
    blank_identifier_id=0,
    vocab_size=vocab_size,
    seq_len=seq_len,
    num_puzzle_identifiers=num_puzzle_identifiers,
    total_groups=1,
    mean_puzzle_examples=1.0,
    sets=("all",),
  )


def generate_batch(
  rng: np.random.Generator,
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
) -> Batch:
  """Random tokens: a batch as the data pipeline would yield it."""
  B, G = config.global_batch_size, metadata.seq_len
  return Batch(
    inputs=rng.integers(0, metadata.vocab_size, (B, G), np.int32),
    labels=rng.integers(0, metadata.vocab_size, (B, G), np.int32),
    puzzle_identifiers=rng.integers(
      0, metadata.num_puzzle_identifiers, B, np.int32
    ),
  )

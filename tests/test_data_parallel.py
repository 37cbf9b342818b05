"""The pass on every device, and the sum over them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.machines import sharding
from hrm_jax.model.halting import Draws
from hrm_jax.model.losses import Loss
from hrm_jax.train import data_parallel, update
from hrm_jax.train.setup import make_setup
from hrm_jax.train.update import train_step
from tests.tiny import tiny_config
from tests.toys import (
  BATCH_SIZE,
  METADATA,
  Trainer,
  mesh_of,
  toy_batch,
  toy_model,
)


def test_one_device_runs_the_pass_as_it_stands():
  assert data_parallel.over(mesh_of(1)) is update.all_rows_at_once


@pytest.mark.parametrize("axes", [(8, 1), (2, 4)])
@pytest.mark.parametrize(
  ("reduce_dtype", "want"),
  [("float32", [8 + 28 / 2**12, 36.0]), ("bfloat16", [8.0, 36.0])],
)
def test_gradients_are_added_up_in_the_type_that_was_asked_for(
  axes, reduce_dtype, want
):
  mesh = mesh_of(*axes)

  def function(shared, rows):  # [1] on each device, which all differ
    # To 8 bits each is 1.
    gradient = jnp.stack([1 + rows[0] / 2**12, 1 + rows[0]])
    # Sums of another kind are exact, whatever gradients may be.
    total, count = 1 + rows[0] / 2**12, rows[0].astype(jnp.int32) + 1000
    return shared * rows, ({"w": gradient}, total, {"count": count})

  spread = data_parallel.over(mesh, reduce_dtype)
  run = jax.jit(functools.partial(spread, function))
  rows = jnp.arange(8, dtype=jnp.float32)
  by_row, (gradients, total, sums) = run(jnp.float32(3), rows)
  np.testing.assert_array_equal(by_row, 3 * rows)
  assert by_row.sharding.is_equivalent_to(sharding.by_row(mesh), ndim=1)
  assert gradients["w"].dtype == jnp.float32
  assert gradients["w"].tolist() == want
  assert gradients["w"].sharding.is_fully_replicated
  assert float(total) == 8 + 28 / 2**12
  assert sums == {"count": 8028}


@pytest.mark.parametrize("reduce_dtype", ["float32", "bfloat16"])
def test_the_sum_has_more_digits_than_what_is_added_up(reduce_dtype):
  # What a device finds is rounded to bfloat16, as its weights were; were their
  # sum rounded so as well, every number of it would be one of bfloat16.
  trainer = Trainer(toy_model(forward_dtype="bfloat16"), mesh_of(8))
  state = trainer.state()
  run = functools.partial(
    update.forward_backward,
    trainer.model,
    loss=Loss(),
    spread=data_parallel.over(trainer.mesh, reduce_dtype),
  )
  draws = Draws(jnp.ones([BATCH_SIZE]), jnp.full([BATCH_SIZE], 2))
  batch = trainer.put(toy_batch())
  _, gradients, _ = jax.jit(run)(state.weights, state.carry, batch, draws)
  for name in ("H_level", "L_level"):
    for leaf in jax.tree.leaves(gradients.params[name]):
      assert leaf.dtype == jnp.float32
      rounded = leaf.astype(jnp.bfloat16).astype(jnp.float32)
      share = float(jnp.mean(leaf == rounded))
      assert share == 1 if reduce_dtype == "bfloat16" else share < 0.5


@pytest.mark.parametrize("reduce_dtype", ["float32", "bfloat16"])
def test_the_configuration_says_what_crosses(reduce_dtype):
  config = tiny_config(**{"mesh.reduce_dtype": reduce_dtype})
  setup = make_setup(config, METADATA, total_steps=10)
  program = setup.jit_update(train_step).lower(
    setup.shapes, toy_batch(batch_size=16)
  )
  # As JAX hands it over; what a backend makes of it is in `test_tpu_sums`.
  results = re.findall(
    r"stablehlo.all_reduce.*?\) -> tensor<([^>]*)>",
    program.as_text(),
    re.DOTALL,
  )
  weights = jax.tree.leaves(setup.shapes.weights.params)
  dense = [name for name in results if "x" in name]
  short = {"float32": "f32", "bfloat16": "bf16"}[reduce_dtype]
  assert len(weights) == sum(name.endswith(f"x{short}") for name in dense)
  assert {name.rpartition("x")[2] for name in dense} == {short}

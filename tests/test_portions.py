"""The pass for a portion of the rows at a time: the same update."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model.halting import Draws
from hrm_jax.model.losses import Loss
from hrm_jax.train import data_parallel, portions, update
from hrm_jax.train.setup import make_setup
from tests.tiny import tiny_config
from tests.toys import (
  ARCHS,
  BATCH_SIZE,
  METADATA,
  Trainer,
  mesh_of,
  toy_batch,
  toy_model,
)


@pytest.mark.parametrize("size", [None, 1, 3, 4, 7, 8, 100])
def test_rows_keep_their_places_and_sums_hold_each_row_once(size):
  seen = []

  def function(shared, rows, others):
    seen.append(len(rows))
    by_row = (shared * rows, {"other": others[:, ::-1]})
    return by_row, (rows.sum(), {"count": jnp.int32(len(rows))}, None)

  rows = jnp.arange(1.0, 9.0)
  others = jnp.arange(16).reshape(8, 2)
  run = jax.jit(portions.in_portions(function, size))
  (scaled, other), (total, count, nothing) = run(jnp.float32(3), rows, others)
  np.testing.assert_array_equal(scaled, 3 * rows)
  np.testing.assert_array_equal(other["other"], others[:, ::-1])
  assert (float(total), int(count["count"]), nothing) == (36.0, 8, None)
  assert max(seen) <= (size or 8)


def gradients_of(model, rows_at_once, devices=1, *, table_only=False):
  trainer = Trainer(model, mesh_of(devices))
  state = trainer.state()
  run = functools.partial(
    update.forward_backward,
    model,
    loss=Loss(),
    spread=data_parallel.over(trainer.mesh, "float32", rows_at_once),
    table_only=table_only,
  )
  draws = Draws(
    jnp.linspace(0, 1, BATCH_SIZE), jnp.arange(2, 2 + BATCH_SIZE) % 4 + 1
  )
  batch = trainer.put(toy_batch(padding=1))
  return jax.jit(run)(state.weights, state.carry, batch, draws)


@pytest.mark.parametrize(
  ("arch", "rows_at_once", "devices"),
  [("hrm", 3, 1), ("no_q", 1, 4), ("no_table", 2, 1)],
)
def test_an_update_is_the_same(arch, rows_at_once, devices):
  model = toy_model(**ARCHS[arch])
  want = gradients_of(model, None, devices)
  got = gradients_of(model, rows_at_once, devices)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    if jnp.issubdtype(one.dtype, jnp.floating):
      np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    else:
      np.testing.assert_array_equal(one, other)


def test_without_gradient_of_the_parameters_too():
  model = toy_model()
  want = gradients_of(model, None, table_only=True)
  got = gradients_of(model, 3, table_only=True)
  assert got[1].params is None
  np.testing.assert_allclose(
    got[1].puzzle_rows.rows, want[1].puzzle_rows.rows, rtol=1e-4, atol=1e-8
  )


@pytest.mark.parametrize(
  ("seq_len", "rows", "want", "dtype"),
  [
    (81, 96, 96, "bfloat16"),
    (81, 192, 96, "bfloat16"),  # Two portions.
    (81, 192, 64, "float32"),
    (81, 194, 97, "bfloat16"),
    (81, 717, 120, "bfloat16"),  # Fewer than twelve cannot all be alike.
    (900, 48, 12, "bfloat16"),
    (900, 6, 6, "bfloat16"),
    (900, 13, 7, "bfloat16"),
    (10**6, 5, 1, "bfloat16"),  # Not even one row is small.
  ],
)
def test_a_tpu_takes_few_rows_at_once(seq_len, rows, want, dtype):
  model = toy_model(
    hidden_size=512, num_heads=8, expansion=4.0, forward_dtype=dtype
  ).clone(seq_len=seq_len)
  take = functools.partial(portions.rows_at_once, None, model, rows)
  assert take(platform="tpu") == want
  assert take(platform="gpu") == take(platform="cpu") == rows


def test_what_is_asked_for_is_taken_on_any_platform():
  for platform in ("cpu", "gpu", "tpu"):
    take = functools.partial(
      portions.rows_at_once, model=toy_model(), rows=48, platform=platform
    )
    assert (take(5), take(48), take(1000)) == (5, 48, 48)


@pytest.mark.parametrize("rows_at_once", [None, 1])
def test_the_configuration_says_how_many(rows_at_once):
  config = tiny_config(rows_at_once=rows_at_once)
  setup = make_setup(config, METADATA, total_steps=10)
  of_each_device = config.global_batch_size // setup.mesh.size
  assert of_each_device > 1
  assert setup.rows_at_once == (rows_at_once or of_each_device)
  lowered = setup.jit_update(update.train_step).lower(
    setup.shapes, toy_batch(batch_size=config.global_batch_size)
  )
  # The states are what the loop over portions steps through.
  S, D = setup.model.num_positions, setup.model.hidden_size
  stacked = f"tensor<{of_each_device}x1x{S}x{D}xf32>"
  assert (stacked in lowered.as_text()) == (rows_at_once is not None)

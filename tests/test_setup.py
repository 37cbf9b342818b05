"""From a configuration to the functions of a run."""

import functools

import jax
import numpy as np

from hrm_jax.machines import sharding
from hrm_jax.model import attention
from hrm_jax.model.losses import Loss
from hrm_jax.train.setup import make_setup
from hrm_jax.train.update import train_step, train_steps
from tests.tiny import tiny_config
from tests.toys import METADATA, toy_batch


@functools.cache
def tiny_setup():
  config = tiny_config(**{"mesh.table": 2, "mesh.split_moments": True})
  return make_setup(config, METADATA, total_steps=10)


def test_the_first_state_is_what_its_shapes_say():
  setup = tiny_setup()
  state = setup.init()
  for got, want in zip(
    *map(jax.tree.leaves, (state, setup.shapes)), strict=True
  ):
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert got.sharding.is_equivalent_to(want.sharding, got.ndim)


def test_an_update_leaves_the_state_as_it_found_it():
  setup = tiny_setup()
  batch = toy_batch(batch_size=16)
  for update, batches in ((train_step, batch), (train_steps, [batch] * 2)):
    step = setup.jit_update(update)
    state, *_ = jax.eval_shape(step, setup.shapes, batches)
    assert jax.tree.structure(state) == jax.tree.structure(setup.shapes)
    for got, want in zip(
      *map(jax.tree.leaves, (state, setup.shapes)), strict=True
    ):
      assert (got.shape, got.dtype) == (want.shape, want.dtype)
      assert got.sharding.is_equivalent_to(want.sharding, got.ndim)


def test_loss_and_learning_rate_are_those_of_the_configuration():
  config = tiny_config(
    **{"loss.loss_type": "softmax_cross_entropy", "loss.q_weight": 0.25}
  )
  setup = make_setup(config, METADATA, total_steps=10)
  assert setup.loss == Loss("softmax_cross_entropy", 0.25)
  rates = [setup.optimizers.learning_rate(t) for t in (1, 2)]
  np.testing.assert_allclose(rates, [config.lr / 2, config.lr], rtol=1e-6)


def test_a_run_keeps_the_attention_that_it_had(monkeypatch):
  monkeypatch.setattr(sharding, "platform", lambda mesh: "gpu")
  seconds = {"xla": 2.0, "cudnn": 1.0}
  monkeypatch.setattr(
    attention, "measured_seconds", lambda which, model, rows: seconds[which]
  )
  setup = make_setup(
    tiny_config(), METADATA, total_steps=10, earlier_attention="xla"
  )
  assert setup.model.attention == "xla"

"""Adam-atan2, on trees of a few numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrm_jax.optim import adam_atan2
from hrm_jax.optim.schedule import warmup_cosine
from tests.toys import normal

PARAMS = {"kernel": normal(3, 4), "bias": normal(4, seed=1)}


def gradients(seed):
  return {"kernel": normal(3, 4, seed=seed), "bias": normal(4, seed=seed + 9)}


def run(transform, grads, params=PARAMS):
  """Parameters and state after an update with each of `grads`."""
  state = transform.init(params)
  for grad in grads:
    updates, state = transform.update(grad, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def scaled(tree, factor):
  return jax.tree.map(lambda leaf: factor * leaf, tree)


def assert_trees_close(got, want, rtol=1e-6):
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-7)


def test_direction_does_not_depend_on_the_scale_of_the_gradient():
  grads = [gradients(seed) for seed in range(3)]
  transform = adam_atan2.adam_atan2(1e-2)
  want, _ = run(transform, grads)
  # A power of two, so that the scaled moments round alike.
  got, _ = run(transform, [scaled(grad, 2.0**-20) for grad in grads])
  assert_trees_close(got, want)


def test_bias_correction_of_the_first_moment_stands_outside():
  b1, b2 = 0.9, 0.95
  transform = adam_atan2.scale_by_adam_atan2(b1, b2)
  state, grad = transform.init(PARAMS), gradients(0)
  for t in (1, 2, 3):
    direction, state = transform.update(grad, state, PARAMS)
    # The same gradient every time: the corrected second moment is its square.
    size = np.arctan2(1 - b1**t, 1) / (1 - b1**t)
    want = jax.tree.map(lambda g, size=size: size * np.sign(g), grad)
    assert_trees_close(direction, want, rtol=1e-5)


def test_without_gradient_every_parameter_only_decays():
  transform = adam_atan2.adam_atan2(0.1, weight_decay=0.5)
  params, _ = run(transform, [scaled(PARAMS, 0.0)] * 2)
  assert_trees_close(params, scaled(PARAMS, 0.95**2))


def test_decay_uses_the_parameters_before_the_update():
  grads = [gradients(0)]
  plain, _ = run(adam_atan2.adam_atan2(0.1), grads)
  decayed, _ = run(adam_atan2.adam_atan2(0.1, weight_decay=0.5), grads)
  want = jax.tree.map(lambda p, q: p - 0.05 * q, plain, PARAMS)
  assert_trees_close(decayed, want, rtol=1e-5)


def test_state_keeps_its_layout_and_counts_updates():
  transform = adam_atan2.adam_atan2(0.1)
  _, state = run(transform, [gradients(0)] * 3)
  assert state[0].count == 3
  assert state[0].count.dtype == jnp.int32
  before = transform.init(PARAMS)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, before)
  kinds = [jax.tree.map(jnp.result_type, s) for s in (state, before)]
  assert kinds[0] == kinds[1]


def test_moments_decay_by_their_own_rates():
  transform = adam_atan2.scale_by_adam_atan2(0.5, 0.75)
  state = transform.init(jnp.zeros([1]))
  for grad in (2.0, 0.0):
    _, state = transform.update(jnp.full([1], grad), state)
  np.testing.assert_allclose(state.mu, [0.5 * 0.5 * 2])
  np.testing.assert_allclose(state.nu, [0.75 * 0.25 * 4])


def test_the_angle_is_that_of_arctan2():
  m = np.concatenate([[0, 0, 1, -1, 1], np.linspace(-3, 3, 1001)])
  root = np.concatenate([[0, 1, 0, 0, 1], np.logspace(-18, 18, 1001)])
  m, v = m.astype(np.float32), np.square(root).astype(np.float32)
  want = np.arctan2(m.astype(float), np.sqrt(v.astype(float)))
  np.testing.assert_allclose(adam_atan2.angle(m, v), want, rtol=2.5e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-17, 1e-10, 1e10, 1e15])
def test_the_angle_is_right_for_small_and_large_numbers(scale):
  m, root = scale * np.array([[1, -2, 0, 1, 1], [1, 1, 1, 0, 1e3]])
  v = np.square(root).astype(np.float32)  # 0 in the smallest of cases.
  want = np.arctan2(m, np.sqrt(v.astype(float)))
  got = adam_atan2.angle(m.astype(np.float32), v)
  np.testing.assert_allclose(got, want, rtol=2.5e-7)


def test_an_update_that_is_not_good_changes_nothing():
  transform = adam_atan2.adam_atan2(
    lambda update: 0.1 * jnp.float32(update), weight_decay=0.5
  )
  broken = scaled(gradients(1), np.nan)
  params, state = run(transform, [gradients(0)])
  updates, after = transform.update(broken, state, params, is_good=False)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(updates))
  for one, other in zip(*map(jax.tree.leaves, (after, state)), strict=True):
    np.testing.assert_array_equal(one, other)
  # Not even as the very first one.
  fresh = transform.init(PARAMS)
  updates, after = transform.update(broken, fresh, PARAMS, is_good=False)
  assert all(not np.any(leaf) for leaf in jax.tree.leaves((updates, after)))


def test_jit_changes_nothing():
  transform = adam_atan2.adam_atan2(
    warmup_cosine(1e-2, warmup_steps=2, total_steps=9, min_ratio=0.1),
    weight_decay=0.1,
  )
  grads = [gradients(seed) for seed in range(3)]
  want, _ = run(transform, grads)
  got, _ = jax.jit(lambda grads: run(transform, grads))(grads)
  assert_trees_close(got, want, rtol=1e-5)


def test_first_update_takes_rate_one():
  transform = adam_atan2.adam_atan2(
    lambda update: 0.1 * jnp.float32(update), weight_decay=1.0
  )
  params, _ = run(transform, [scaled(PARAMS, 0.0)])
  assert_trees_close(params, scaled(PARAMS, 0.9))

"""One recurrent module: its weights, and the same as a pure function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model.layers import Block
from hrm_jax.model.level import Level
from tests.toys import normal

make_block = functools.partial(
  Block, num_heads=2, expansion=1.0, rope_theta=1e4, rms_norm_eps=1e-5
)


def test_each_layer_starts_by_its_own_fan_in():
  z = normal(1, 2, 64)
  variables = jax.jit(Level(3, make_block).init)(jax.random.key(0), z, z)
  kernels = jax.tree.leaves(variables)
  assert len(kernels) == 3 * 4
  for kernel in kernels:
    deviation = kernel.std() * kernel.shape[0] ** 0.5
    np.testing.assert_allclose(deviation, 1, rtol=0.05)
    assert np.abs(kernel).max() * kernel.shape[0] ** 0.5 <= 2.2738
  first, second, _ = (
    jax.tree.leaves(variables["params"][f"layers_{i}"]) for i in range(3)
  )
  for one, other in zip(first, second, strict=True):
    assert not np.any(one == other)


@pytest.mark.parametrize(
  ("num_layers", "unroll"), [(1, False), (3, False), (3, True)]
)
def test_the_pure_function_is_the_module(num_layers, unroll):
  level = Level(num_layers, make_block, unroll=unroll)
  z, injection = normal(2, 3, 5, 16)
  variables = jax.jit(level.init)(jax.random.key(0), z, injection)
  want = jax.jit(level.apply)(variables, z, injection)

  @functools.partial(jax.jit, static_argnums=2)
  def run(variables, z, num_outputs):
    bound = level.bind(variables)
    function = bound.as_function(jnp.dtype("float32"), num_outputs=num_outputs)
    return function(z, injection)

  np.testing.assert_allclose(run(variables, z, None), want, atol=1e-5)
  got = run(variables, z, 2)
  assert got.shape == (3, 2, 16)
  np.testing.assert_allclose(got, want[:, :2], atol=1e-5)


def test_no_gradient_enters_a_frozen_function():
  level = Level(2, make_block)
  z = normal(2, 3, 16)
  variables = jax.jit(level.init)(jax.random.key(0), z, z)

  @functools.partial(jax.jit, static_argnums=1)
  def gradient(variables, frozen):
    def total(variables):
      function = level.bind(variables).as_function(z.dtype, frozen=frozen)
      return jnp.sum(jnp.sin(function(z, z)))

    return jax.grad(total)(variables)

  assert not any(map(np.any, jax.tree.leaves(gradient(variables, True))))
  assert all(map(np.any, jax.tree.leaves(gradient(variables, False))))

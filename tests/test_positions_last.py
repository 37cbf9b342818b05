"""Blocks laid out for a TPU, held against the layout of other devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model import attention, layers
from tests.toys import normal, toy_model


def both_layouts(theta=10_000.0) -> list[Any]:
  """The same attention twice, the one under test first."""
  return [
    layers.Attention(2, theta, positions_last=last) for last in (True, False)
  ]


@pytest.mark.parametrize("theta", [None, 10_000.0])
@pytest.mark.parametrize("num_queries", [None, 1, 2])
def test_both_layouts_give_the_same_numbers(theta, num_queries):
  x = normal(3, 5, 16)
  here, there = both_layouts(theta)
  params = here.init(jax.random.key(0), x)
  assert jax.tree.map(np.shape, params) == jax.tree.map(
    np.shape, there.init(jax.random.key(0), x)
  )
  got, want = (m.apply(params, x, num_queries) for m in (here, there))
  assert got.shape == (3, num_queries or 5, 16)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  ("theta", "num_queries"), [(None, None), (10_000.0, None), (10_000.0, 2)]
)
def test_both_layouts_of_attention_have_the_same_gradients(theta, num_queries):
  check_gradients(*both_layouts(theta), num_queries)


def test_both_layouts_of_the_mlp_are_the_same():
  check_gradients(
    *(layers.SwiGLU(1.0, in_place=in_place) for in_place in (True, False))
  )


def test_both_layouts_of_a_block_are_the_same():
  check_gradients(
    *(
      layers.Block(2, 1.0, 10_000.0, rms_norm_eps=1e-5, for_tpu=for_tpu)
      for for_tpu in (True, False)
    )
  )


def check_gradients(here, there, *args):
  """Of the parameters and the input; and the results."""
  x, weight = normal(2, 3, 5, 16)
  params = here.init(jax.random.key(0), x)

  def gradients(module):
    def loss(params, x):
      y = module.apply(params, x, *args)
      return jnp.sum(weight[:, : y.shape[1]] * y), y

    return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x)

  got, want = map(jax.tree.leaves, map(gradients, (here, there)))
  for one, other in zip(got, want, strict=True):
    scale = np.abs(other).max()
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6 * scale)


def test_both_layouts_draw_the_same_weights():
  x = normal(3, 5, 16)
  drawn = [m.init(jax.random.key(0), x) for m in both_layouts()]
  jax.tree.map(np.testing.assert_array_equal, *drawn)


def test_the_layout_computes_in_the_dtype_of_its_input():
  x = normal(3, 5, 16, dtype=jnp.bfloat16)
  here, there = both_layouts()
  params = here.init(jax.random.key(0), x)
  got, want = (m.apply(params, x) for m in (here, there))
  assert got.dtype == jnp.bfloat16
  # A few roundings of 2**-9 each.
  np.testing.assert_allclose(
    *(t.astype(np.float32) for t in (got, want)), atol=0.03
  )


@pytest.mark.parametrize(
  ("platform", "for_tpu"), [("tpu", True), ("gpu", False), ("cpu", False)]
)
def test_the_platform_chooses_the_layout(platform, for_tpu):
  model = attention.choose("xla", toy_model(), 1, platform=platform)
  assert model.for_tpu is for_tpu

"""The layers, one property each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model import layers
from tests.toys import normal

EPS = 1e-5


def init_and_apply(module, x, seed=0):
  return jax.jit(module.init_with_output)(jax.random.key(seed), x)


def test_rms_norm_gives_unit_mean_square():
  y = layers.rms_norm(100 * normal(3, 5, 16), EPS)
  np.testing.assert_allclose(jnp.mean(y**2, -1), np.ones([3, 5]), rtol=1e-5)


def test_rms_norm_keeps_the_dtype_and_works_in_float32():
  x = 100 * normal(64, 16, dtype=jnp.bfloat16)
  y = layers.rms_norm(x, EPS)
  assert y.dtype == jnp.bfloat16
  exact = layers.rms_norm(x.astype(jnp.float32), EPS)
  np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def rotate(x):
  return layers.Rotation(10_000.0).apply({}, x)


def test_rotation_keeps_the_norm_and_the_first_position():
  x = normal(2, 6, 3, 8)
  y = rotate(x)
  lengths = [jnp.linalg.norm(z, axis=-1) for z in (y, x)]
  np.testing.assert_allclose(*lengths, rtol=1e-5)
  np.testing.assert_array_equal(y[:, 0], x[:, 0])


def test_rotated_scores_depend_on_the_distance_alone():
  query, key = normal(2, 8)
  turned = [
    rotate(jnp.broadcast_to(x, (1, 6, 1, 8)))[0, :, 0] for x in (query, key)
  ]
  scores = turned[0] @ turned[1].T
  np.testing.assert_allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-5)
  by_distance = np.concatenate([scores[0], scores[1:, 0]])
  assert np.diff(np.sort(by_distance)).min() > 1e-3


def test_rotation_turns_each_half_with_the_other():
  x = jnp.zeros((1, 3, 1, 8)).at[..., 1].set(1.0)
  y = rotate(x)[0, :, 0]
  np.testing.assert_array_equal(np.nonzero(y[2])[0], [1, 5])
  angle = 2 * 10_000.0 ** (-2 / 8)
  np.testing.assert_allclose(y[2, [1, 5]], [np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize(
  ("theta", "is_equivariant"), [(None, True), (10_000.0, False)]
)
def test_attention_without_rotation_knows_no_order(theta, is_equivariant):
  x = normal(2, 6, 16)
  order = np.random.default_rng(0).permutation(6)
  module = layers.Attention(2, theta)
  y, variables = init_and_apply(module, x)
  permuted = module.apply(variables, x[:, order])
  assert np.allclose(permuted, y[:, order], atol=1e-6) == is_equivariant


def test_attention_looks_ahead_and_not_at_other_rows():
  x = normal(2, 4, 16)
  module = layers.Attention(2, 10_000.0)
  y, variables = init_and_apply(module, x)
  changed = module.apply(variables, x.at[0, -1].add(1.0))
  assert np.abs(changed[0] - y[0]).max(axis=-1).min() > 1e-4
  np.testing.assert_allclose(changed[1], y[1], atol=1e-6)


@pytest.mark.parametrize(
  ("hidden_size", "expansion", "width"),
  [
    (512, 4.0, 1536),  # 1365.33
    (384, 1.0, 256),  # 256 exactly
    (384, 1 + 1 / 512, 256),  # 256.5: to even, as Python's round
    (384, 1 + 3 / 512, 512),  # 257.5
    (16, 1.0, 256),
  ],
)
def test_swiglu_width_rounds_up_to_256s(hidden_size, expansion, width):
  assert layers.swiglu_width(hidden_size, expansion) == width


def test_swiglu_gates_with_the_first_half():
  x = normal(4, 16)
  y, variables = init_and_apply(layers.SwiGLU(1.0), x)
  kernels = {k: v["kernel"] for k, v in variables["params"].items()}
  gate, up = np.split(x @ kernels["gate_up_proj"], 2, axis=-1)
  gated = gate / (1 + np.exp(-gate)) * up
  np.testing.assert_allclose(y, gated @ kernels["down_proj"], atol=1e-5)


def test_block_normalises_its_output():
  x = 10 * normal(2, 5, 16)
  block = layers.Block(2, 1.0, 10_000.0, rms_norm_eps=EPS)
  y, _ = init_and_apply(block, x)
  np.testing.assert_allclose(jnp.mean(y**2, -1), np.ones([2, 5]), rtol=1e-4)


def test_weights_have_the_deviation_after_the_cut():
  kernel = jax.jit(layers.truncated_normal(0.02), static_argnums=1)(
    jax.random.key(0), (400, 400)
  )
  np.testing.assert_allclose(kernel.std(), 0.02, rtol=0.01)
  largest = np.abs(kernel).max() / 0.02
  assert 2.26 < largest <= 2.2738


def test_linear_starts_by_its_fan_in_and_embedding_by_its_width():
  kernel = init_and_apply(layers.Linear(300), normal(1, 64))[1]["params"]
  table = init_and_apply(
    layers.Embedding(300, 64, jnp.dtype("float32")), jnp.zeros([1], jnp.int32)
  )[1]["params"]
  np.testing.assert_allclose(kernel["kernel"].std(), 64**-0.5, rtol=0.02)
  np.testing.assert_allclose(table["embedding"].std(), 64**-0.5, rtol=0.02)


def test_linear_has_a_bias_only_if_asked():
  x = normal(2, 3, 4)
  plain, variables = init_and_apply(layers.Linear(5), x)
  assert set(variables["params"]) == {"kernel"}
  biased, variables = init_and_apply(
    layers.Linear(5, use_bias=True, bias_value=-5.0), x
  )
  assert set(variables["params"]) == {"kernel", "bias"}
  np.testing.assert_allclose(biased, plain - 5, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_layers_compute_in_the_dtype_of_their_input(dtype):
  x = normal(1, 3, 16, dtype=dtype)
  block = layers.Block(2, 1.0, 10_000.0, rms_norm_eps=EPS)
  y, variables = jax.eval_shape(block.init_with_output, jax.random.key(0), x)
  assert y.dtype == dtype
  kept = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kept == {jnp.dtype("float32")}


def test_the_backward_pass_of_the_mlp_is_that_of_its_formula():
  keys = jax.random.split(jax.random.key(0), 3)
  gate_up = 2 * jax.random.normal(keys[0], (5, 6))
  kernel = jax.random.normal(keys[1], (3, 4))
  d_y = jax.random.normal(keys[2], (5, 4))

  def formula(gate_up, kernel):
    gate, up = gate_up[:, :3], gate_up[:, 3:]
    return (gate * jax.nn.sigmoid(gate) * up) @ kernel

  y, backward = jax.vjp(layers.gated_down, gate_up, kernel)
  want_y, want_backward = jax.vjp(formula, gate_up, kernel)
  np.testing.assert_allclose(y, want_y, rtol=1e-5, atol=1e-6)
  for got, want in zip(backward(d_y), want_backward(d_y), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)

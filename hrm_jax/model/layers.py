"""The layers of the transformer: linear, embedding, norm, RoPE, attention, MLP.

Nothing here knows of the HRM: this is the block of a Llama-like transformer,
but with post-norm, with full attention instead of causal, and without learned
scales in the norms. Parameters are float32; every layer computes in the dtype
of its input and casts its weights to it.

Shape letters: B rows, S positions, D hidden size, A heads, C = D / A head
size, F MLP width.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from hrm_jax.model import positions_last, splash

# Standard deviation of a unit normal cut at +-2: the cut takes its tails away.
_STD_OF_CUT_NORMAL = 0.87962566103423978


def truncated_normal(std: float) -> nn.initializers.Initializer:
  """Draws from a normal cut at two sigma, whose *result* has deviation `std`.

  Unlike `jax.nn.initializers.truncated_normal`, whose argument is the
  deviation before the cut. Values lie within 2.2737 `std`.
  """

  def init(
    key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32
  ) -> jax.Array:
    sigma = jnp.asarray(std / _STD_OF_CUT_NORMAL, dtype)
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * sigma

  return init


class Linear(nn.Module):
  """`x @ kernel (+ bias)`, computed in the dtype of x.

  Attributes:
    features: size of the last axis of the result.
    use_bias: whether a bias is added; it starts at `bias_value`.
    kernel_init: defaults to a truncated normal of deviation 1/sqrt(fan_in).
  """

  features: int
  use_bias: bool = False
  kernel_init: nn.initializers.Initializer | None = None
  bias_value: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., fan_in] to [..., features]."""
    fan_in = x.shape[-1]
    init = self.kernel_init or truncated_normal(fan_in**-0.5)
    kernel = self.param("kernel", init, (fan_in, self.features))
    # As one matrix: the gradient of a product with two leading axes takes a
    # transposed copy and a slow product on CPUs.
    rows = x.reshape(-1, fan_in)  # [rows, fan_in]
    y = jnp.dot(rows, kernel.astype(x.dtype))  # [rows, features]
    if self.use_bias:
      init = nn.initializers.constant(self.bias_value)
      bias = self.param("bias", init, (self.features,)).astype(x.dtype)
      y += bias[None]
    return y.reshape(*x.shape[:-1], self.features)


class Kernel(nn.Module):
  """The weights of a `Linear` without its product.

  Attributes:
    features: size of the last axis.
  """

  features: int

  @nn.compact
  def __call__(self, fan_in: int, dtype: jnp.dtype) -> jax.Array:
    """Returns [fan_in, features] in `dtype`."""
    init = truncated_normal(fan_in**-0.5)
    kernel = self.param("kernel", init, (fan_in, self.features))
    return kernel.astype(dtype)


class Embedding(nn.Module):
  """A trained table of vectors, of deviation 1/sqrt(features) at the start.

  Attributes:
    num_embeddings: how many vectors.
    features: the size of each.
    dtype: of what is looked up; the table itself is float32.
  """

  num_embeddings: int
  features: int
  dtype: jnp.dtype

  def setup(self) -> None:
    self.embedding = self.param(
      "embedding",
      truncated_normal(self.features**-0.5),
      (self.num_embeddings, self.features),
    )

  def __call__(self, ids: jax.Array) -> jax.Array:
    """Looks up [...] integers in [0, num_embeddings): [..., features]."""
    return jnp.take(self.table(), ids, axis=0)

  def table(self) -> jax.Array:
    """The whole table, [num_embeddings, features], in `dtype`."""
    return self.embedding.astype(self.dtype)


def rms_norm(x: jax.Array, eps: float) -> jax.Array:
  """Divides the last axis by its root mean square; no learned scale.

  Computed in float32 and cast back to the dtype of x. Without a scale the
  states have one size after every block, however many a recurrence runs.
  """
  y = x.astype(jnp.float32)
  mean_square = jnp.mean(jnp.square(y), axis=-1, keepdims=True)  # [..., 1]
  return (y * lax.rsqrt(mean_square + eps)).astype(x.dtype)


def rotary_angles(S: int, C: int, theta: float) -> np.ndarray:
  """By which angle each position turns each pair: [S, C / 2] float64.

  Pair i of a head is made of its components i and i + C / 2.
  """
  # On the host, once per compilation: the table is a constant.
  frequency = theta ** (-np.arange(0, C, 2) / C)  # [C / 2]
  return np.outer(np.arange(S), frequency)


class Rotation(nn.Module):
  """Rotary position embedding (RoPE), "rotate half" convention.

  Component i of a head turns together with component i + C/2, by the angle
  position * theta^(-2i/C).
  """

  theta: float

  def __call__(self, x: jax.Array) -> jax.Array:
    """Rotates [B, S, A, C] by position along S; float32 inside."""
    _, S, _, C = x.shape
    angle = rotary_angles(S, C, self.theta)  # [S, C / 2]
    angle = np.concatenate([angle, angle], axis=-1)  # [S, C]
    angle = angle[None, :, None, :]  # [1, S, 1, C]
    cos = jnp.asarray(np.cos(angle), jnp.float32)
    sin = jnp.asarray(np.sin(angle), jnp.float32)
    y = x.astype(jnp.float32)
    first, second = jnp.split(y, 2, axis=-1)  # [B, S, A, C / 2] each
    turned = jnp.concatenate([-second, first], axis=-1)
    return (y * cos + turned * sin).astype(x.dtype)


def mix_values(
  query: jax.Array, key: jax.Array, value: jax.Array, implementation: str
) -> jax.Array:
  """Softmax attention of every position to every one.

  Scores and softmax are float32 whatever the dtype.

  Args:
    query: [B, S, A, C].
    key: like `query`.
    value: like `query`.
    implementation: "xla"; "cudnn": an NVIDIA GPU and bfloat16 only; or
      "splash": a TPU only, see `splash`. With these two there is no [B, A, S,
      S] in memory.

  Returns:
    [B, S, A, C], of the same dtype.
  """
  if implementation == "splash":
    return splash.mix_values(query, key, value)
  if implementation == "cudnn":
    return _mix_values_by_cudnn(query, key, value)
  # As `jax.nn.dot_product_attention`, but with the heads ahead of the
  # positions in the products, the layout in which CPUs need the fewest copies.
  query, key, value = (jnp.swapaxes(t, 1, 2) for t in (query, key, value))
  # Now [B, A, S, C] each; below, t are the positions of the queries, s those of
  # the keys.
  scores = jnp.einsum(
    "batc,basc->bats", query, key, preferred_element_type=jnp.float32
  )
  scale = query.shape[-1] ** -0.5
  weights = jax.nn.softmax(scores * scale)  # [B, A, S, S]
  mixed = jnp.einsum("bats,basc->batc", weights.astype(value.dtype), value)
  return jnp.swapaxes(mixed, 1, 2)  # [B, S, A, C]


def _mix_values_by_cudnn(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  _, S, _, C = query.shape
  mix = functools.partial(
    jax.nn.dot_product_attention, scale=C**-0.5, implementation="cudnn"
  )
  if S % 2 == 0:
    return mix(query, key, value)
  # JAX refuses the gradient where the number of positions is odd: one more,
  # which no position hears.
  query, key, value = (
    jnp.pad(t, ((0, 0), (0, 1), (0, 0), (0, 0))) for t in (query, key, value)
  )
  lengths = jnp.full(len(query), S, jnp.int32)
  mixed = mix(
    query,
    key,
    value,
    query_seq_lengths=lengths,
    key_value_seq_lengths=lengths,
  )
  return mixed[:, :S]


class Attention(nn.Module):
  """Full (non-causal) softmax attention with one fused projection.

  Every cell of a puzzle may depend on every other, in any order, so nothing is
  masked. A small grid is filled up with the token PAD, which takes part like
  any other.

  Attributes:
    num_heads: A; must divide D.
    rope_theta: base of the rotary positions of query and key; None for none.
    implementation: see `mix_values`.
    positions_last: whether XLA's implementation has the positions in the last
      axis, see `positions_last.attend`.
  """

  num_heads: int
  rope_theta: float | None
  implementation: str = "xla"
  positions_last: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, num_queries: int | None = None) -> jax.Array:
    """Maps [B, S, D] to [B, T, D], what the first T positions hear.

    T is S, or `num_queries`.
    """
    B, S, D = x.shape
    C = D // self.num_heads
    # The other implementations are chosen by their time with all queries.
    implementation = "xla" if num_queries else self.implementation
    if self.positions_last and implementation == "xla":
      angles = None
      if self.rope_theta is not None:
        angles = rotary_angles(S, C, self.rope_theta)  # [S, C / 2]
      return positions_last.attend(
        x,
        Kernel(3 * D, name="qkv_proj")(D, x.dtype),  # [D, 3D]
        Kernel(D, name="o_proj")(D, x.dtype),  # [D, D]
        num_heads=self.num_heads,
        angles=angles,
        num_queries=num_queries,
      )
    qkv = Linear(3 * D, name="qkv_proj")(x)  # [B, S, 3D]
    qkv = qkv.reshape(B, S, 3 * self.num_heads, C)  # [B, S, 3A, C]
    query, key, value = jnp.split(qkv, 3, axis=2)  # [B, S, A, C] each
    query = query[:, :num_queries]  # [B, T, A, C]
    if self.rope_theta is not None:
      rotate = Rotation(self.rope_theta)
      query, key = rotate(query), rotate(key)
    mixed = mix_values(query, key, value, implementation)  # [B, T, A, C]
    return Linear(D, name="o_proj")(mixed.reshape(B, -1, D))  # [B, T, D]


def swiglu_width(hidden_size: int, expansion: float) -> int:
  """F: two thirds of `expansion * hidden_size`, rounded up to 256s.

  A gated MLP has three matrices where a plain one has two: with two thirds of
  the width it has as many weights. Python's round (to even on ties), as in the
  reference.
  """
  return -(-round(expansion * hidden_size * 2 / 3) // 256) * 256


@jax.custom_vjp
def gated_down(gate_up: jax.Array, kernel: jax.Array) -> jax.Array:
  """`(silu(gate) * up) @ kernel`, with a backward pass written by hand.

  It keeps `gate_up` alone, not the product of the two as well, which is half as
  large again and cheap to make anew; and it writes the gradients of gate and up
  into one array at once. Left to itself the compiler makes them apart and joins
  them after, once for each of the two products that take them.

  Args:
    gate_up: [rows, 2F], gate and up side by side.
    kernel: [F, D], of the same dtype.

  Returns:
    [rows, D].
  """
  gate, up = jnp.split(gate_up, 2, axis=-1)  # [rows, F] each
  return jnp.dot(nn.silu(gate) * up, kernel)


def _gated_down_forward(gate_up, kernel):
  return gated_down(gate_up, kernel), (gate_up, kernel)


def _gated_down_backward(kept, d_y):
  gate_up, kernel = kept
  d_hidden = jnp.dot(d_y, kernel.T)  # [rows, F]
  gate, up, d = (
    t.astype(jnp.float32) for t in (*jnp.split(gate_up, 2, axis=-1), d_hidden)
  )
  share = nn.sigmoid(gate)
  silu = gate * share
  # The derivative of silu is share (1 + gate (1 - share)).
  d_gate = d * up * (share + silu * (1 - share))
  d_gate_up = jnp.concatenate([d_gate, d * silu], axis=-1)
  # The barrier keeps the compiler from making either of them twice.
  d_gate_up, hidden = lax.optimization_barrier(
    (d_gate_up.astype(gate_up.dtype), (silu * up).astype(gate_up.dtype))
  )
  return d_gate_up, jnp.dot(hidden.T, d_y)


gated_down.defvjp(_gated_down_forward, _gated_down_backward)


class SwiGLU(nn.Module):
  """Gated MLP: `down(silu(gate(x)) * up(x))`, gate and up in one product.

  Attributes:
    expansion: gives the width, see `swiglu_width`.
    in_place: whether rows and positions stay axes of their own, and the
      backward pass is left to JAX. A TPU has the positions outermost, so that
      neither axis is padded, and to make one axis of both would copy all of
      it; and it multiplies by two arrays as fast as by the two joined.
  """

  expansion: float
  in_place: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., D] to [..., D]."""
    D = x.shape[-1]
    F = swiglu_width(D, self.expansion)
    if self.in_place:
      kernel = Kernel(2 * F, name="gate_up_proj")(D, x.dtype)  # [D, 2F]
      gate, up = jnp.split(jnp.matmul(x, kernel), 2, axis=-1)  # [..., F] each
      kernel = Kernel(D, name="down_proj")(F, x.dtype)  # [F, D]
      return jnp.matmul(nn.silu(gate) * up, kernel)
    rows = x.reshape(-1, D)  # [rows, D]
    gate_up = Linear(2 * F, name="gate_up_proj")(rows)  # [rows, 2F]
    kernel = Kernel(D, name="down_proj")(F, x.dtype)  # [F, D]
    return gated_down(gate_up, kernel).reshape(x.shape)


class Block(nn.Module):
  """Attention, then MLP, each added to its input and normalised.

  With `mlp_t` an MLP over the positions stands in for attention, the same one
  for each component of the state. Its weights are as large as the puzzle: it
  suits small grids of one size (TRM, arXiv 2510.04871).

  Post-norm: the sum is normalised, not the branch. With pre-norm each block
  would add to a state that nothing divides again; here the states stay bounded
  over any number of cycles and segments, and so do the Q values.

  Attributes:
    num_heads: A.
    expansion: see `swiglu_width`.
    rope_theta: see `Attention`.
    rms_norm_eps: added to the mean square in the norms.
    attention: see `mix_values`.
    for_tpu: whether all is laid out for a TPU: the same numbers but for the
      order in which they are added up. See `positions_last` of `Attention` and
      `in_place` of `SwiGLU`.
    mlp_t: whether positions are mixed by an MLP; `expansion` gives its width
      from S, and the sum is normalised over the positions.
  """

  num_heads: int
  expansion: float
  rope_theta: float | None
  rms_norm_eps: float
  attention: str = "xla"
  for_tpu: bool = False
  mlp_t: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, num_outputs: int | None = None) -> jax.Array:
    """Maps [B, S, D] to [B, T, D] at the first T positions.

    T is S, or `num_outputs`.
    """
    if self.mlp_t:
      # The norm needs every position, whichever are asked for.
      x = jnp.swapaxes(x, 1, 2)  # [B, D, S]
      x = self._add_mlp(x, "mlp_t")  # [B, D, S]
      x = jnp.swapaxes(x, 1, 2)[:, :num_outputs]  # [B, T, D]
    else:
      attention = Attention(
        self.num_heads,
        self.rope_theta,
        self.attention,
        positions_last=self.for_tpu,
        name="self_attn",
      )
      mixed = attention(x, num_outputs)  # [B, T, D]
      x = rms_norm(x[:, :num_outputs] + mixed, self.rms_norm_eps)  # [B, T, D]
    return self._add_mlp(x, "mlp")

  def _add_mlp(self, x: jax.Array, name: str) -> jax.Array:
    """Adds an MLP over the last axis of [B, ..., ...] and normalises it."""
    mlp = SwiGLU(self.expansion, in_place=self.for_tpu, name=name)
    return rms_norm(x + mlp(x), self.rms_norm_eps)

"""Attention with the positions in the last axis: the layout for a TPU.

A TPU keeps arrays in tiles of 8 x 128 numbers, the last axis along the 128, and
moves numbers along it slowly. The 64 components of a head would fill half of
the 128, so the positions take their place. And query and key are turned (RoPE)
while the heads still lie side by side, the first halves of all heads in one
array and the second halves in another, so that no number moves to its partner.

Shape letters: B rows, S positions, T of them that are asked for, D hidden size,
A heads, C = D / A head size.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def attend(
  x: jax.Array,
  qkv_kernel: jax.Array,
  o_kernel: jax.Array,
  *,
  num_heads: int,
  angles: np.ndarray | None,
  num_queries: int | None = None,
) -> jax.Array:
  """Full softmax attention with its projections, as in `layers.Attention`.

  The same numbers but for the order in which they are added up. Scores, softmax
  and rotation are float32 whatever the dtype.

  Args:
    x: [B, S, D].
    qkv_kernel: [D, 3D], of the same dtype; query, key and value side by side,
      each of A heads.
    o_kernel: [D, D], of the same dtype.
    num_heads: A.
    angles: [S, C / 2], see `layers.rotary_angles`; None: no rotation.
    num_queries: T; None: S.

  Returns:
    [B, T, D].
  """
  D, A = x.shape[-1], num_heads
  heads = qkv_kernel.reshape(D, 3, A, D // A)  # [D, 3, A, C]
  query, key, value = (heads[:, i] for i in range(3))  # [D, A, C] each
  asked = x[:, :num_queries]  # [B, T, D]
  query = _turned(asked, query, angles)  # [B, A, C, T]
  key = _turned(x, key, angles)  # [B, A, C, S]
  value = _positions_last(_project(x, value), A)  # [B, A, C, S]
  scores = jnp.einsum(
    "bacs,bact->bast", key, query, preferred_element_type=jnp.float32
  )
  scale = (D // A) ** -0.5
  weights = jax.nn.softmax(scores * scale, axis=2)  # [B, A, S, T]
  mixed = jnp.einsum("bacs,bast->bact", value, weights.astype(value.dtype))
  return jnp.einsum("bact,acd->btd", mixed, o_kernel.reshape(A, D // A, D))


def _turned(
  x: jax.Array, kernel: jax.Array, angles: np.ndarray | None
) -> jax.Array:
  """Projects [B, S, D] by [D, A, C] and turns it: [B, A, C, S]."""
  A, C = kernel.shape[1:]
  if angles is None:
    return _positions_last(_project(x, kernel), A)
  # A product for each half of all heads, each [B, S, A C / 2]: the turn is
  # arithmetic of one with the other, number by number.
  halves = (kernel[..., : C // 2], kernel[..., C // 2 :])
  first, second = (_project(x, half) for half in halves)
  angles = np.tile(angles[: x.shape[1]], A)[None]  # [1, S, A C / 2]
  cos = jnp.asarray(np.cos(angles), jnp.float32)
  sin = jnp.asarray(np.sin(angles), jnp.float32)
  turned = _turn(first, second, cos, sin)
  return jnp.concatenate([_positions_last(half, A) for half in turned], axis=2)


@jax.custom_vjp
def _turn(
  first: jax.Array, second: jax.Array, cos: jax.Array, sin: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Turns pairs of numbers, [B, S, W] each, by angles [1, S, W]; float32."""
  dtype = first.dtype
  first, second = first.astype(jnp.float32), second.astype(jnp.float32)
  return (
    (first * cos - second * sin).astype(dtype),
    (second * cos + first * sin).astype(dtype),
  )


def _turn_forward(first, second, cos, sin):
  return _turn(first, second, cos, sin), (cos, sin)


def _turn_backward(kept, gradients):
  cos, sin = kept
  # Back by the same angle. The barrier keeps the compiler from casting to
  # float32 first and bringing twice as many bytes into the layout needed here.
  first, second = lax.optimization_barrier(gradients)
  return *_turn(first, second, cos, -sin), None, None


_turn.defvjp(_turn_forward, _turn_backward)


def _project(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, S, D] by [D, A, C] to [B, S, A C]."""
  return jnp.einsum("bsd,df->bsf", x, kernel.reshape(len(kernel), -1))


def _positions_last(x: jax.Array, num_heads: int) -> jax.Array:
  """[B, S, A C] to [B, A, C, S]."""
  B, S, width = x.shape
  return jnp.swapaxes(x, 1, 2).reshape(B, num_heads, width // num_heads, S)

"""Attention on TPUs without a matrix of all scores, for long sequences.

XLA writes the scores, [B, A, S, S] float32, to memory and reads them again,
several times in a training step: 1.2 GB a block for 48 rows of 901 positions.
JAX's Pallas kernel (splash attention) keeps a tile of them in the memory beside
the products and adds up softmax tile by tile, as in FlashAttention (arXiv
2205.14135). Its gradient computes the scores again, in one kernel.

The kernel works on whole tiles. Shorter sequences are filled up, and no query
hears a key of the filling.

Shape letters as in `layers`; P is S filled up.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# What the vector unit works on at a time; tiles are multiples of it.
_LANES = 128
# Sides of a tile of scores. Larger ones mean fewer steps; these compile within
# the memory beside the products of v4, v5e, v5p and v6e.
_LONGEST_TILE = 1024
_LONGEST_TILE_OF_LARGE_HEADS = 512  # More components than lanes.
_LONGEST_STRIP = 512


class Tiles(NamedTuple):
  """How a sequence is cut.

  Attributes:
    number: of tiles of queries, and of keys.
    length: of each, in positions, a multiple of 128.
    strip: how many keys of a tile are worked on at a time; divides `length`.
  """

  number: int
  length: int
  strip: int

  @property
  def num_positions(self) -> int:
    """P."""
    return self.number * self.length


def tiles(num_positions: int, size: int) -> Tiles:
  """As few tiles as can be, and of those the shortest.

  Args:
    num_positions: S.
    size: C.
  """
  is_large = size > _LANES
  longest = _LONGEST_TILE_OF_LARGE_HEADS if is_large else _LONGEST_TILE
  number = -(-num_positions // longest)
  lanes = -(-num_positions // (number * _LANES))
  strip = max(
    n for n in range(1, _LONGEST_STRIP // _LANES + 1) if lanes % n == 0
  )
  return Tiles(number, lanes * _LANES, strip * _LANES)


def mix_values(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Softmax attention of every position to every one.

  Scores and softmax are float32. On several devices each must run it for its
  own rows, inside `jax.shard_map`: XLA cannot split a kernel.

  Args:
    query: [B, S, A, C].
    key: like `query`.
    value: like `query`.
    interpret: whether to run the kernel by XLA, which works everywhere, and is
      slow: for tests.

  Returns:
    [B, S, A, C], of the same dtype.
  """
  # Pallas takes a second to import, which only those who use it should wait.
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  _, S, A, C = query.shape
  cut = tiles(S, C)
  P = cut.num_positions
  # The kernel knows no scale. Where C is a power of four nothing is rounded.
  query = (query.astype(jnp.float32) * C**-0.5).astype(query.dtype)
  query, key, value = (_filled_up(t, P) for t in (query, key, value))
  # A query hears the keys with its own number. All queries have the number of
  # the true keys, those of the filling too, because nothing must be divided by
  # a sum over no key.
  numbers = splash.SegmentIds(
    q=jnp.zeros(P, jnp.int32), kv=(jnp.arange(P) >= S).astype(jnp.int32)
  )
  # Positions last: with the components last, half of every line of 128 would
  # be empty where C is 64.
  layout = splash.QKVLayout.SEQ_MINOR
  kernel = splash.make_splash_mha_single_device(
    splash.MultiHeadMask([splash.FullMask((P, P))] * A),
    block_sizes=splash.BlockSizes(
      block_q=cut.length,
      block_kv=cut.length,
      block_kv_compute=cut.strip,
      block_q_dkv=cut.length,
      block_kv_dkv=cut.length,
      block_kv_dkv_compute=cut.strip,
      # One backward kernel instead of two, each with the scores again.
      use_fused_bwd_kernel=True,
      q_layout=layout,
      k_layout=layout,
      v_layout=layout,
    ),
    interpret=interpret,
  )

  def of_row(query, key, value) -> Any:  # [A, P, C] each
    return kernel(query, key, value, segment_ids=numbers if P > S else None)

  mixed: jax.Array = jax.vmap(of_row)(query, key, value)  # [B, A, P, C]
  return jnp.swapaxes(mixed[:, :, :S], 1, 2)


def _filled_up(x: jax.Array, num_positions: int) -> jax.Array:
  """Maps [B, S, A, C] to [B, A, P, C], with zeros after S."""
  filling = num_positions - x.shape[1]
  return jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, filling), (0, 0)))

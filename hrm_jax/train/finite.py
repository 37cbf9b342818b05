"""Finds what is not finite, on the device, and can tell its name later."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def names(tensors: Any) -> list[str]:
  """The name of each array of a pytree, in order: its path, with dots."""
  leaves = jax.tree_util.tree_leaves_with_path(tensors)
  return [
    jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves
  ]


def first_nonfinite(tensors: Any) -> jax.Array:
  """Number of the first array that holds a NaN or infinity, else -1.

  Args:
    tensors: pytree of arrays.

  Returns:
    [] int32, an index into `names(tensors)`.
  """
  bad = jnp.stack([~_is_finite(leaf) for leaf in jax.tree.leaves(tensors)])
  return jnp.where(jnp.any(bad), jnp.argmax(bad).astype(jnp.int32), -1)


def first_nonfinite_unless(is_good: jax.Array, tensors: Any) -> jax.Array:
  """`first_nonfinite`, where nobody will ask for it if `is_good`, [] bool.

  On a CPU it does not look then. On a GPU it does: that costs next to nothing,
  and the host would have to wait for `is_good` to take a branch.
  """

  def look(_, tensors):
    return first_nonfinite(tensors)

  def look_if_bad(is_good, tensors):
    return lax.cond(is_good, lambda _: jnp.int32(-1), first_nonfinite, tensors)

  return lax.platform_dependent(is_good, tensors, cpu=look_if_bad, default=look)


def _is_finite(leaf: jax.Array) -> jax.Array:
  if not jnp.issubdtype(leaf.dtype, jnp.floating):
    return jnp.array(True)
  # Not by the largest: a vectorised maximum may pass over a NaN.
  return jnp.all(jnp.isfinite(leaf))

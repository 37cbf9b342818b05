"""Finds what is not finite, on the device, and can tell its name later."""

from typing import Any

import jax
import jax.numpy as jnp


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


def _is_finite(leaf: jax.Array) -> jax.Array:
  if not jnp.issubdtype(leaf.dtype, jnp.floating):
    return jnp.array(True)
  # Not by the largest: a vectorised maximum may pass over a NaN.
  return jnp.all(jnp.isfinite(leaf))

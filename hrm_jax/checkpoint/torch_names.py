"""The PyTorch reference's tensor names and layouts, and ours: both ways.

The one place that knows the other code's names. Its linear weights are
[out, in], ours are [in, out]. Embeddings have the same layout in both.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

import jax
import numpy as np
from flax import traverse_util

from hrm_jax.console import InputError
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights

PREFIX = "model.inner."
TABLE = PREFIX + "puzzle_emb.weights"


def to_reference(weights: Weights) -> dict[str, np.ndarray]:
  """Names and lays out our weights as the reference does.

  Returns:
    A dict from the reference's state-dict names to arrays. `puzzle_emb` is
    absent when there is no table. Also works on gradients and moments, which
    are laid out like the parameters.
  """
  named = dict(params_to_reference(weights.params))
  for name, value in weights.initial_states.items():
    named[PREFIX + name] = np.asarray(value)
  if weights.puzzle_table is not None:
    named[TABLE] = np.asarray(weights.puzzle_table)
  return named


def params_to_reference(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The part of `to_reference` that concerns a tree laid out like params."""
  flat = traverse_util.flatten_dict(params, sep=".")
  return {
    _their_name(path): _transpose(path, np.asarray(value))
    for path, value in flat.items()
  }


def from_reference(
  named: Mapping[str, np.ndarray], model: HRM, num_rows: int
) -> Weights:
  """Builds our weights from the reference's tensors.

  Args:
    named: the reference's state-dict names to arrays.
    model: the network that they belong to.
    num_rows: rows of the puzzle table.

  Raises:
    InputError: a tensor is missing, left over, or of the wrong shape.
  """
  expected = jax.eval_shape(
    lambda key: init_weights(model, key, num_rows),
    jax.random.key(0),
  )
  left = {name: np.asarray(value) for name, value in named.items()}

  def take(name: str, shape: tuple[int, ...], path: str) -> np.ndarray:
    if name not in left:
      raise InputError(f"tensor '{name}' is missing.")
    value = _transpose(path, left.pop(name))
    if value.shape != shape:
      raise InputError(
        f"tensor '{name}': expected shape {shape} (ours, [in, out]), got "
        f"{value.shape}."
      )
    return value

  leaves: dict[str, Any] = traverse_util.flatten_dict(expected.params, sep=".")
  flat = {
    path: take(_their_name(path), leaf.shape, path)
    for path, leaf in leaves.items()
  }
  states = {
    name: take(PREFIX + name, leaf.shape, name).astype(leaf.dtype)
    for name, leaf in expected.initial_states.items()
  }
  table = None
  if expected.puzzle_table is not None:
    table = cast("Any", take(TABLE, expected.puzzle_table.shape, TABLE))
  if left:
    raise InputError(f"tensors left over: {', '.join(sorted(left))}.")
  return Weights(traverse_util.unflatten_dict(flat, sep="."), states, table)


def differences(
  shapes: Mapping[str, tuple[int, ...]], model: HRM, num_rows: int
) -> list[str]:
  """Compares the reference's tensors with those that a network has.

  Args:
    shapes: the tensors' shapes, laid out as the reference does, by its names.
    model: the network.
    num_rows: rows of the puzzle table.

  Returns:
    A phrase for all that are missing, one for those of another shape and one
    for those that are left over, as far as there are any.
  """
  weights = jax.eval_shape(
    lambda key: init_weights(model, key, num_rows), jax.random.key(0)
  )
  leaves: dict[str, Any] = traverse_util.flatten_dict(weights.params, sep=".")
  expected: dict[str, tuple[int, ...]] = {
    _their_name(path): leaf.shape[::-1] if _is_kernel(path) else leaf.shape
    for path, leaf in leaves.items()
  }
  for name, leaf in weights.initial_states.items():
    expected[PREFIX + name] = leaf.shape
  if weights.puzzle_table is not None:
    expected[TABLE] = weights.puzzle_table.shape
  misshapen = [
    f"{name} (expected {list(shape)}, got {list(shapes[name])})"
    for name, shape in expected.items()
    if name in shapes and tuple(shapes[name]) != tuple(shape)
  ]
  phrases = (
    ("missing", sorted(expected.keys() - shapes.keys())),
    ("of another shape", misshapen),
    ("left over", sorted(shapes.keys() - expected.keys())),
  )
  return [f"{what}: {_some(names)}" for what, names in phrases if names]


# A message is one line; the first names of a long list tell what is wrong.
_MOST_NAMES = 12


def _some(names: list[str]) -> str:
  more = len(names) - _MOST_NAMES
  shown = ", ".join(name[:200] for name in names[:_MOST_NAMES])
  return shown + (f" and {more} more" if more > 0 else "")


def _their_name(path: str) -> str:
  path = re.sub(r"\.kernel$", ".weight", path)
  path = re.sub(r"\.layers_(\d+)\.", r".layers.\1.", path)
  return PREFIX + re.sub(r"\.embedding$", ".embedding_weight", path)


def _transpose(path: str, value: np.ndarray) -> np.ndarray:
  return value.T if _is_kernel(path) else value


def _is_kernel(path: str) -> bool:
  return path.endswith(".kernel")

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
    named[PREFIX + "puzzle_emb.weights"] = np.asarray(weights.puzzle_table)
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
    name = PREFIX + "puzzle_emb.weights"
    table = cast("Any", take(name, expected.puzzle_table.shape, name))
  if left:
    raise InputError(f"tensors left over: {', '.join(sorted(left))}.")
  return Weights(traverse_util.unflatten_dict(flat, sep="."), states, table)


def _their_name(path: str) -> str:
  path = re.sub(r"\.kernel$", ".weight", path)
  path = re.sub(r"\.layers_(\d+)\.", r".layers.\1.", path)
  return PREFIX + re.sub(r"\.embedding$", ".embedding_weight", path)


def _transpose(path: str, value: np.ndarray) -> np.ndarray:
  return value.T if path.endswith(".kernel") else value

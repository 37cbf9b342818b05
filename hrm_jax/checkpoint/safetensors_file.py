"""Weights as a safetensors file, which holds arrays and nothing that can run.

Its names are those of the network, joined by dots:

  embed_tokens.embedding                    [V, D]
  H_level.layers_0.self_attn.qkv_proj.kernel    [in, out], and so on
  H_init, L_init                            [D], the initial states
  puzzle_emb                                [N, W], a row per identifier

All are float32: weights are, and each bfloat16 number of the initial states is
a float32 number too. Or all are bfloat16: rounded, for half the bytes. The rows
that a run adds to its puzzle table are left out; they are zero, and come back
when the file is read.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from flax import traverse_util

from hrm_jax.console import InputError, one_line
from hrm_jax.model.weights import Weights

TABLE = "puzzle_emb"
DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


class Array(NamedTuple):
  """What the header of a file says of one array."""

  dtype: str  # as safetensors writes it: F32, BF16
  shape: tuple[int, ...]


def to_named(
  weights: Weights, num_identifiers: int, dtype: str = "float32"
) -> dict[str, np.ndarray]:
  """The arrays of a file, by their names, on the host.

  Args:
    weights: all of them at hand in this process.
    num_identifiers: N, rows of the table that stand for something.
    dtype: one of DTYPES.

  Raises:
    InputError: a row beyond them is not zero, so it would be lost.
  """
  named = {**weights.initial_states}
  named |= traverse_util.flatten_dict(weights.params, sep=".")
  named = {
    name: np.ascontiguousarray(value, np.float32)
    for name, value in named.items()
  }
  if weights.puzzle_table is not None:
    table = np.asarray(weights.puzzle_table, np.float32)
    if table[num_identifiers:].any():
      raise InputError(
        f"the puzzle table: expected zeros in the rows from {num_identifiers} "
        "on, which no identifier names, got other numbers."
      )
    named[TABLE] = np.ascontiguousarray(table[:num_identifiers])
  return {name: value.astype(DTYPES[dtype]) for name, value in named.items()}


def write(path: pathlib.Path, named: Mapping[str, np.ndarray]) -> None:
  """Writes a file.

  Raises:
    OSError: it cannot be written; half of it may be there.
  """
  import safetensors.numpy
  from safetensors import SafetensorError

  path.touch()
  mode = path.stat().st_mode
  try:
    safetensors.numpy.save_file(dict(named), path, {"format": "np"})
  except SafetensorError as error:  # The system's errors come so, too.
    raise OSError(None, one_line(error), str(path)) from None
  # The library renames a temporary file, which is its owner's alone.
  path.chmod(mode)


def read_header(path: pathlib.Path) -> dict[str, Array]:
  """What a file says that it holds; it has exactly the bytes for it.

  Raises:
    InputError: it cannot be read, is cut off, or is no such file.
  """
  with _opened(path) as file:
    names = file.keys()
    slices = {name: file.get_slice(name) for name in names}
    return {
      name: Array(part.get_dtype(), tuple(part.get_shape()))
      for name, part in slices.items()
    }


def read(path: pathlib.Path, shapes: Weights, num_identifiers: int) -> Weights:
  """Reads the weights of a network, after all names and sizes are checked.

  Args:
    path: of the file.
    shapes: like the weights, of anything with shape and dtype.
    num_identifiers: N, rows of the table in the file; those that `shapes` has
      beyond them become zeros.

  Returns:
    NumPy arrays.

  Raises:
    InputError: it cannot be read, or an array is missing, left over, or of
      another dtype or shape; nothing has been read then.
  """
  leaves = traverse_util.flatten_dict(shapes.params, sep=".")
  wanted = {**leaves, **shapes.initial_states}
  expected = {name: tuple(leaf.shape) for name, leaf in wanted.items()}
  if shapes.puzzle_table is not None:
    expected[TABLE] = num_identifiers, shapes.puzzle_table.shape[1]
  _check(path, read_header(path), expected)
  with _opened(path) as file:
    named: dict[str, Any] = {
      name: file.get_tensor(name).astype(leaf.dtype)
      for name, leaf in wanted.items()
    }
    table = None
    if shapes.puzzle_table is not None:
      table = np.zeros(shapes.puzzle_table.shape, np.float32)
      table[:num_identifiers] = file.get_tensor(TABLE)
  states = {name: named.pop(name) for name in shapes.initial_states}
  params = traverse_util.unflatten_dict(named, sep=".")
  return Weights(params, states, table)  # pyright: ignore[reportArgumentType]


def num_layers(header: Mapping[str, Array], level: str) -> int:
  """How many blocks a file has of a level, such as H_level."""
  found = (re.match(rf"{level}\.layers_(\d+)\.", name) for name in header)
  return len({match[1] for match in found if match})


def _check(
  path: pathlib.Path,
  header: Mapping[str, Array],
  expected: Mapping[str, tuple[int, ...]],
) -> None:
  for what, names in (
    ("is missing", expected.keys() - header.keys()),
    ("belongs to no part of this network", header.keys() - expected.keys()),
  ):
    if names:
      more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
      raise InputError(f"{path}: array '{min(names)}'{more} {what}.")
  rounded = all(got.dtype == "BF16" for got in header.values())
  dtype = "BF16" if rounded else "F32"
  for name, shape in expected.items():
    got = header[name]
    if got != (dtype, shape):
      raise InputError(
        f"{path}: array '{name}': expected {dtype} {list(shape)}, got "
        f"{got.dtype} {list(got.shape)}."
      )


def _opened(path: pathlib.Path) -> Any:
  # Only here: most commands have no use for it.
  from safetensors import SafetensorError, safe_open

  try:
    # This checks the header, and that it describes each byte of the file.
    return safe_open(path, framework="numpy")
  except OSError as error:
    why = error.strerror or one_line(error)
    raise InputError(f"{path}: cannot be read ({why}).") from None
  except SafetensorError as error:
    raise InputError(
      f"{path}: expected a whole safetensors file, got one that is cut off or "
      f"damaged ({one_line(error)})."
    ) from None

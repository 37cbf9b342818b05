"""What a compiled program needs of a device's memory, and what is left."""

import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from hrm_jax.console import InputError
from hrm_jax.plan.chips import Chip

# How much of a GPU's memory JAX takes at its start, and then lives in; the rest
# is for the buffers of NCCL, cuDNN and the system.
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"
_DEFAULT_FRACTION = 0.75


class Memory(NamedTuple):
  """Bytes on one device.

  Attributes:
    state: weights, optimiser, carry and whatever else the program is given
      apart from the batch; as arrays, without padding.
    arguments: all that it is given, as the device lays it out.
    outputs: what it returns that does not lie in the place of an argument.
    temporaries: what it needs in between.
    program: its own code.
    available: what there is for all of it; None: unknown.
  """

  state: int
  arguments: int
  outputs: int
  temporaries: int
  program: int
  available: int | None

  @property
  def total(self) -> int:
    """All of it together."""
    return self.arguments + self.outputs + self.temporaries + self.program

  @property
  def left(self) -> int | None:
    """What remains; below 0: it does not fit."""
    return None if self.available is None else self.available - self.total


def of(compiled: jax.stages.Compiled, state: Any, chip: Chip) -> Memory:
  """Reads what XLA has planned.

  Args:
    compiled: for the chip.
    state: shapes with shardings.
    chip: what the devices are.
  """
  planned: Any = compiled.memory_analysis()
  return Memory(
    state=bytes_on_a_device(state),
    arguments=planned.argument_size_in_bytes,
    outputs=planned.output_size_in_bytes - planned.alias_size_in_bytes,
    temporaries=planned.temp_size_in_bytes,
    program=planned.generated_code_size_in_bytes,
    available=available(chip),
  )


def bytes_on_a_device(shapes: Any) -> int:
  """Bytes of a device's parts of arrays that have shardings, or of shapes."""

  def part(leaf: Any) -> int:
    shape = leaf.shape
    if isinstance(leaf.sharding, NamedSharding):
      shape = leaf.sharding.shard_shape(shape)
    return math.prod(shape) * leaf.dtype.itemsize

  keys_as_numbers = jax.tree.map(_as_plain, shapes)
  return sum(map(part, jax.tree.leaves(keys_as_numbers)))


def _as_plain(leaf: Any) -> Any:
  """A typed key has no size of its own."""
  if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return leaf
  plain = jax.eval_shape(jax.random.key_data, leaf)
  return jax.ShapeDtypeStruct(plain.shape, plain.dtype)


def available(chip: Chip) -> int | None:
  """Bytes that a program may have on a device; None: unknown.

  Raises:
    InputError: the variable that says so for GPUs is no share.
  """
  if chip.platform != "gpu" or chip.memory is None:
    return chip.memory
  return int(fraction() * chip.memory)


def fraction() -> float:
  """The share of a GPU's memory that JAX takes, as in a real run.

  Raises:
    InputError: the variable holds something else.
  """
  text = os.environ.get(FRACTION, str(_DEFAULT_FRACTION))
  try:
    value = float(text)
  except ValueError:
    value = 0.0
  if not 0 < value <= 1:
    raise InputError(
      f"{FRACTION}: expected a number above 0 and at most 1, got '{text}'."
    )
  return value

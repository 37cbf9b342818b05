"""The mesh of devices, and where state and batches lie on it.

The only file that speaks of devices. The batch and the carry are split by
rows over the axis `data`; everything else is on every device.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hrm_jax.console import InputError


def make_mesh() -> Mesh:
  """A mesh of all devices along one axis, `data`."""
  return jax.make_mesh(
    (jax.device_count(),), ("data",), axis_types=(AxisType.Auto,)
  )


def check_batch_size(
  size: int, mesh: Mesh, name: str = "global_batch_size"
) -> None:
  """Raises an InputError if the batch does not divide over the devices."""
  n = mesh.shape["data"]
  below = max(size, 0) // n * n
  if below == size and below > 0:
    return
  nearest = [str(good) for good in (below, below + n) if good > 0]
  raise InputError(
    f"{name}={size} does not divide over {n} devices; nearest that do: "
    f"{' and '.join(nearest)}."
  )


def by_row(mesh: Mesh) -> NamedSharding:
  """The leading axis split over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same on every device."""
  return NamedSharding(mesh, PartitionSpec())


def of_state(mesh: Mesh, state: Any) -> Any:
  """Shardings laid out like a `TrainState`: its carry by row."""
  shardings = jax.tree.map(lambda _: replicated(mesh), state)
  carry = jax.tree.map(lambda _: by_row(mesh), state.carry)
  return shardings._replace(carry=carry)


def on_each_device(function: Callable[..., Any], mesh: Mesh):
  """The function, run by every device for its own rows alone.

  No device waits for another inside, so loops may run longer on some.

  Args:
    function: from what is the same everywhere, and arrays split by row, to
      arrays split by row; it sees the rows of one device.
    mesh: the devices.

  Returns:
    A function of the same arguments, for all rows together.
  """
  rows = by_row(mesh).spec

  def run(shared: Any, *by_row: Any) -> Any:
    return jax.shard_map(
      function,
      mesh=mesh,
      in_specs=(PartitionSpec(), *[rows] * len(by_row)),
      out_specs=rows,
      # The check wants loop states marked as differing from device to device.
      check_vma=False,
    )(shared, *by_row)

  return run


def prefetch(batches: Iterable[Any], mesh: Mesh) -> Iterator[Any]:
  """Yields batches on the devices, the next one already under way.

  Args:
    batches: pytrees of host arrays whose leading axis is the batch.
    mesh: where they go.
  """
  sharding = by_row(mesh)
  ahead = collections.deque()
  for batch in batches:
    ahead.append(jax.device_put(batch, sharding))  # Returns at once.
    if len(ahead) == 2:
      yield ahead.popleft()
  yield from ahead

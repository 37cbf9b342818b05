"""The mesh of devices, and where state and batches lie on it.

The only file that says what lies where. The mesh has two axes, `data` and
`table`. The batch and the carry are split by rows over both, so that every
device works on rows of its own; the rows of the puzzle table are split over
`table`; everything else is on every device.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hrm_jax.console import InputError

AXES = ("data", "table")


def make_mesh(
  data: int = -1, table: int = 1, devices: Iterable[Any] | None = None
) -> Mesh:
  """A mesh of `data` x `table` devices.

  Args:
    data: parts of the batch; times `table`. -1: as many as there are devices.
    table: parts of the puzzle table.
    devices: default: all of all processes.

  Raises:
    InputError: the product is not the number of devices.
  """
  devices = sorted(devices or jax.devices(), key=_place)
  n = len(devices)
  if table < 1 or n % table:
    divisors = [str(i) for i in range(1, n + 1) if n % i == 0]
    raise InputError(
      "config.mesh.table: expected a divisor of the number of devices "
      f"({', '.join(divisors)}), got {table}."
    )
  if data not in (-1, n // table):
    raise InputError(
      f"config.mesh.data: expected -1 or {n // table}, so that mesh.data x "
      f"mesh.table is the number of devices, {n}; got {data}."
    )
  grid = np.array(devices).reshape(n // table, table)
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def _place(device: Any) -> tuple[int, int, int]:
  """Where a device comes in the order of the mesh: the near ones together.

  By slice first, where there are several of a TPU on a data-center network: so
  a row of the mesh, along which the table is looked up, stays on the fast links
  of one slice, and of a sum over all devices only what a slice has added up
  goes over the slow network. Then by process: the rows of a process are
  neighbours in the batch.
  """
  return _slice(device), device.process_index, device.id


def _slice(device: Any) -> int:
  # A TPU without others, and what is no TPU, may have no such number, or None.
  return getattr(device, "slice_index", None) or 0


def num_slices(mesh: Mesh) -> int:
  """How many TPU slices it spans; 1 where there is no such thing."""
  return len({_slice(device) for device in mesh.devices.flat})


def platform(mesh: Mesh) -> str:
  """What the devices are, which may not be here: "cpu", "gpu" or "tpu"."""
  name = mesh.devices.flat[0].platform
  # Devices that a program is only compiled for may be called by their maker.
  return "gpu" if name in ("cuda", "rocm") else name


def check_batch_size(
  size: int, mesh: Mesh, name: str = "config.global_batch_size"
) -> None:
  """Raises an InputError if the batch does not divide over the devices."""
  n = mesh.size
  below = max(size, 0) // n * n
  if below == size and below > 0:
    return
  nearest = [str(good) for good in (below, below + n) if good > 0]
  raise InputError(
    f"{name}: expected a multiple of the number of devices, {n}, got {size}; "
    f"nearest: {' and '.join(nearest)}."
  )


def by_row(mesh: Mesh) -> NamedSharding:
  """The leading axis split over all devices."""
  return NamedSharding(mesh, PartitionSpec(AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same on every device."""
  return NamedSharding(mesh, PartitionSpec())


def of_weights(mesh: Mesh, weights: Any) -> Any:
  """Shardings laid out like `Weights`: the table's rows over `table`."""
  shardings = jax.tree.map(lambda _: replicated(mesh), weights)
  if weights.puzzle_table is None:
    return shardings
  rows = NamedSharding(mesh, PartitionSpec("table"))
  return shardings._replace(puzzle_table=rows)


def of_state(mesh: Mesh, state: Any, *, split_moments: bool = False) -> Any:
  """Shardings laid out like a `TrainState`: its carry by row.

  Args:
    mesh: the devices.
    state: arrays or their shapes.
    split_moments: whether each device keeps only its share of the optimiser's
      moments (ZeRO stage 1, arXiv 1910.02054), at the price of an all-gather
      of the updates.
  """
  shardings = jax.tree.map(lambda _: replicated(mesh), state)
  if split_moments:
    moments = jax.tree.map(lambda m: _split_over_data(mesh, m), state.opt_state)
    shardings = shardings._replace(opt_state=moments)
  return shardings._replace(
    weights=of_weights(mesh, state.weights),
    carry=jax.tree.map(lambda _: by_row(mesh), state.carry),
  )


def _split_over_data(mesh: Mesh, leaf: Any) -> NamedSharding:
  """The last axis that divides over `data` is split; none: replicated."""
  n = mesh.shape["data"]
  for axis in reversed(range(leaf.ndim)):
    if leaf.shape[axis] % n == 0:
      return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
  return replicated(mesh)


def local_rows(mesh: Mesh, batch_size: int) -> slice:
  """Which rows of a global batch the devices of this process work on."""
  indices = by_row(mesh).addressable_devices_indices_map((batch_size,))
  ranges = [i[0].indices(batch_size) for i in indices.values() if i is not None]
  return slice(min(r[0] for r in ranges), max(r[1] for r in ranges))


def num_local_rows(mesh: Mesh) -> int:
  """Devices of this process: rows it has of a batch with one per device."""
  rows = local_rows(mesh, mesh.size)
  return rows.stop - rows.start


def put_rows(batch: Any, mesh: Mesh, batch_size: int) -> Any:
  """Assembles global arrays on the devices; returns at once.

  Args:
    batch: a pytree of host arrays, the `local_rows` of a batch.
    mesh: where they go.
    batch_size: rows of the global batch.
  """
  sharding = by_row(mesh)
  return jax.tree.map(
    lambda rows: jax.make_array_from_process_local_data(
      sharding, rows, (batch_size, *rows.shape[1:])
    ),
    batch,
  )


def take_rows(array: jax.Array) -> np.ndarray:
  """The reverse: the rows of a `by_row` array that this process holds."""
  parts = {s.index[0].start or 0: s.data for s in array.addressable_shards}
  return np.concatenate(jax.device_get([parts[i] for i in sorted(parts)]))


def on_each_device(
  function: Callable[..., Any], mesh: Mesh, *, has_sums: bool = False
):
  """The function, run by every device for its own rows alone.

  No device waits for another inside, so loops may run longer on some; unless
  the function itself asks for a sum over `AXES`.

  Args:
    function: from what is the same everywhere, and arrays split by row, to
      arrays split by row; it sees the rows of one device.
    mesh: the devices.
    has_sums: whether it returns a pair, whose second half is the same on every
      device because the function has seen to it.

  Returns:
    A function of the same arguments, for all rows together.
  """
  rows = by_row(mesh).spec
  everywhere = PartitionSpec()

  def run(shared: Any, *by_row: Any) -> Any:
    return jax.shard_map(
      function,
      mesh=mesh,
      in_specs=(everywhere, *[rows] * len(by_row)),
      out_specs=(rows, everywhere) if has_sums else rows,
      # The check wants loop states marked as differing from device to device,
      # and it adds sums of its own to a gradient, in the type that it finds.
      check_vma=False,
    )(shared, *by_row)

  return run


def prefetch(
  batches: Iterable[Any], mesh: Mesh, batch_size: int, *, num_ahead: int = 1
) -> Iterator[Any]:
  """Yields batches on the devices, the next ones already under way.

  Args:
    batches: as `put_rows` takes them.
    mesh: where they go.
    batch_size: rows of the global batch.
    num_ahead: how many are under way while one is in use.
  """
  ahead = collections.deque()
  for batch in batches:
    ahead.append(put_rows(batch, mesh, batch_size))
    if len(ahead) > num_ahead:
      yield ahead.popleft()
  yield from ahead


def in_words() -> str:
  """Which devices all processes have together, such as `8 x cpu`."""
  words = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  processes = jax.process_count()
  return words + (f" in {processes} processes" if processes > 1 else "")

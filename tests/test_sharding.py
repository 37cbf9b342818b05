"""Where things lie, and batches on their way there."""

import dataclasses

import jax
import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.machines import sharding
from tests.toys import Trainer, mesh_of, toy_batch, toy_model


@pytest.mark.parametrize(
  ("size", "nearest"),
  [(12, "8 and 16"), (17, "16 and 24"), (7, "8"), (0, "8"), (-3, "8")],
)
def test_refuses_a_batch_that_does_not_divide(size, nearest):
  message = f"_batch_size: .* devices, 8, got {size}; nearest: {nearest}\\.$"
  with pytest.raises(InputError, match=message):
    sharding.check_batch_size(size, sharding.make_mesh())


def test_accepts_a_batch_that_divides():
  sharding.check_batch_size(24, mesh_of(8))
  sharding.check_batch_size(7, mesh_of(1))


def test_state_is_everywhere_but_for_carry_and_table():
  trainer = Trainer(toy_model(), mesh_of(2, 4))
  state = trainer.state()

  def shapes(leaf):
    return {s.data.shape for s in leaf.addressable_shards}

  for leaf in jax.tree.leaves(state.carry):
    assert shapes(leaf) == {(1, *leaf.shape[1:])}
  rows, width = state.weights.puzzle_table.shape
  assert shapes(state.weights.puzzle_table) == {(rows // 4, width)}
  for leaf in jax.tree.leaves((state.weights.params, state.opt_state)):
    assert leaf.sharding.is_fully_replicated


def test_split_moments_lie_in_parts():
  trainer = Trainer(toy_model(), mesh_of(4, 2), split_moments=True)
  state = trainer.state()
  parts = [
    leaf.addressable_shards[0].data.size / leaf.size
    for leaf in jax.tree.leaves(state.opt_state)
    if leaf.size >= 16
  ]
  assert set(parts) == {1 / 4}
  state, *_ = trainer.step(state, trainer.put(toy_batch()))
  assert state.opt_state[0].mu["lm_head"]["kernel"].sharding.spec[-1] in (
    "data",
    None,
  )
  for leaf in jax.tree.leaves(state.weights.params):
    assert leaf.sharding.is_fully_replicated


@pytest.mark.parametrize(
  ("axes", "message"),
  [
    ({"table": 3}, "mesh.table: .* devices \\(1, 2, 4, 8\\), got 3"),
    ({"table": 0}, "mesh.table: .* got 0"),
    ({"data": 3}, "mesh.data: expected -1 or 8, .* got 3"),
    ({"data": 8, "table": 2}, "mesh.data: expected -1 or 4, .* got 8"),
  ],
)
def test_refuses_a_mesh_that_is_not_all_devices(axes, message):
  with pytest.raises(InputError, match=message):
    sharding.make_mesh(**axes)


@dataclasses.dataclass(frozen=True)
class Device:
  """What the order of a mesh depends on."""

  id: int
  process_index: int
  slice_index: int | None = 0


def test_a_mesh_keeps_slices_and_then_processes_together():
  # Numbers of processes say nothing of slices: here they take turns.
  devices = [Device(i, i % 4, i % 2) for i in range(8)]
  mesh = sharding.make_mesh(table=4, devices=reversed(devices))
  slices = [[d.slice_index for d in row] for row in mesh.devices]
  assert slices == [[0] * 4, [1] * 4]
  processes = [d.process_index for d in mesh.devices.flat]
  assert processes == [0, 0, 2, 2, 1, 1, 3, 3]


def test_devices_without_a_slice_are_in_one():
  devices = [Device(i, 1 - i // 2, None) for i in range(4)]
  mesh = sharding.make_mesh(devices=devices)
  assert [d.id for d in mesh.devices.flat] == [2, 3, 0, 1]


def test_rows_go_to_the_devices_and_come_back():
  mesh = mesh_of(2, 4)
  rows = np.arange(48).reshape(16, 3)
  assert sharding.local_rows(mesh, 16) == slice(0, 16)
  array = sharding.put_rows(rows, mesh, 16)
  assert array.sharding == sharding.by_row(mesh)
  np.testing.assert_array_equal(sharding.take_rows(array), rows)


@pytest.mark.parametrize("axes", [(8, 1), (4, 2)])
def test_each_device_sees_its_own_rows(axes):
  mesh = mesh_of(*axes)

  def number_and_sum(offset, rows):
    return {
      "number": rows[:1] * 0 + len(rows),
      "sum": offset + rows.sum()[None],
    }

  run = jax.jit(sharding.on_each_device(number_and_sum, mesh))
  got = run(np.int32(100), np.arange(16))
  assert got["number"].tolist() == [2] * 8
  assert got["sum"].tolist() == [100 + 4 * i + 1 for i in range(8)]
  assert got["sum"].sharding.is_equivalent_to(sharding.by_row(mesh), ndim=1)


@pytest.mark.parametrize("num_batches", [0, 1, 2, 5])
def test_prefetch_yields_every_batch_in_order(num_batches):
  batches = [{"inputs": np.full((8, 2), i)} for i in range(num_batches)]
  mesh = mesh_of(8)
  got = list(sharding.prefetch(iter(batches), mesh, 8))
  assert len(got) == num_batches
  for one, want in zip(got, batches, strict=True):
    np.testing.assert_array_equal(one["inputs"], want["inputs"])
    assert one["inputs"].sharding == sharding.by_row(mesh)


def test_prefetch_asks_for_one_batch_ahead():
  asked = []

  def batches():
    for i in range(4):
      asked.append(i)
      yield np.full((8,), i)

  stream = sharding.prefetch(batches(), mesh_of(1), 8)
  next(stream)
  assert asked == [0, 1]
  next(stream)
  assert asked == [0, 1, 2]

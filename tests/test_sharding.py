"""Where things lie, and batches on their way there."""

import jax
import numpy as np
import pytest

from hrm_jax import sharding
from hrm_jax.console import InputError
from tests.toys import Trainer, mesh_of, toy_model


@pytest.mark.parametrize(
  ("size", "nearest"),
  [(12, "8 and 16"), (17, "16 and 24"), (7, "8"), (0, "8"), (-3, "8")],
)
def test_refuses_a_batch_that_does_not_divide(size, nearest):
  message = f"global_batch_size={size} .* 8 devices; .*: {nearest}\\.$"
  with pytest.raises(InputError, match=message):
    sharding.check_batch_size(size, sharding.make_mesh())


def test_accepts_a_batch_that_divides():
  sharding.check_batch_size(24, mesh_of(8))
  sharding.check_batch_size(7, mesh_of(1))


def test_state_is_everywhere_and_its_carry_split_by_row():
  trainer = Trainer(toy_model(), num_devices=8)
  shardings = sharding.of_state(trainer.mesh, trainer.shapes)
  by_row = sharding.by_row(trainer.mesh)
  assert set(jax.tree.leaves(shardings.carry)) == {by_row}
  rest = shardings._replace(carry=None)
  everywhere = sharding.replicated(trainer.mesh)
  assert set(jax.tree.leaves(rest)) == {everywhere}


def test_each_device_sees_its_own_rows():
  mesh = mesh_of(8)

  def number_and_sum(offset, rows):
    return {
      "number": rows[:1] * 0 + len(rows),
      "sum": offset + rows.sum()[None],
    }

  run = jax.jit(sharding.on_each_device(number_and_sum, mesh))
  got = run(np.int32(100), np.arange(16))
  assert got["number"].tolist() == [2] * 8
  assert got["sum"].tolist() == [100 + 4 * i + 1 for i in range(8)]
  assert got["sum"].sharding == sharding.by_row(mesh)


@pytest.mark.parametrize("num_batches", [0, 1, 2, 5])
def test_prefetch_yields_every_batch_in_order(num_batches):
  batches = [{"inputs": np.full((8, 2), i)} for i in range(num_batches)]
  mesh = mesh_of(8)
  got = list(sharding.prefetch(iter(batches), mesh))
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

  stream = sharding.prefetch(batches(), mesh_of(1))
  next(stream)
  assert asked == [0, 1]
  next(stream)
  assert asked == [0, 1, 2]

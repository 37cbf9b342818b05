"""The forward and backward pass on every device, and the sum of what they find.

Each device runs the pass for its own rows, as if there were no others. Then the
gradients of the dense parameters, the loss and the metric sums are added up
over the devices, by an all-reduce that stands here and not by one that XLA
would put where it likes: it would add the gradients up as they leave the
product of the backward pass, in bfloat16. Nothing of the pass itself needs to
be partitioned either, so a kernel that XLA knows nothing of can be in it.

The gradients of the puzzle table's rows are not added up: they stay with their
rows, see `optim.sparse_sign_sgd`.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import Mesh

from hrm_jax.machines import sharding
from hrm_jax.train.portions import in_portions
from hrm_jax.train.update import Spread, all_rows_at_once


def over(
  mesh: Mesh, reduce_dtype: str = "float32", rows_at_once: int | None = None
) -> Spread:
  """Spreads the pass of `update.forward_backward` over the devices.

  Args:
    mesh: the devices.
    reduce_dtype: what the gradients are added up in, "float32" or "bfloat16".
    rows_at_once: how many of its rows a device takes at a time; None: all.
  """
  if mesh.size == 1:
    if rows_at_once is None:
      return all_rows_at_once
    return lambda function, *args: in_portions(function, rows_at_once)(*args)
  several_slices = sharding.num_slices(mesh) > 1

  def spread(function: Callable, shared: Any, *by_row: Any) -> Any:
    function = in_portions(function, rows_at_once)

    def run(shared: Any, *by_row: Any) -> Any:
      results, (d_params, *sums) = function(shared, *by_row)
      return results, (
        add_up(d_params, reduce_dtype, row_major=several_slices),
        *lax.psum(sums, sharding.AXES),
      )

    run = sharding.on_each_device(run, mesh, has_sums=True)
    return run(shared, *by_row)

  return spread


def add_up(
  gradients: Any, reduce_dtype: str, *, row_major: bool = False
) -> Any:
  """The sum over all devices of a mesh, each leaf of its own dtype.

  Args:
    gradients: pytree of arrays, those of one device.
    reduce_dtype: what they are cast to on their way.
    row_major: whether they are laid out by rows first. Of several TPU slices
      only each device's share of a sum should leave a slice. XLA deals out
      rows; where a gradient lies in columns, as that of attention does in the
      layout for a TPU, every device would send the whole sum.
  """
  parts = jax.tree.map(lambda g: g.astype(reduce_dtype), gradients)
  if row_major:
    parts = jax.tree.map(_row_major, parts)
  sums = lax.psum(parts, sharding.AXES)
  return jax.tree.map(lambda s, g: s.astype(g.dtype), sums, gradients)


# A TPU fills a row up to a multiple of so many numbers.
_LANES = 128


def _row_major(x: jax.Array) -> jax.Array:
  if not x.ndim or x.shape[-1] < _LANES:
    return x  # By rows it would be mostly filling.
  return with_layout_constraint(x, Layout(tuple(range(x.ndim))))

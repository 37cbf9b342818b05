"""The forward and backward pass for some of a device's rows after the others.

Rows of a batch meet nowhere but in the sums of an update, so what one portion
of them adds to these can be added to what the others did (gradient
accumulation). Only the intermediates of one portion are in memory. On a TPU
that is also faster: where they are small enough they stay in the fast memory
beside the products, and do not go to the large one and back.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from hrm_jax.model import halting
from hrm_jax.model.hrm import HRM
from hrm_jax.model.layers import swiglu_width

# What gate and up of the MLP, the widest array of a block, may take on a TPU:
# half of the fast memory of a v5e, for the compiler keeps more than that there.
_WIDEST_BYTES = 2**26


def rows_at_once(
  asked: int | None, model: HRM, rows: int, *, platform: str
) -> int:
  """How many rows a portion has; the last one may have fewer.

  Args:
    asked: by the configuration; None: all, and on a TPU as many as are fast.
    model: the network.
    rows: of each device.
    platform: of the devices, see `sharding.platform`.
  """
  if asked is not None:
    return min(asked, rows)
  if platform != "tpu":
    return rows
  width = 2 * swiglu_width(model.hidden_size, model.expansion)
  row_bytes = model.num_positions * width * model.dtype.itemsize
  most = max(1, _WIDEST_BYTES // row_bytes)
  least = -(-rows // most)  # Portions.
  # Twice as many at most, if they are all alike then: another size is another
  # program, which has to be compiled too.
  alike = (n for n in range(least, 2 * least) if rows % n == 0)
  return -(-rows // next(alike, least))


def in_portions(function: Callable, size: int | None) -> Callable:
  """The same function, run for a portion of the rows at a time.

  Args:
    function: see `update.Spread`.
    size: rows of a portion; None: all.

  Returns:
    A function of the same arguments. What it returns by row is the same; sums
    differ by the order in which numbers are added up.
  """
  if size is None:
    return function

  def run(shared: Any, *by_row: Any) -> Any:
    rows = len(jax.tree.leaves(by_row)[0])
    if rows <= size:
      return function(shared, *by_row)
    number, rest = divmod(rows, size)
    cut = rows - rest

    def add(sums: Any, portion: Any) -> Any:
      results, more = function(shared, *portion)
      return jax.tree.map(jnp.add, sums, more), results

    # Each leaf [number, size, ...].
    whole = jax.tree.map(
      lambda x: x[:cut].reshape(number, size, *x.shape[1:]), by_row
    )
    first = jax.tree.map(lambda x: x[0], whole)
    _, zeros = halting.zeros_like_result(function, shared, *first)
    sums, results = lax.scan(add, zeros, whole)
    results = jax.tree.map(lambda x: x.reshape(cut, *x.shape[2:]), results)
    if rest:
      sums, last = add(sums, jax.tree.map(lambda x: x[cut:], by_row))
      results = jax.tree.map(
        lambda *parts: jnp.concatenate(parts), results, last
      )
    return results, sums

  return run

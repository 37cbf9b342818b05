"""The puzzle table: gather rows, and move only those rows, by sign.

Each puzzle identifier owns a row of a [N, W] table that is far larger than
any batch (ARC: a million rows), and an update uses B of them. The gradient is
taken with respect to the gathered rows, so no dense [N, W] gradient ever
exists, and no update looks at the whole table.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hrm_jax.optim.schedule import from_update_one


class SparseRows(NamedTuple):
  """Some rows of a table: gradients with repeats, or updates without.

  Attributes:
    ids: [B] int32 row numbers; N (out of range) marks an unused entry.
    rows: [B, W] float32.
  """

  ids: jax.Array
  rows: jax.Array


class SparseSignSgdState(NamedTuple):
  """State of `sparse_sign_sgd`: there are no moments.

  Attributes:
    count: [] int32, updates applied so far; for the schedule.
  """

  count: jax.Array


def sparse_sign_sgd(
  learning_rate: optax.ScalarOrSchedule, *, weight_decay: float = 0.0
) -> optax.GradientTransformationExtraArgs:
  """Moves the table rows this batch used by the sign of their gradient.

  Adam on a gradient that is almost always zero behaves like this, without two
  moments per row. A row used several times moves once, by its summed gradient:
  row <- row (1 - lr weight_decay) - lr sign(sum). A row whose sum is zero only
  decays; a row that is not in use does not change by a bit.

  `update` takes `SparseRows` of gradients and the table as `params`, and
  returns `SparseRows` for `apply_sparse_updates` (`optax.apply_updates` cannot
  apply them).

  Args:
    learning_rate: a number, or a schedule over update numbers from 1.
    weight_decay: multiplied by the learning rate before use.

  Source: models/sparse_embedding.py of the HRM code. Its all-gather is absent
  because under jit the batch is already global.
  """
  learning_rate = from_update_one(learning_rate)

  def init(params):
    del params
    return SparseSignSgdState(jnp.zeros([], jnp.int32))

  def update(updates, state, params=None, **extra_args):
    del extra_args
    assert params is not None
    lr = learning_rate
    if callable(lr):
      lr = lr(state.count)
    summed = _sum_duplicates(updates, num_rows=params.shape[0])  # ids [B]
    # An unused entry has an id out of range: it reads zeros.
    rows = jnp.take(params, summed.ids, axis=0, mode="fill", fill_value=0)
    # [B, W]. The sign makes the sum over the global batch and its mean alike.
    moves = jnp.negative(lr) * (weight_decay * rows + jnp.sign(summed.rows))
    return SparseRows(summed.ids, moves), SparseSignSgdState(state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)


def _sum_duplicates(grads: SparseRows, num_rows: int) -> SparseRows:
  """One entry per distinct id, sorted; the entries left over get id N.

  The sums are a product with a 0/1 matrix: in a fixed order, unlike a
  scatter-add on a GPU, whose order could flip the sign of a sum near zero.
  """
  unique = jnp.unique(grads.ids, size=grads.ids.size, fill_value=num_rows)
  is_same = unique[:, None] == grads.ids[None, :]  # [B, B]
  # Highest: rounded to bfloat16, a sum near zero could have the wrong sign.
  rows = jnp.dot(is_same.astype(jnp.float32), grads.rows, precision="highest")
  return SparseRows(unique, rows)  # [B], [B, W]


def apply_sparse_updates(table: jax.Array, updates: SparseRows) -> jax.Array:
  """Adds the updates to their rows: [N, W] float32, in place if donated.

  Args:
    table: [N, W] float32.
    updates: of distinct rows in order, as `sparse_sign_sgd` returns them; those
      of row N are dropped.
  """
  return table.at[updates.ids].add(
    updates.rows,
    mode="drop",
    unique_indices=True,
    indices_are_sorted=True,
  )

"""The puzzle table: which rows move, by how much, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params

from hrm_jax.model.weights import gather_rows
from hrm_jax.optim.sparse_sign_sgd import (
  SparseRows,
  apply_sparse_updates,
  sparse_sign_sgd,
)
from tests.toys import Trainer, normal, toy_batch, toy_model

N, W = 9, 4


def moved(table, ids, grads, *, lr=0.125, decay=0.5):
  """The table after one update."""
  transform = sparse_sign_sgd(lr, weight_decay=decay)
  rows = SparseRows(jnp.asarray(ids, jnp.int32), jnp.asarray(grads))
  updates, _ = transform.update(rows, transform.init(table), table)
  return apply_sparse_updates(table, updates)


def test_used_rows_decay_and_step_against_the_sign():
  table, grads = normal(N, W), normal(3, W, seed=1)
  ids = np.array([4, 0, 7])
  got = moved(table, ids, grads)[ids]
  want = table[ids] * (1 - 0.125 * 0.5) - 0.125 * jnp.sign(grads)
  np.testing.assert_allclose(got, want, atol=1e-7)


def test_unused_table_rows_do_not_move():
  table = normal(N, W)
  got = moved(table, [4, 1, 4, 8], normal(4, W, seed=1))
  same = np.all(got == table, axis=1)
  np.testing.assert_array_equal(np.nonzero(~same)[0], [1, 4, 8])


def test_duplicates_are_summed_before_the_sign():
  table = normal(N, W)
  ones = np.ones(W, np.float32)
  got = moved(table, [3, 5, 3, 3], [ones, ones, 2 * ones, -4 * ones])
  # 1 + 2 - 4 is negative, although two of the three are positive.
  np.testing.assert_allclose(got[3], 0.9375 * table[3] + 0.125, rtol=1e-6)
  np.testing.assert_allclose(got[5], 0.9375 * table[5] - 0.125, rtol=1e-6)


def test_opposite_gradients_leave_only_the_decay():
  table, grad = normal(N, W), normal(1, W, seed=1)
  got = moved(table, [3, 3], jnp.concatenate([grad, -grad]))
  np.testing.assert_allclose(got[3], 0.9375 * table[3], rtol=1e-6)


def test_order_of_the_batch_does_not_matter():
  rng = np.random.default_rng(0)
  ids = rng.integers(0, N, 16)
  grads = rng.integers(-3, 4, (16, W)).astype(np.float32)  # Exact sums.
  order = rng.permutation(16)
  table = normal(N, W)
  np.testing.assert_array_equal(
    moved(table, ids, grads), moved(table, ids[order], grads[order])
  )


def test_schedule_counts_updates_from_one():
  table = normal(N, W)
  transform = sparse_sign_sgd(
    lambda update: 0.25 * jnp.float32(update), weight_decay=1.0
  )
  state = transform.init(table)
  for factor in (0.75, 0.5):
    rows = SparseRows(jnp.array([2]), jnp.zeros((1, W)))
    updates, state = transform.update(rows, state, table)
    want = factor * table[2]
    table = apply_sparse_updates(table, updates)
    np.testing.assert_allclose(table[2], want, rtol=1e-6)
  assert state.count == 2


def test_update_is_the_same_in_place_under_jit():
  table, grads = normal(N, W), normal(4, W, seed=1)
  ids = jnp.array([1, 8, 1, 2])
  want = np.array(moved(table, ids, grads))
  update = jax.jit(moved, donate_argnums=0)
  got = update(table, ids, grads)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert table.is_deleted()


def test_gathered_rows_are_those_of_the_identifiers():
  table = normal(N, W)
  ids = np.array([8, 0, 8])
  np.testing.assert_array_equal(gather_rows(table, ids), table[ids])


def makers_of(jaxpr, shape):
  """Names of the primitives that yield an array of this shape."""
  names = set()
  for eqn in jaxpr.eqns:
    if any(v.aval.shape == shape for v in eqn.outvars):
      names.add(eqn.primitive.name)
    for sub in jaxprs_in_params(eqn.params):
      names |= makers_of(sub, shape)
  return names - {"jit"}


def test_no_dense_gradient_of_the_table_exists():
  trainer = Trainer(toy_model(), num_rows=1000)
  jaxpr = jax.make_jaxpr(trainer.step)(trainer.shapes, toy_batch()).jaxpr
  width = trainer.model.puzzle_width
  assert makers_of(jaxpr, (1000, width)) == {"scatter-add"}

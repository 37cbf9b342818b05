"""Who thinks on, who takes the next puzzle, and what they are told to value.

Most tests use a segment that only counts, so the control logic stands alone.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.machines import sharding
from hrm_jax.model import halting
from hrm_jax.model.hrm import SegmentOutput
from hrm_jax.solve import inference, segments
from hrm_jax.solve.segments import HALT_MODES
from tests.toys import (
  BATCH_SIZE,
  mesh_of,
  normal,
  toy_batch,
  toy_model,
  toy_weights,
)

Z_SHAPE = (6, 4)  # S, D


def heads(q_halt, q_continue):
  """An output of which only the Q values matter."""
  z = jnp.zeros((len(q_halt), *Z_SHAPE))
  return SegmentOutput(z, z, z, jnp.array(q_halt), jnp.array(q_continue))


def counting_segment(thresholds):
  """Adds 1 to z_H and 2 to z_L; row i wants to halt beyond thresholds[i]."""
  thresholds = jnp.asarray(thresholds)

  def segment(z_H, z_L):
    z_H, z_L = z_H + 1, z_L + 2
    thought = z_H[:, 0, 0]
    q_continue = jnp.zeros_like(thought)
    return SegmentOutput(z_H, z_L, 10 * z_H, thought - thresholds, q_continue)

  return segment


def run_counting(thresholds, halt, *, halt_max_steps=4, on_segment=None):
  segment = counting_segment(thresholds)

  def noisy(z_H, z_L):
    if on_segment is not None:
      jax.debug.callback(on_segment)
    return segment(z_H, z_L)

  z = jnp.zeros((len(thresholds), *Z_SHAPE))
  answer = jax.jit(
    lambda z: segments.run_segments(
      noisy,
      z,
      z,
      halt_max_steps=halt_max_steps,
      halt=halt,
      observe=lambda output: output.z_H[:, 0, 0],
    )
  )(z)
  jax.effects_barrier()
  return answer


# ------------------------------------------------------------------ refill


def refilled(halted):
  carry = halting.init_carry(BATCH_SIZE, Z_SHAPE, 5, jnp.dtype("float32"))
  carry = carry._replace(
    z_H=normal(BATCH_SIZE, *Z_SHAPE),
    z_L=normal(BATCH_SIZE, *Z_SHAPE, seed=1),
    segments=1 + jnp.arange(BATCH_SIZE),
    halted=jnp.asarray(halted),
    current=jax.tree.map(jnp.asarray, toy_batch(0)),
  )
  initial = normal(2, 1, 1, Z_SHAPE[1], seed=2)
  return carry, halting.refill(carry, toy_batch(1), *initial), initial


def test_halted_rows_take_the_next_puzzle():
  halted = np.arange(BATCH_SIZE) % 3 == 0
  _, new, (z_H_init, z_L_init) = refilled(halted)
  for key, offered in toy_batch(1).items():
    np.testing.assert_array_equal(new.current[key][halted], offered[halted])
  assert not np.any(new.segments[halted])
  for z, init in ((new.z_H, z_H_init), (new.z_L, z_L_init)):
    want = np.broadcast_to(init, z[halted].shape)
    np.testing.assert_array_equal(z[halted], want)


def test_other_rows_keep_their_puzzle():
  halted = np.arange(BATCH_SIZE) % 3 == 0
  old, new, _ = refilled(halted)
  assert not np.any(new.halted)
  old, new = (c._replace(halted=None) for c in (old, new))
  for before, after in zip(*map(jax.tree.leaves, (old, new)), strict=True):
    np.testing.assert_array_equal(after[~halted], before[~halted])


def test_at_the_first_update_every_row_takes_a_puzzle():
  carry = halting.init_carry(BATCH_SIZE, Z_SHAPE, 5, jnp.dtype("bfloat16"))
  initial = normal(2, 1, 1, Z_SHAPE[1], dtype=jnp.bfloat16)
  new = halting.refill(carry, toy_batch(), *initial)
  assert new.z_H.dtype == new.z_L.dtype == jnp.bfloat16
  for key, offered in toy_batch().items():
    np.testing.assert_array_equal(new.current[key], offered)
    assert new.current[key].dtype == carry.current[key].dtype


# ----------------------------------------------------------------- halting


def decide(q_halt, q_continue, segments, *, uniform=1.0, minimum=2, **settings):
  ones = jnp.ones([len(q_halt)])
  draws = halting.Draws(uniform * ones, (minimum * ones).astype(int))
  settings = {"halt_max_steps": 4, "halt_exploration_prob": 0.5, **settings}
  return halting.decide_halting(
    heads(q_halt, q_continue), jnp.array(segments), draws, **settings
  ).tolist()


def test_row_halts_when_halting_is_worth_more():
  got = decide([2.0, 1.0, -3.0, -1.0], [1.0, 2.0, -4.0, -1.0], [1, 1, 1, 1])
  assert got == [True, False, True, False]  # A tie goes on.


def test_row_halts_at_the_last_segment():
  assert decide([-9.0] * 3, [9.0] * 3, [3, 4, 5]) == [False, True, True]


def test_without_early_halting_only_the_last_segment_ends_a_puzzle():
  got = decide([9.0] * 3, [-9.0] * 3, [1, 3, 4], halt_early=False)
  assert got == [False, False, True]


def test_exploring_row_thinks_at_least_its_minimum():
  got = decide([9.0] * 3, [-9.0] * 3, [1, 2, 3], uniform=0.4, minimum=3)
  assert got == [False, False, True]


def test_exploring_row_still_halts_at_the_last_segment():
  assert decide([9.0], [-9.0], [4], uniform=0.4, minimum=4) == [True]


def test_exploration_happens_below_its_probability_alone():
  for uniform, halts in ((0.49, False), (0.5, True)):
    assert decide([9.0], [0.0], [1], uniform=uniform) == [halts]
  settings = {"halt_exploration_prob": 0.0, "uniform": 0.0}
  assert decide([9.0], [0.0], [1], **settings) == [True]


def test_with_one_segment_every_row_halts():
  settings = {"halt_max_steps": 1, "uniform": 0.0}
  assert decide([-9.0, 9.0], [9.0, -9.0], [1, 1], **settings) == [True] * 2


# ------------------------------------------------------------------- draws


def test_draws_lie_in_their_ranges():
  draws = halting.exploration_draws(jax.random.key(0), 4000, 5)
  assert draws.uniform.shape == draws.min_segments.shape == (4000,)
  assert draws.uniform.min() >= 0
  assert draws.uniform.max() < 1
  np.testing.assert_allclose(draws.uniform.mean(), 0.5, atol=0.03)
  values, counts = np.unique(draws.min_segments, return_counts=True)
  assert values.tolist() == [2, 3, 4, 5]
  np.testing.assert_allclose(counts, np.full(4, 1000), rtol=0.15)


def test_draws_do_not_depend_on_the_mesh():
  key = jax.random.key(3)
  plain = halting.exploration_draws(key, BATCH_SIZE, 5)
  for devices in (1, 8):
    rows = sharding.by_row(mesh_of(devices))
    got = jax.jit(
      halting.exploration_draws, static_argnums=(1, 2), out_shardings=rows
    )(key, BATCH_SIZE, 5)
    for one, other in zip(got, plain, strict=True):
      np.testing.assert_array_equal(one, other)


def test_draws_exist_for_one_segment_too():
  draws = halting.exploration_draws(jax.random.key(0), 3, 1)
  assert draws.min_segments.tolist() == [2, 2, 2]


# ------------------------------------------------------------------ target


def target(output, segments, q_halt, q_continue):
  return halting.bootstrap_target(
    lambda z_H, z_L: (jnp.array(q_halt), jnp.array(q_continue)),
    output,
    jnp.array(segments),
    halt_max_steps=4,
  )


def test_target_is_the_better_value_until_the_last_segment():
  q_halt, q_continue = [1.0, -2.0, -2.0], [-1.0, 3.0, 3.0]
  got = target(heads([0.0] * 3, [0.0] * 3), [1, 3, 4], q_halt, q_continue)
  np.testing.assert_allclose(got, jax.nn.sigmoid(jnp.array([1.0, 3.0, -2.0])))


def test_target_comes_from_the_following_segment_without_gradient():
  def total(z, thresholds):
    segment = counting_segment(thresholds)

    def look_ahead(z_H, z_L):
      following = segment(z_H, z_L)
      return following.q_halt_logits, following.q_continue_logits

    value = halting.bootstrap_target(
      look_ahead, segment(z, z), jnp.array([1, 4]), halt_max_steps=4
    )
    return value.sum(), value

  z, thresholds = jnp.zeros((2, *Z_SHAPE)), jnp.zeros(2)
  grads, value = jax.grad(total, argnums=(0, 1), has_aux=True)(z, thresholds)
  np.testing.assert_allclose(value, jax.nn.sigmoid(jnp.full(2, 2.0)))
  assert not np.any(grads[0])
  assert not np.any(grads[1])


# ---------------------------------------------------------- run_segments


def test_full_runs_every_row_to_the_end():
  answer = run_counting([0.5, 2.5, 9.0], "full")
  assert answer.segments.tolist() == [4, 4, 4]
  np.testing.assert_array_equal(answer.output.z_H[:, 0, 0], [4, 4, 4])
  np.testing.assert_array_equal(answer.output.z_L[:, 0, 0], [8, 8, 8])
  np.testing.assert_array_equal(answer.trace, [[i] * 3 for i in (1, 2, 3, 4)])


def test_act_freezes_each_row_where_it_halts():
  answer = run_counting([0.5, 2.5, 9.0], "act")
  assert answer.segments.tolist() == [1, 3, 4]
  output = answer.output
  np.testing.assert_array_equal(output.z_H[:, 0, 0], [1, 3, 4])
  np.testing.assert_array_equal(output.z_L[:, 0, 0], [2, 6, 8])
  np.testing.assert_array_equal(output.logits[:, 0, 0], [10, 30, 40])
  np.testing.assert_array_equal(output.q_halt_logits, [0.5, 0.5, -5])


def test_trace_repeats_the_last_answer_of_a_row_that_halted():
  answer = run_counting([0.5, 1.5, 2.5], "act")
  want = [[1, 1, 1], [1, 2, 2], [1, 2, 3], [1, 2, 3]]
  np.testing.assert_array_equal(answer.trace, want)


@pytest.mark.parametrize(
  ("halt", "thresholds", "segments"),
  [
    ("act", [0.5, 1.5], 2),
    ("act", [0.5, 9.0], 4),
    ("act", [0.0], 1),
    ("full", [0.5, 0.5], 4),
  ],
)
def test_loop_ends_with_its_last_row(halt, thresholds, segments):
  calls = []
  run_counting(thresholds, halt, on_segment=lambda: calls.append(1))
  assert len(calls) == segments


def test_one_segment_is_enough_where_no_more_are_allowed():
  for halt in HALT_MODES:
    answer = run_counting([9.0, 0.0], halt, halt_max_steps=1)
    assert answer.segments.tolist() == [1, 1]


def test_unknown_halting_is_refused():
  with pytest.raises(ValueError, match="soon"):
    run_counting([0.0], "soon")


# -------------------------------------------------- with the transformer


@functools.cache
def solver():
  """The toy HRM in act mode, and its weights."""
  model = toy_model(halt_max_steps=6)
  solve = jax.jit(
    functools.partial(
      inference.solve, model, halt="act", observe=lambda output: output.logits
    )
  )
  return functools.partial(solve, toy_weights(model, seed=2))


def assert_same_rows(got, want, got_rows, want_rows):
  for key in ("output", "segments"):
    one, other = (jax.tree.leaves(getattr(a, key)) for a in (got, want))
    for x, y in zip(one, other, strict=True):
      np.testing.assert_array_equal(x[got_rows], y[want_rows])
  np.testing.assert_array_equal(
    got.trace[:, got_rows], want.trace[:, want_rows]
  )


def test_toy_rows_halt_at_different_segments():
  steps = solver()(toy_batch()).segments
  assert len(np.unique(steps)) >= 3
  assert steps.min() < 6


def test_answer_does_not_depend_on_the_other_rows():
  want = solver()(toy_batch())
  blank = toy_batch(padding=BATCH_SIZE)
  for row in range(BATCH_SIZE):
    alone = {key: value.copy() for key, value in blank.items()}
    for key, value in toy_batch().items():
      alone[key][row] = value[row]
    assert_same_rows(solver()(alone), want, row, row)


def test_answers_move_with_their_rows():
  order = np.random.default_rng(0).permutation(BATCH_SIZE)
  shuffled = {key: value[order] for key, value in toy_batch().items()}
  got, want = solver()(shuffled), solver()(toy_batch())
  assert_same_rows(got, want, np.arange(BATCH_SIZE), order)

"""The learning rate, update by update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.optim.schedule import from_update_one, warmup_cosine


def make_schedule(**changed):
  arguments = {"warmup_steps": 10, "total_steps": 110, "min_ratio": 0.1}
  return warmup_cosine(2.0, **{**arguments, **changed})


def test_rate_rises_in_a_line_and_falls_by_the_cosine():
  schedule = make_schedule()
  np.testing.assert_allclose(
    [schedule(t) for t in (1, 5, 10, 60, 110)], [0.2, 1.0, 2.0, 1.1, 0.2]
  )


def test_rate_rises_again_beyond_the_end():
  schedule = make_schedule()
  np.testing.assert_allclose(schedule(130), schedule(90), rtol=1e-5)
  assert schedule(130) > schedule(110)


def test_rate_without_warmup_starts_at_the_top():
  schedule = make_schedule(warmup_steps=0, total_steps=1000)
  np.testing.assert_allclose(schedule(1), 2.0, rtol=1e-5)


def test_rate_is_constant_at_ratio_one():
  schedule = make_schedule(min_ratio=1.0)
  np.testing.assert_array_equal([schedule(t) for t in (10, 57, 300)], [2.0] * 3)


@pytest.mark.parametrize("total_steps", [0, 5, 10])
def test_rate_is_finite_when_warmup_takes_the_whole_run(total_steps):
  schedule = make_schedule(total_steps=total_steps)
  assert np.all(np.isfinite([schedule(t) for t in range(1, 30)]))


def test_rate_is_the_same_for_numbers_and_traced_counts():
  schedule = make_schedule()
  updates = jnp.arange(1, 120)
  got = jax.jit(jax.vmap(schedule))(updates)
  np.testing.assert_allclose(
    got, [schedule(int(t)) for t in updates], rtol=1e-6
  )


def test_optax_counts_from_zero_and_schedules_from_one():
  schedule = from_update_one(make_schedule())
  np.testing.assert_allclose(schedule(0), make_schedule()(1))
  assert from_update_one(0.5) == 0.5

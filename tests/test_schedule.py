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


def in_float64(updates, base_lr, *, warmup_steps, total_steps, min_ratio):
  """The same curve, its angle reduced before any rounding."""
  span = max(1, total_steps - warmup_steps)
  to_end = np.abs(total_steps - updates) % (2 * span)
  part = np.minimum(to_end, 2 * span - to_end) / span
  decayed = min_ratio + (1 - min_ratio) * np.sin(0.5 * np.pi * part) ** 2
  return base_lr * np.where(
    updates < warmup_steps, updates / max(1, warmup_steps), decayed
  )


@pytest.mark.parametrize("min_ratio", [0.0, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize(
  ("warmup_steps", "total_steps"),
  [
    (0, 7),
    (10, 110),
    (2000, 5000),
    (0, 1000),
    (0, 7_654_321),
    (123, 2**24 + 128),  # From here on float32 has no odd numbers.
    (1000, 700_001_000),
    (0, 2**31 - 1),
    (2**30, 2**31 - 1),
  ],
)
def test_rate_keeps_its_digits_near_every_zero(
  warmup_steps, total_steps, min_ratio
):
  arguments = {"warmup_steps": warmup_steps, "total_steps": total_steps}
  arguments["min_ratio"] = min_ratio
  span = total_steps - warmup_steps
  last = min(warmup_steps + 3 * span, 2**31 - 1)
  updates = np.concatenate(
    [
      np.linspace(1, last, 20_000).astype(np.int64),
      # The ends of the rise, of the first fall, of the rise after it, and of
      # the second fall.
      *(warmup_steps + k * span + np.arange(-300, 301) for k in range(4)),
    ]
  )
  updates = np.unique(np.clip(updates, 1, last))
  got = jax.jit(jax.vmap(warmup_cosine(1e-4, **arguments)))(
    updates.astype(np.int32)
  )
  want = in_float64(updates, 1e-4, **arguments)
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)
  # The curve is the usual one, as far as float64 can write that.
  way = (updates - warmup_steps) / span
  usual = min_ratio + (1 - min_ratio) * 0.5 * (1 + np.cos(np.pi * way))
  falls = updates >= warmup_steps
  np.testing.assert_allclose(want[falls], 1e-4 * usual[falls], atol=1e-18)


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

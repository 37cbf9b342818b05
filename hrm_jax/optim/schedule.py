"""The learning rate, update by update."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax


def warmup_cosine(
  base_lr: float, *, warmup_steps: int, total_steps: int, min_ratio: float
) -> optax.Schedule:
  """A linear rise from zero, then a cosine towards `min_ratio` of the top.

  Beyond `total_steps` the curve rises again, as the reference's does; no run
  gets there.

  Written with sin^2 of half the way to the nearest zero, which is the same
  curve as the usual (1 + cos) / 2. There 1 + cos cancels, and so does the sine
  of a multiple of pi: float32 would keep no digit. So the way is an exact
  difference of integers, and relative errors stay below 1e-6 everywhere.

  Args:
    base_lr: the learning rate at the top, after the rise.
    warmup_steps: updates of the rise; update `warmup_steps` has `base_lr`.
    total_steps: the update at which the cosine reaches its end; below 2**31.
    min_ratio: the end over the top; 1 makes the rate constant after the rise.

  Returns:
    A function from the update's number, which counts from 1, to the rate, []
    float32.

  Source: cosine_schedule_with_warmup_lr_lambda in pretrain.py of the HRM code.
  """
  # At least 1: a run that is all rise has no cosine, and must not divide by 0.
  span = max(1, total_steps - warmup_steps)
  # From one zero to the next. Unsigned, because it may be more than 2**31.
  period = np.uint32(2 * span)

  def schedule(update: jax.typing.ArrayLike) -> jax.Array:
    update = jnp.asarray(update)
    past_zero = jnp.abs(span - (update - warmup_steps)).astype(period.dtype)
    past_zero %= period
    to_zero = jnp.minimum(past_zero, period - past_zero).astype(jnp.float32)
    cosine = jnp.square(jnp.sin(0.5 * math.pi * (to_zero / span)))
    decayed = min_ratio + jnp.maximum(0.0, (1.0 - min_ratio) * cosine)
    rising = update / max(1, warmup_steps)
    return base_lr * jnp.where(update < warmup_steps, rising, decayed)

  return schedule


def from_update_one(
  learning_rate: optax.ScalarOrSchedule,
) -> optax.ScalarOrSchedule:
  """Lets a schedule over update numbers from 1 be used by optax, from 0.

  The reference counts an update before it asks for its rate, so that
  with a warm-up the first update has some rate. A number stays what it is.
  """
  if not callable(learning_rate):
    return learning_rate
  return lambda count: learning_rate(count + 1)

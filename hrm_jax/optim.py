"""Adam-atan2 and the learning-rate schedule, as optax transforms."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


def warmup_cosine(
  base_lr: float, *, warmup_steps: int, total_steps: int, min_ratio: float
) -> optax.Schedule:
  """A linear rise from zero, then a cosine towards `min_ratio` of the top.

  Written with sin^2 of half the *remaining* way, which is the same curve but
  exact in float32 near its end, where 1 + cos cancels. Beyond `total_steps`
  the curve rises again, as the reference's does.

  Args:
    base_lr: the learning rate at the top.
    warmup_steps: updates of the rise; update `warmup_steps` has `base_lr`.
    total_steps: the update at which the cosine reaches its end.
    min_ratio: the end over the top; 1 makes the rate constant.

  Returns:
    A function of the update's number, which counts from 1.
  """
  span = max(1, total_steps - warmup_steps)

  def schedule(update: jax.Array | int) -> jax.Array:
    update = jnp.asarray(update)
    # The way left, not 1 minus the way gone: an exact difference of integers.
    left = (span - (update - warmup_steps)) / span
    cosine = jnp.square(jnp.sin(0.5 * math.pi * left))
    decayed = min_ratio + jnp.maximum(0.0, (1.0 - min_ratio) * cosine)
    rising = update / max(1, warmup_steps)
    return base_lr * jnp.where(update < warmup_steps, rising, decayed)

  return schedule


class ScaleByAdamAtan2State(NamedTuple):
  """State of `scale_by_adam_atan2`.

  Attributes:
    count: [] int32, updates applied so far.
    mu: first moment, laid out like the parameters.
    nu: second moment, laid out like the parameters.
  """

  count: jax.Array
  mu: optax.Params
  nu: optax.Params


def scale_by_adam_atan2(
  b1: float = 0.9, b2: float = 0.95
) -> optax.GradientTransformation:
  """Adam's direction with atan2(m, sqrt(v)) for m / (sqrt(v) + eps).

  Bounded and free of an epsilon, hence blind to the scale of the gradient
  (arXiv 2407.05872). atan2(0, 0) = 0: no gradient, no move.

  As in the reference's CUDA kernel, the first moment's bias correction stands
  outside the atan2, so early directions may exceed pi/2.

  Args:
    b1: decay of the first moment.
    b2: decay of the second moment.
  """

  def init(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    nu = jax.tree.map(jnp.zeros_like, params)
    return ScaleByAdamAtan2State(jnp.zeros([], jnp.int32), zeros, nu)

  def update(grads, state, params=None):
    del params
    count = state.count + 1
    # 1 - b as a Python double: float32(0.999) is off by 1e-8, one part in
    # 1e5 of what is left of 1.
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    nu = jax.tree.map(
      lambda v, g: b2 * v + (1 - b2) * jnp.square(g), state.nu, grads
    )
    correction_1 = _bias_correction(b1, count)
    correction_2 = jnp.sqrt(_bias_correction(b2, count))
    directions = jax.tree.map(
      lambda m, v: arctan2(m, jnp.sqrt(v) / correction_2) / correction_1,
      mu,
      nu,
    )
    return directions, ScaleByAdamAtan2State(count, mu, nu)

  return optax.GradientTransformation(init, update)


# The powers of s in arctan(sqrt(s)) / sqrt(s), on [0, 1]; within 1e-8.
_ARCTAN = np.polynomial.Chebyshev.interpolate(
  lambda s: np.arctan(np.sqrt(s)) / np.sqrt(s), 9, domain=[0, 1]
).convert(kind=np.polynomial.Polynomial)


def arctan2(y: jax.Array, x: jax.Array) -> jax.Array:
  """`jnp.arctan2` for finite y and x >= 0, float32, within 2e-7 of the angle.

  In plain arithmetic, which XLA vectorises everywhere; its own calls a
  function per number on CPUs, 20 times slower.
  """
  low, high = jnp.minimum(jnp.abs(y), x), jnp.maximum(jnp.abs(y), x)
  ratio = low / jnp.where(high > 0, high, 1.0)
  square = jnp.square(ratio)
  angle = jnp.zeros_like(ratio)
  for coefficient in reversed(_ARCTAN.coef.tolist()):
    angle = angle * square + coefficient
  angle *= ratio
  angle = jnp.where(jnp.abs(y) > x, math.pi / 2 - angle, angle)
  return jnp.sign(y) * angle


def _bias_correction(decay: float, count: jax.Array) -> jax.Array:
  """1 - decay^count, without the cancellation of doing so in float32."""
  if decay == 0:
    return jnp.ones([], jnp.float32)
  return -jnp.expm1(count * math.log(decay))


def adam_atan2(
  learning_rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.9,
  b2: float = 0.95,
  weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  """Adam-atan2 with decoupled weight decay on every parameter, biases too.

  One update: p <- p (1 - lr weight_decay) - lr * direction.

  Args:
    learning_rate: a number, or a schedule over update numbers from 1.
    b1: decay of the first moment.
    b2: decay of the second moment.
    weight_decay: multiplied by the learning rate before use.
  """
  return optax.chain(
    scale_by_adam_atan2(b1, b2),
    optax.add_decayed_weights(weight_decay),
    optax.scale_by_learning_rate(from_update_one(learning_rate)),
  )


def from_update_one(
  learning_rate: optax.ScalarOrSchedule,
) -> optax.ScalarOrSchedule:
  """Lets a schedule over update numbers from 1 be used by optax, from 0."""
  if not callable(learning_rate):
    return learning_rate
  return lambda count: learning_rate(count + 1)

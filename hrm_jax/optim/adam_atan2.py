"""Adam-atan2, the optimiser of the dense parameters, as an optax transform.

Adam divides the first moment m by the root of the second, sqrt(v), plus an
epsilon. Adam-atan2 takes the angle of the point (sqrt(v), m) instead, which
needs no epsilon (arXiv 2407.05872). Source of the details: the CUDA kernel of
the adam-atan2 package that the HRM code trains with.

Unlike optax's own transforms these take `is_good`: an update that is not finite
must leave no trace, and that is decided on the device, because a host that
looks at each update before the next one starts would hold the device up.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hrm_jax.optim.schedule import from_update_one


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
) -> optax.GradientTransformationExtraArgs:
  """Adam's direction with atan2(m, sqrt(v)) for m / (sqrt(v) + eps).

  Bounded and free of an epsilon, hence blind to the scale of the gradient.
  atan2(0, 0) = 0: no gradient, no move.

  As in the reference's CUDA kernel, the first moment's bias correction stands
  outside the atan2, so early directions may exceed pi/2.

  `update` takes `is_good`, a [] bool. If it is False, nothing of the state
  changes, whatever the gradients hold; the directions then mean nothing. It
  chooses coefficients, not results, because choosing between the old and the
  new would be another pass over all of them.

  Args:
    b1: decay of the first moment.
    b2: decay of the second moment.
  """

  def init(params):
    # Two trees, not one twice: a donated buffer can be given away only once.
    zeros = jax.tree.map(jnp.zeros_like, params)
    nu = jax.tree.map(jnp.zeros_like, params)
    return ScaleByAdamAtan2State(jnp.zeros([], jnp.int32), zeros, nu)

  def update(updates, state, params=None, *, is_good=True, **extra_args):
    del params, extra_args
    count = state.count + 1
    # A NaN times 0 is still one: it must go before the moments see it.
    grads = jax.tree.map(lambda g: jnp.where(is_good, g, 0.0), updates)
    # 1 - b as a Python double: float32(0.999) is off by 1e-8, one part in
    # 1e5 of what is left of 1.
    keep_1, take_1 = jnp.where(is_good, jnp.array([b1, 1 - b1]), _KEEP_ALL)
    keep_2, take_2 = jnp.where(is_good, jnp.array([b2, 1 - b2]), _KEEP_ALL)
    mu = jax.tree.map(lambda m, g: keep_1 * m + take_1 * g, state.mu, grads)
    nu = jax.tree.map(
      lambda v, g: keep_2 * v + take_2 * jnp.square(g), state.nu, grads
    )
    # Both moments start at zero and are too small at first, by 1 - b^count.
    # Factors, not divisors: XLA fuses no quotient into what uses it.
    correction_1 = 1 / _bias_correction(b1, count)
    correction_2 = 1 / _bias_correction(b2, count)
    directions = jax.tree.map(
      lambda m, v: correction_1 * angle(m, correction_2 * v), mu, nu
    )
    count = state.count + jnp.asarray(is_good, jnp.int32)
    return directions, ScaleByAdamAtan2State(count, mu, nu)

  return optax.GradientTransformationExtraArgs(init, update)


# The coefficients of what was there, and of what comes: moments that stay.
_KEEP_ALL = np.array([1.0, 0.0], np.float32)


# The powers of s in 2 arctan(sqrt(s)) / sqrt(s), on [0, 1]; within 2e-8.
_TWO_ARCTAN = np.polynomial.Chebyshev.interpolate(
  lambda s: 2 * np.arctan(np.sqrt(s)) / np.sqrt(s), 9, domain=[0, 1]
).convert(kind=np.polynomial.Polynomial)


def angle(m: jax.Array, v: jax.Array) -> jax.Array:
  """arctan2(m, sqrt(v)), float32, within 3e-7 of it relatively.

  It is computed in plain arithmetic, which XLA vectorises everywhere:
  `jnp.arctan2` calls a function per number on CPUs, 20 times slower. It comes
  from the tangent of half the angle, which needs one quotient and no cases.

  Args:
    m: finite.
    v: from 0 on. Below 1e-37, as small as float32 goes, it may count as 0.
  """
  # tan(angle / 2) = m / (x + sqrt(x^2 + m^2)) with x = sqrt(v). The divisor is
  # not below |m|, so that this holds where the square of m is too small.
  whole = jnp.maximum(jnp.sqrt(v) + jnp.sqrt(v + jnp.square(m)), jnp.abs(m))
  tangent = m / jnp.maximum(whole, np.finfo(np.float32).tiny)
  square = jnp.square(tangent)
  # Horner's rule.
  ratio = jnp.zeros_like(square)
  for coefficient in reversed(_TWO_ARCTAN.coef.tolist()):
    ratio = ratio * square + coefficient
  return ratio * tangent


def _bias_correction(decay: float, count: jax.Array) -> jax.Array:
  """1 - decay^count, without the cancellation of doing so in float32."""
  if decay == 0:  # It has no logarithm.
    return jnp.ones([], jnp.float32)
  return -jnp.expm1(count.astype(jnp.float32) * math.log(decay))


class ScaleByLearningRateState(NamedTuple):
  """State of `_scale_by_learning_rate`.

  Attributes:
    count: [] int32, updates applied so far.
  """

  count: jax.Array


def _scale_by_learning_rate(
  learning_rate: optax.ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
  """Like optax's, but a bad update moves nothing and is not counted.

  The factor 0 turns also the weight decay off that stands before it.
  """
  learning_rate = from_update_one(learning_rate)

  def init(params):
    del params
    return ScaleByLearningRateState(jnp.zeros([], jnp.int32))

  def update(updates, state, params=None, *, is_good=True, **extra_args):
    del params, extra_args
    lr = learning_rate
    if callable(lr):
      lr = lr(state.count)
    factor = jnp.where(is_good, jnp.negative(lr), 0.0)
    updates = jax.tree.map(lambda u: factor * u, updates)
    count = state.count + jnp.asarray(is_good, jnp.int32)
    return updates, ScaleByLearningRateState(count)

  return optax.GradientTransformationExtraArgs(init, update)


def adam_atan2(
  learning_rate: optax.ScalarOrSchedule,
  *,
  b1: float = 0.9,
  b2: float = 0.95,
  weight_decay: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """Adam-atan2 with decoupled weight decay on every parameter, biases too.

  One update: p <- p (1 - lr weight_decay) - lr * direction. Takes `is_good`,
  see `scale_by_adam_atan2`: if it is False, the update is zero.

  Args:
    learning_rate: a number, or a schedule over update numbers from 1.
    b1: decay of the first moment.
    b2: decay of the second moment.
    weight_decay: multiplied by the learning rate before use.
  """
  # Decay before the learning rate, so that it is multiplied by it too.
  return optax.chain(
    scale_by_adam_atan2(b1, b2),
    optax.add_decayed_weights(weight_decay),
    _scale_by_learning_rate(learning_rate),
  )

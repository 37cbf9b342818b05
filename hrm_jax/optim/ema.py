"""A moving average of the dense parameters, which evaluation uses.

The last weights of a run jump about with each batch; their average over the
last 1 / (1 - rate) updates does not, and scores better where there are few
examples (TRM, arXiv 2510.04871, which takes the rate 0.999). Training itself
never reads it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class EmaState(NamedTuple):
  """State of `ema`.

  Attributes:
    params: the average, laid out like the parameters.
  """

  params: optax.Params


def ema(rate: float) -> optax.GradientTransformationExtraArgs:
  """Averages the parameters exponentially; leaves the updates as they are.

  After each update, average <- rate * average + (1 - rate) * parameters. It
  starts from the parameters themselves, hence needs no bias correction. In a
  chain it stands last: what `update` is given must be what the parameters move
  by. `update` takes `is_good`, as in `adam_atan2`: if it is False, the average
  stays.

  Args:
    rate: share of the average that is kept, 0 or more, below 1.
  """

  def init(params):
    # A copy: a donated buffer can be given away only once.
    return EmaState(jax.tree.map(jnp.copy, params))

  def update(updates, state, params=None, *, is_good=True, **extra_args):
    del extra_args
    if params is None:
      raise ValueError("ema: expected the parameters, got None.")
    # 1 - rate as a Python double: see `scale_by_adam_atan2`.
    keep, take = jnp.where(
      is_good,
      jnp.array([rate, 1 - rate]),
      jnp.array([1.0, 0.0]),
    )
    average = jax.tree.map(
      lambda a, p: keep * a + take * p,
      state.params,
      optax.apply_updates(params, updates),
    )
    return updates, EmaState(average)

  return optax.GradientTransformationExtraArgs(init, update)

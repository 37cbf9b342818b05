"""Which implementation of attention is the faster one here.

XLA's runs everywhere; cuDNN's only on NVIDIA GPUs, for some dtypes and head
sizes. Which is faster depends on shapes and versions: both are timed, once at
the start. It changes rounding: a run that resumes keeps the one it had, and a
run that must repeat another names one.
"""

import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hrm_jax.console import InputError, log, one_line
from hrm_jax.machines import cluster
from hrm_jax.model import layers
from hrm_jax.model.hrm import HRM

SETTINGS = ("auto", "xla", "cudnn")

# A function from (implementation, model, rows) to seconds.
Timing = Callable[[str, HRM, int], float]


def choose(
  setting: str,
  model: HRM,
  rows: int,
  timing: Timing | None = None,
  *,
  platform: str,
  earlier: str | None = None,
) -> HRM:
  """Chooses the implementation of attention: the network, with it set.

  Several processes choose what process 0 chooses: they must run one program.

  Args:
    setting: "auto", the faster one, or the name of one.
    model: the network.
    rows: how many rows of the batch each device has.
    timing: replaces `measured_seconds`; None: that one.
    platform: of the devices, see `sharding.platform`.
    earlier: what the run has used so far; "auto" keeps it if it runs here.

  Raises:
    InputError: cuDNN was asked for and does not run.
  """
  timing = timing or measured_seconds
  if setting == "cudnn":
    try:
      timing("cudnn", model, rows)
    except Exception as error:  # JAX, XLA and cuDNN raise many.
      raise InputError(
        f"config.attention: expected auto or xla, because cuDNN's does not "
        f"run here ({one_line(error)}); got 'cudnn'."
      ) from error
  elif setting == "auto":
    setting = "xla"
    if platform == "gpu":
      if cluster.is_first() and earlier != "xla":
        setting = _faster(model, rows, timing, keep_cudnn=earlier == "cudnn")
      setting = SETTINGS[cluster.from_first(SETTINGS.index(setting))]
  return model.clone(
    attention=setting,
    # The better layout there, and a slow one elsewhere.
    for_tpu=platform == "tpu",
  )


def _faster(model: HRM, rows: int, timing: Timing, *, keep_cudnn: bool) -> str:
  try:
    cudnn = timing("cudnn", model, rows)
  except Exception as error:  # JAX, XLA and cuDNN raise many.
    log.info(f"attention: xla; cuDNN's does not run here ({one_line(error)})")
    return "xla"
  if keep_cudnn:
    return "cudnn"
  try:
    xla = timing("xla", model, rows)
  except Exception as error:  # Its scores, [B, A, S, S], may not fit.
    log.info(f"attention: cudnn; XLA's does not run here ({one_line(error)})")
    return "cudnn"
  choice = "cudnn" if cudnn < xla else "xla"
  log.info(
    f"attention: {choice}; forward and backward take {1e3 * xla:.3f} ms by "
    f"XLA and {1e3 * cudnn:.3f} ms by cuDNN"
  )
  return choice


def measured_seconds(
  implementation: str, model: HRM, rows: int, repeats: int = 5
) -> float:
  """Seconds of attention in one block, forward and backward.

  Args:
    implementation: "xla" or "cudnn".
    model: gives the sizes and the dtype.
    rows: B.
    repeats: how many runs are timed; their median counts.
  """
  # All blocks are alike, so one of them tells which is faster.
  A = model.num_heads
  shape = (rows, model.num_positions, A, model.hidden_size // A)  # [B, S, A, C]
  keys = jax.random.split(jax.random.key(0), 3)
  qkv = [jax.random.normal(key, shape, model.dtype) for key in keys]

  @jax.jit
  def run(query, key, value):
    mix = functools.partial(layers.mix_values, implementation=implementation)
    mixed, backward = jax.vjp(mix, query, key, value)
    return backward(jnp.ones_like(mixed))

  def seconds() -> float:
    began = time.perf_counter()
    jax.block_until_ready(run(*qkv))
    return time.perf_counter() - began

  seconds()  # Compiles.
  return statistics.median(seconds() for _ in range(repeats))

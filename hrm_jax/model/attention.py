"""Which implementation of attention is the fastest one here.

XLA's runs everywhere. cuDNN's runs on NVIDIA GPUs alone, JAX's splash attention
on TPUs alone, both for some dtypes and head sizes. Which is faster depends on
shapes and versions: all that the platform has are timed, once at the start. It
changes rounding: a run that resumes keeps the one it had, and a run that must
repeat another names one.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hrm_jax.console import InputError, log, one_line
from hrm_jax.machines import cluster
from hrm_jax.model import layers
from hrm_jax.model.hrm import HRM

# Names by what they are called in messages.
NAMES = {"xla": "XLA", "cudnn": "cuDNN", "splash": "splash attention"}
SETTINGS = ("auto", *NAMES)

# What "auto" chooses from, by platform (see `sharding.platform`).
OF_PLATFORM = {
  "cpu": ("xla",),
  "gpu": ("xla", "cudnn"),
  "tpu": ("xla", "splash"),
}

# A function from (implementation, model, rows) to seconds; it raises where the
# implementation does not run.
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
  """Chooses the implementation of attention, if any: the network, with it set.

  Several processes choose what process 0 chooses: they must run one program.

  Args:
    setting: "auto", the fastest one, or the name of one.
    model: the network.
    rows: how many rows of the batch each device has.
    timing: replaces `measured_seconds`; None: that one. "auto" calls it for
      what `OF_PLATFORM` lists.
    platform: of the devices, see `sharding.platform`.
    earlier: what the run has used so far; "auto" keeps it if it runs here.

  Raises:
    InputError: one was asked for by its name and does not run.
  """
  timing = timing or measured_seconds
  # The better layout there, and a slow one elsewhere.
  model = model.clone(for_tpu=platform == "tpu")
  if model.mlp_t:  # It has no attention.
    return model.clone(attention="xla")
  candidates = OF_PLATFORM.get(platform, ("xla",))
  if setting == "auto":
    setting = "xla"
    if len(candidates) > 1:
      if cluster.is_first() and earlier != "xla":
        setting = _fastest(candidates, model, rows, timing, earlier)
      setting = SETTINGS[cluster.from_first(SETTINGS.index(setting))]
  elif setting != "xla":
    try:
      timing(setting, model, rows)
    except Exception as error:  # JAX, XLA and the kernels raise many.
      raise InputError(
        f"config.attention: expected auto or xla, because {NAMES[setting]}'s "
        f"does not run here ({one_line(error)}); got {setting!r}."
      ) from error
  return model.clone(attention=setting)


def _fastest(
  candidates: tuple[str, ...],
  model: HRM,
  rows: int,
  timing: Timing,
  earlier: str | None,
) -> str:
  seconds: dict[str, float] = {}
  refused: list[str] = []
  # XLA's last, and only where there is another: it may run out of memory.
  for name in reversed(candidates):
    if name == "xla" and not seconds:
      break
    try:
      seconds[name] = timing(name, model, rows)
    except Exception as error:  # JAX, XLA and the kernels raise many.
      refused.append(f"{NAMES[name]}'s does not run here ({one_line(error)})")
      continue
    if name == earlier:
      return name
  # The first of those that are equally fast.
  fastest = min(
    (name for name in candidates if name in seconds),
    key=lambda name: seconds[name],
    default="xla",
  )
  timed = " and ".join(
    f"{1e3 * seconds[name]:.3f} ms by {NAMES[name]}"
    for name in candidates
    if name in seconds
  )
  if timed:
    refused.insert(0, f"forward and backward take {timed}")
  log.info(f"attention: {fastest}; {'; '.join(refused)}")
  return fastest


def layer_of(implementation: str, model: HRM) -> layers.Attention:
  """The layer that is timed, with its projections: layouts differ there too.

  All blocks are alike, so one of them tells which implementation is faster.

  Args:
    implementation: see `layers.mix_values`.
    model: gives the sizes, and whether XLA's has the layout for a TPU.
  """
  return layers.Attention(
    model.num_heads,
    model.rope_theta if model.pos_encodings == "rope" else None,
    implementation,
    positions_last=model.for_tpu,
  )


def inputs_of(model: HRM, rows: int) -> tuple[Any, jax.Array]:
  """Weights and states, [B, S, D], for the layer; any numbers will do."""
  shape = (rows, model.num_positions, model.hidden_size)
  key = jax.random.key(0)
  x = jax.random.normal(key, shape, model.dtype)
  return layer_of("xla", model).init(key, x), x


def forward_and_backward(implementation: str, model: HRM) -> Callable[..., Any]:
  """What is timed: from weights and states to their gradients."""
  layer = layer_of(implementation, model)

  def run(weights, x):
    mixed, backward = jax.vjp(layer.apply, weights, x)
    return backward(jax.tree.map(jnp.ones_like, mixed))

  return run


def measured_seconds(
  implementation: str, model: HRM, rows: int, repeats: int = 5
) -> float:
  """Seconds of attention in one block, forward and backward, on a device.

  Args:
    implementation: see `layers.mix_values`.
    model: gives sizes, dtype and layout.
    rows: B.
    repeats: how many runs are timed; their median counts.
  """
  inputs = jax.jit(inputs_of, static_argnums=(0, 1))(model, rows)
  run = jax.jit(forward_and_backward(implementation, model))

  def seconds() -> float:
    began = time.perf_counter()
    jax.block_until_ready(run(*inputs))
    return time.perf_counter() - began

  seconds()  # Compiles.
  return statistics.median(seconds() for _ in range(repeats))

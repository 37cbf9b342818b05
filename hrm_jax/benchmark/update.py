"""Measures the training update: time, compilation, communication.

It works on generated batches, so that neither data nor a run is needed. What a
run measures of itself while it trains is `train.meter`.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from hrm_jax.console import log
from hrm_jax.data.puzzle import Batch
from hrm_jax.machines import sharding
from hrm_jax.model import flops
from hrm_jax.model.hrm import count_parameters
from hrm_jax.plan import collectives, hlo
from hrm_jax.plan.program import Program, generate_batch

WARM_UP_STEPS = 2


def generate_batches(program: Program) -> Iterator[Batch]:
  """Batches on the devices, the next one under way."""
  rng = np.random.default_rng(program.config.seed)
  while True:
    batch = generate_batch(rng, program.config, program.metadata)
    yield sharding.put_rows(
      batch, program.setup.mesh, program.config.global_batch_size
    )


def train(
  program: Program, *, steps: int, profile: os.PathLike | None = None
) -> dict[str, Any]:
  """Times training updates, each until its result is there.

  Args:
    program: which update.
    steps: how many are timed, after a warm-up.
    profile: directory for a device trace of three more updates.
  """
  model, config = program.setup.model, program.config
  log.info(
    f"compiling the update: {config.global_batch_size} puzzles of "
    f"{model.seq_len} cells, hidden size {model.hidden_size}, {model.dtype}, "
    f"on {jax.device_count()} x {jax.devices()[0].device_kind}"
  )
  began = time.perf_counter()
  state = program.setup.init()
  batches = generate_batches(program)
  state, sums, _ = program.step(state, next(batches))
  jax.block_until_ready(sums)
  first_update_s = time.perf_counter() - began
  log.info(f"the first update took {first_update_s:.1f} s; timing {steps} more")
  times, dispatch_times, cpu_times, waits = [], [], [], []
  for i in range(WARM_UP_STEPS + steps):
    asked = time.perf_counter()
    batch = jax.block_until_ready(next(batches))
    cpu_before = time.process_time()
    began = time.perf_counter()
    state, sums, _ = program.step(state, batch)
    dispatched = time.perf_counter()
    jax.block_until_ready((state, sums))
    if i >= WARM_UP_STEPS:
      times.append(time.perf_counter() - began)
      dispatch_times.append(dispatched - began)
      cpu_times.append(time.process_time() - cpu_before)
      waits.append(began - asked)
  if profile:
    with jax.profiler.trace(os.fspath(profile)):
      for _ in range(3):
        state, sums, _ = program.step(state, next(batches))
      jax.block_until_ready(sums)
    log.info(f"trace of three updates in {profile}")
  B = program.config.global_batch_size
  step_s = statistics.median(times)
  flops_per_step = flops.per_update(program.setup.model) * B
  peak_flops = flops.measured_peak(program.setup.model.dtype)
  return {
    **circumstances(program),
    "step_s": step_s,
    "step_s_min": min(times),
    "step_s_max": max(times),
    "steps": len(times),
    # All threads of this process together: hardly moves on a busy machine.
    "cpu_s": statistics.median(cpu_times),
    "cpu_s_min": min(cpu_times),
    "examples_per_s": B / step_s,
    "tokens_per_s": B * program.metadata.seq_len / step_s,
    "flops_per_step": flops_per_step,
    "peak_flops": peak_flops,
    "mfu": flops_per_step / step_s / peak_flops,
    # On the host: handing the update over, and making and sending a batch
    # (a run does the latter ahead of time).
    "dispatch_s": statistics.median(dispatch_times),
    "data_wait_s": statistics.median(waits),
    "first_update_s": first_update_s,
    "peak_bytes": _peak_bytes(),
  }


def compilation(program: Program) -> dict[str, Any]:
  """Times the compilation of the update, and says what it needs.

  Twice: from nothing, and as a second start does it, with the program on disk.
  """
  with _empty_compilation_cache():
    compiled, lower_s, compile_s = _timed_compilation(program)
    _, warm_lower_s, warm_compile_s = _timed_compilation(program)
  memory = cast("Any", compiled.memory_analysis())
  cost = compiled.cost_analysis() or {}
  return {
    **circumstances(program),
    "lower_s": lower_s,
    "compile_s": compile_s,
    "warm_lower_s": warm_lower_s,
    "warm_compile_s": warm_compile_s,
    "state_bytes": memory.argument_size_in_bytes,
    "temporary_bytes": memory.temp_size_in_bytes,
    # XLA counts the body of a loop once.
    "xla_flops_loops_once": cost.get("flops"),
    "flops_per_step": flops.per_update(program.setup.model)
    * program.config.global_batch_size,
  }


def _timed_compilation(
  program: Program,
) -> tuple[jax.stages.Compiled, float, float]:
  """The update, with the seconds that lowering and compiling it took."""
  jax.clear_caches()  # Those in memory; what is on disk stays.
  began = time.perf_counter()
  lowered = program.lower()
  lowered_at = time.perf_counter()
  compiled = lowered.compile()
  return compiled, lowered_at - began, time.perf_counter() - lowered_at


@contextlib.contextmanager
def _empty_compilation_cache() -> Iterator[None]:
  """Programs are kept in a new directory, whatever JAX was told."""
  names = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
  )
  before = [getattr(jax.config, name) for name in names]

  def tell(*values: Any) -> None:
    for name, value in zip(names, values, strict=True):
      jax.config.update(name, value)
    compilation_cache.reset_cache()

  with tempfile.TemporaryDirectory(prefix="hrm_jax_") as directory:
    tell(directory, 0.0)
    try:
      yield
    finally:
      tell(*before)


def communication(program: Program) -> dict[str, Any]:
  """Counts the bytes that a device sends per update.

  The minimum for data parallelism: the gradient of the dense parameters once,
  and the batch's row gradients and identifiers, all of them float32 or int32.
  """
  config = program.config
  text = program.compile().as_text() or ""
  found = collectives.collectives(hlo.Program(text))
  dense = count_parameters(program.setup.shapes.weights.params)
  B, width = config.global_batch_size, program.setup.model.puzzle_width
  minimum = 4 * dense + B * (4 * width + 4)
  total = collectives.total_bytes(found)
  links = collectives.links_of(list(program.setup.mesh.devices.flat))
  return {
    **circumstances(program),
    "dense_parameters": dense,
    "puzzle_emb_ndim": width,
    "split_moments": config.mesh.split_moments,
    "bytes_per_device": total,
    "minimum_bytes": minimum,
    "over_minimum": total / minimum,
    "sent": [row._asdict() for row in collectives.sent(found, links)],
    "collectives": [
      {
        "kind": c.kind,
        "shape": c.shape,
        "bytes": c.bytes,
        "times": c.times,
        "links": links(c),
        "loops": c.loops,
        "source": c.source,
      }
      for c in sorted(found, key=lambda c: -c.bytes * (c.times or 0))
    ],
  }


def circumstances(program: Program) -> dict[str, Any]:
  """What a time depends on: devices, versions and sizes."""
  devices = program.setup.mesh.devices
  return {
    "data": "generated",
    "device": devices.flat[0].device_kind,
    "devices": devices.size,
    "mesh": dict(program.setup.mesh.shape),
    "jax": jax.__version__,
    "attention": program.setup.model.attention,
    "dtype": jax.numpy.dtype(program.setup.model.dtype).name,
    "global_batch_size": program.config.global_batch_size,
    "seq_len": program.metadata.seq_len,
  }


def _peak_bytes() -> int | None:
  """The most bytes in use on a device; None where it does not tell (CPU)."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  return max((s.get("peak_bytes_in_use", 0) for s in stats), default=0) or None

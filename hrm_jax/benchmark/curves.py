"""Measures what writing the curves costs an update.

In pairs: the same number of updates with event files and without, one after
the other, and the other way round in the next pair. What else the machine does
meets both.
"""

import itertools
import pathlib
import tempfile
import time
from typing import Any

import jax
import numpy as np

from hrm_jax.benchmark import update
from hrm_jax.model import flops
from hrm_jax.plan.program import Program
from hrm_jax.train.dashboard.curves import NoWriter, Writer
from hrm_jax.train.meter import Meter
from hrm_jax.train.update import train_steps

# As many batches are on the devices before anything is timed.
BATCHES = 8


def curves(program: Program, *, steps: int, pairs: int) -> dict[str, Any]:
  """Times updates with and without curves.

  Args:
    program: which update; its configuration says how often it is logged.
    steps: updates of each half of a pair.
    pairs: how many.

  Returns:
    Seconds per update with (`on_s`) and without (`off_s`), medians over the
    pairs; and of (with / without - 1) in each pair the median, the quartiles
    and the ends. The same of the time of all threads on a processor, which
    hardly moves on a busy machine (`cpu`). Without means that nothing of an
    update is read at all.
  """
  peak = flops.measured_peak(program.setup.model.dtype)
  batches = list(itertools.islice(update.generate_batches(program), BATCHES))
  # As a run does them: what is logged comes with an axis of updates.
  step = program.setup.jit_update(train_steps)
  state = program.setup.init()
  for batch in batches[: update.WARM_UP_STEPS]:
    state, *_ = step(state, (batch,))
  jax.block_until_ready(state)
  # Seconds, and seconds on a processor, of each half.
  halves: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
  with tempfile.TemporaryDirectory(prefix="hrm_jax_") as directory:
    for pair in range(pairs):
      for is_on in (True, False) if pair % 2 else (False, True):
        meter = _make_meter(
          program, steps, peak, pathlib.Path(directory) if is_on else None
        )
        with meter:
          again = itertools.islice(itertools.cycle(batches), steps)
          began, began_cpu = time.perf_counter(), time.process_time()
          for done, batch in enumerate(meter.waiting_for(again), 1):
            state, sums, _ = step(state, (batch,))
            meter.update(done, sums)
          meter.settle()  # What is due is on disk, as before a save.
          jax.block_until_ready(state)
          halves[is_on].append(
            (time.perf_counter() - began, time.process_time() - began_cpu)
          )
  on, off = (np.array(halves[is_on]) / steps for is_on in (True, False))
  return {
    **update.circumstances(program),
    "log_every": program.config.log_every,
    "steps": steps,
    "pairs": pairs,
    **_compared(on[:, 0], off[:, 0], ""),
    **_compared(on[:, 1], off[:, 1], "cpu_"),
  }


def _compared(on: np.ndarray, off: np.ndarray, name: str) -> dict[str, Any]:
  """What [pairs] seconds per update with and without curves say."""
  ends = np.quantile(on / off - 1, [0, 0.25, 0.5, 0.75, 1]).tolist()
  return {
    f"{name}on_s": float(np.median(on)),
    f"{name}off_s": float(np.median(off)),
    f"{name}cost": ends[2],
    f"{name}cost_quartiles": [ends[1], ends[3]],
    f"{name}cost_ends": [ends[0], ends[4]],
  }


def _make_meter(
  program: Program, steps: int, peak: float, directory: pathlib.Path | None
) -> Meter:
  """A meter that writes into a directory, or nothing."""
  config = program.config
  size = config.global_batch_size
  return Meter(
    NoWriter() if directory is None else Writer(directory, 1),
    done=0,
    last_step=steps,
    global_batch_size=size,
    seq_len=program.metadata.seq_len,
    flops_per_step=flops.per_update(program.setup.model) * size,
    peak_flops=peak,
    log_every=steps + 1 if directory is None else config.log_every,
  )

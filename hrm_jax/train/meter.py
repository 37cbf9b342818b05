"""What a training loop shows and logs while it runs."""

import functools
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from hrm_jax import console
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.evaluate import metrics
from hrm_jax.machines import cluster
from hrm_jax.model import flops
from hrm_jax.model.hrm import HRM
from hrm_jax.train.dashboard import curves, summaries
from hrm_jax.train.dashboard.curves import Writer


class Meter:
  """Times a training loop and logs its metrics, one update late.

  The sums of an update are read while the device works on the next one, so
  logging never makes it wait. Use as a context manager.

  Args:
    writer: where the scalars go; closed on exit.
    done: updates done before this run.
    last_step: the update that this run ends with.
    global_batch_size: rows of a batch, over all devices.
    seq_len: G, the number of tokens in a row.
    flops_per_step: floating-point operations of an update.
    peak_flops: FLOP/s that all devices together reach in a matrix product.
    log_every: logs the updates whose number is a multiple of this.
  """

  def __init__(
    self,
    writer: Writer,
    *,
    done: int,
    last_step: int,
    global_batch_size: int,
    seq_len: int,
    flops_per_step: float,
    peak_flops: float,
    log_every: int,
  ):
    # What was logged last, by full name; others read it.
    self.latest: dict[str, float] = {}
    self._writer = writer
    self._batch_size, self._seq_len = global_batch_size, seq_len
    self._step_seconds_at_peak = flops_per_step / peak_flops
    self._log_every = log_every
    self._bar = console.Progress("train", last_step, unit="updates", start=done)
    self._logged = done  # The last update that was logged.
    # The newest dispatch: its last update, and its sums. They are read when the
    # next one comes, because to read them is to wait for the device.
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
    self._restart_clock(done)

  def __enter__(self) -> "Meter":
    self._bar.__enter__()
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._bar.__exit__(*exc_info)
    self._writer.close()

  def waiting_for(self, batches: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches, and counts the time that each one took to come."""
    batches = iter(batches)
    while True:
      asked = time.perf_counter()
      batch = next(batches, None)
      self._waited += time.perf_counter() - asked
      if batch is None:
        return
      yield batch

  def update(self, last: int, sums: Mapping[str, jax.Array]) -> None:
    """Takes the sums of some updates, which may still be under way.

    Args:
      last: the last of the n updates.
      sums: the metric sums of each, by name, [n] arrays.
    """
    n = len(sums["count"])
    previous, self._pending = self._pending, (last, sums)
    if previous is None:
      # The program has been compiled by now, and the updates have just begun:
      # what came before is not their time.
      self._restart_clock(last - n)
    else:
      self._log_due(*previous)
    self._bar.advance(n)

  def flush(self) -> None:
    """Logs the last update, waiting for it; the next one starts the clock."""
    if self._pending is not None:
      self._log_due(*self._pending, always_last=True)
      self._pending = None

  def settle(self) -> None:
    """Logs what is due, waiting for it, and sees it onto the disk.

    Call it before a save: a run that goes on from the checkpoint logs only
    later updates, so the earlier ones must be on disk before it is.
    """
    if self._pending is not None:
      self._log_due(*self._pending)
    self._writer.flush()

  def write_start(
    self,
    config: Mapping[str, Any],
    environment: Mapping[str, Any],
    sets: Iterable[str],
  ) -> None:
    """Writes what the run is, and how TensorBoard shall show it.

    Args:
      config: by dotted key.
      environment: what else its numbers depend on.
      sets: the names of the test split's sets.
    """
    names = list(sets)
    for make in (
      summaries.layout,
      functools.partial(summaries.table, "config", config),
      functools.partial(summaries.table, "environment", environment),
      functools.partial(summaries.hparams, config, names),
    ):
      self._writer.summary(self._logged, make)

  def write_end(self) -> None:
    """Writes that the run has come to its end."""
    self._writer.summary(self._logged, summaries.end_of_hparams)

  def write_evaluation(
    self,
    step: int,
    result: Mapping[str, Any],
    pictures: Sequence[Callable[[], np.ndarray]] = (),
  ) -> None:
    """Logs an evaluation of update `step`.

    Call `flush` before the evaluation begins, so that the clock leaves it out.

    Args:
      step: updates that the weights have seen.
      result: what `Evaluator` returns.
      pictures: draw puzzles, as `picture.draw` does; called later.
    """
    values = {
      f"eval/{name}/{k}": v
      for name, means in result["sets"].items()
      for k, v in means.items()
    }
    # With two digits, because TensorBoard sorts them as text.
    for segment, share in enumerate(result["exact_accuracy_by_segment"], 1):
      values[f"eval/accuracy_by_segment/{segment:02}"] = share
    self._writer.scalars(step, values)
    self._writer.summary(step, lambda: summaries.halting(result))
    for number, draw in enumerate(pictures, 1):
      name = f"eval/puzzle_{number:02}"
      make = functools.partial(summaries.image, name, draw)
      self._writer.summary(step, make)

  def _log_due(
    self,
    last: int,
    sums: Mapping[str, jax.Array],
    *,
    always_last: bool = False,
  ) -> None:
    """Logs those of a dispatch's updates that are due.

    Args:
      last: the last of the n updates.
      sums: the metric sums of each, [n].
      always_last: log the last one even if `log_every` leaves it out.
    """
    n = len(sums["count"])
    steps = [
      step
      for step in range(last - n + 1, last + 1)
      if step > self._logged
      and (step % self._log_every == 0 or (always_last and step == last))
    ]
    if not steps:
      return
    self._logged = steps[-1]
    on_host = jax.device_get(sums)
    for step in steps:
      each = {k: v[step - last - 1] for k, v in on_host.items()}
      # The host waits for a dispatch as a whole, so it can tell the time only
      # after the last update.
      speed = self._speed(last) if step == steps[-1] else {}
      self._log(step, each, speed)

  def _log(
    self, step: int, sums: Mapping[str, np.ndarray], speed: dict[str, float]
  ) -> None:
    means = metrics.train_means(sums, self._batch_size)
    values = {f"train/{name}": value for name, value in means.items()} | speed
    self._writer.scalars(step, values)
    self.latest = values
    note = f"loss {means['lm_loss']:.3f}"
    if means["count"]:  # The other means are over the rows that halted.
      note += f", exact {means['exact_accuracy']:.1%}"
      note += f", segments {means['steps']:.2f}"
    self._bar.note(note)

  def _speed(self, step: int) -> dict[str, float]:
    """The `perf/` scalars since the clock was restarted; restarts it."""
    seconds = time.perf_counter() - self._clock
    updates, waited = step - self._clock_step, self._waited
    self._restart_clock(step)
    if updates < 1:
      return {}
    step_seconds = seconds / updates
    examples = self._batch_size / step_seconds
    return {
      "perf/step_seconds": step_seconds,
      "perf/examples_per_s": examples,
      "perf/tokens_per_s": examples * self._seq_len,
      "perf/mfu": self._step_seconds_at_peak / step_seconds,
      "perf/data_wait": waited / seconds,
    }

  def _restart_clock(self, step: int) -> None:
    self._clock, self._clock_step = time.perf_counter(), step
    self._waited = 0.0


def make_meter(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  metadata: DatasetMetadata,
  model: HRM,
  *,
  done: int,
  stop: int,
) -> Meter:
  """The meter of a run; its curves are written by process 0 alone.

  Args:
    config: all keys of `hrm_jax.config`.
    workdir: of the run.
    metadata: of the data that it trains on.
    model: the network.
    done: updates done before.
    stop: the update that it ends with.
  """
  return Meter(
    curves.open_writer(workdir / "tensorboard", first_logged_step=done + 1)
    if cluster.is_first()
    else curves.NoWriter(),
    done=done,
    last_step=stop,
    global_batch_size=config.global_batch_size,
    seq_len=metadata.seq_len,
    flops_per_step=config.global_batch_size
    * flops.per_update(model, table_only=config.train_only == "puzzle_emb"),
    peak_flops=flops.measured_peak(model.dtype),
    log_every=config.log_every,
  )

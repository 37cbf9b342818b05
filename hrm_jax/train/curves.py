"""Curves for TensorBoard: written by one process, whatever the disk does."""

import json
import pathlib
import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorboardX

from hrm_jax import console


class Writer:
  """Writes scalars for TensorBoard.

  Args:
    directory: of the event files.
    first_step: the first update that this run logs. TensorBoard hides what
      an interrupted run wrote at this step or later.
  """

  def __init__(self, directory: pathlib.Path, first_step: int):
    # A suffix of its own: two writers opened within one second would
    # otherwise share a file name.
    self._writer = tensorboardX.SummaryWriter(
      str(directory),
      purge_step=first_step,
      filename_suffix=f".{first_step}.{time.time_ns()}",
    )
    self._writer.add_custom_scalars(_DASHBOARD)
    self._events = self._writer.file_writer.event_writer
    self._flushed = queue.SimpleQueue()
    self._survive_a_full_disk(directory)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes each named value at `step`."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  def json(self, name: str, value: Mapping[str, Any]) -> None:
    """Writes a JSON object as text."""
    text = json.dumps(value, indent=2)
    self._writer.add_text(name, f"```\n{text}\n```")

  def flush(self) -> None:
    """Returns when all so far is in the event file: a kill loses none of it."""
    self._events.add_event(_FLUSH)  # Comes out behind what went in before.
    self._flushed.get()

  def close(self) -> None:
    """Flushes and closes the event file."""
    self._writer.close()

  def _survive_a_full_disk(self, directory: pathlib.Path) -> None:
    """Drops what cannot be written any more.

    tensorboardX writes in a thread of its own. An error would end the thread,
    and the training would then wait for it forever.
    """
    file = self._events._ev_writer
    broken = False  # Half a record: what follows it could not be read.

    def forgiving(write: Callable) -> Callable:
      def call(*event: Any) -> None:
        nonlocal broken
        if event and broken:
          return
        try:
          write(*event)
        except OSError as error:
          if not broken:
            console.log.error(
              f"error: {directory}: no curves from here on "
              f"({error.strerror}); training goes on"
            )
          broken = True

      return call

    for name in ("write_event", "flush", "close"):
      setattr(file, name, forgiving(getattr(file, name)))
    write_event = file.write_event

    def write_or_flush(event: Any) -> None:
      if event == _FLUSH:
        file.flush()
        self._flushed.put(None)
      else:
        write_event(event)

    file.write_event = write_or_flush


# Among the events: everything before it goes to disk now.
_FLUSH = "flush"


class NoWriter(Writer):
  """Writes nothing: for all processes but the first."""

  def __init__(self):
    pass

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Nothing."""

  def json(self, name: str, value: Mapping[str, Any]) -> None:
    """Nothing."""

  def flush(self) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""


def open_writer(directory: pathlib.Path, first_step: int) -> Writer:
  """A `Writer`, or one that writes nothing where files cannot be made."""
  try:
    return Writer(directory, first_step)
  except OSError as error:
    console.log.error(
      f"error: {directory}: no curves ({error.strerror}); training goes on"
    )
    return NoWriter()


_DASHBOARD = {
  "learning": {
    "loss": ["Multiline", ["train/lm_loss"]],
    "halting losses": [
      "Multiline",
      ["train/q_halt_loss", "train/q_continue_loss"],
    ],
    "exact accuracy": [
      "Multiline",
      ["train/exact_accuracy", "eval/all/exact_accuracy"],
    ],
    "segments per puzzle": ["Multiline", ["train/steps", "eval/all/steps"]],
  },
  "optimisation": {
    "norms": ["Multiline", ["train/grad_norm", "train/param_norm"]],
    "learning rate": ["Multiline", ["train/lr"]],
  },
  "speed": {
    "update": ["Multiline", ["perf/step_seconds"]],
    "share of time waiting for data": ["Multiline", ["perf/data_wait"]],
  },
}

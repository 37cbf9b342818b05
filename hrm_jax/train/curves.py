"""Curves for TensorBoard: written by one process, whatever the disk does."""

import contextlib
import json
import pathlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

# protobuf makes its classes at import, where no checker sees them.
# pyright: reportAttributeAccessIssue=false
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from hrm_jax.console import log

# Seconds after which a reader sees what was written, also if nobody flushes.
_FLUSH_AFTER = 30.0


class Writer:
  """Writes scalars for TensorBoard.

  Where the disk does not take them, a line says so, once, and what follows is
  dropped: training is worth more than its curves.

  Args:
    directory: of the event files.
    first_logged_step: the first update that this run logs. TensorBoard hides
      what an interrupted run wrote at this step or later.
  """

  def __init__(self, directory: pathlib.Path, first_logged_step: int):
    directory.mkdir(parents=True, exist_ok=True)
    # TensorBoard reads files with such names, and in their order. The end is
    # there because two writers can be opened within one second.
    name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
    name += f".{first_logged_step}.{time.time_ns()}"
    self._directory = directory
    self._file: RecordWriter | None = RecordWriter(str(directory / name))
    self._flushed_at = time.monotonic()
    self._write(file_version="brain.Event:2")
    start = SessionLog(status=SessionLog.START)
    self._write(step=first_logged_step, session_log=start)
    self._write(summary=summary.custom_scalars(_DASHBOARD))

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes each named value at `step`."""
    each = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
    self._write(step=step, summary=Summary(value=each))

  def json(self, name: str, value: Mapping[str, Any]) -> None:
    """Writes a JSON object as text."""
    text = f"```\n{json.dumps(value, indent=2)}\n```"
    self._write(summary=summary.text(name, text))

  def flush(self) -> None:
    """Returns when all so far is on disk: a kill loses none of it."""
    self._flushed_at = time.monotonic()
    self._do(RecordWriter.flush)

  def close(self) -> None:
    """Flushes and closes the event file."""
    self.flush()
    self._do(RecordWriter.close)
    self._file = None

  def _write(self, **event: Any) -> None:
    record = Event(wall_time=time.time(), **event)
    self._do(RecordWriter.write, record.SerializeToString())
    if time.monotonic() - self._flushed_at > _FLUSH_AFTER:
      self.flush()

  def _do(self, call: Callable[..., None], *arguments: Any) -> None:
    """Calls a method of the file, unless it has failed before."""
    if self._file is None:
      return
    try:
      call(self._file, *arguments)
    except OSError as error:
      log.error(
        f"error: {self._directory}: no curves from here on "
        f"({error.strerror}); training goes on"
      )
      # It may end with half a record: what follows could not be read.
      with contextlib.suppress(OSError):
        self._file.close()
      self._file = None


class NoWriter(Writer):
  """Writes nothing: for all processes but the first."""

  def __init__(self):
    self._file, self._flushed_at = None, time.monotonic()


def open_writer(directory: pathlib.Path, first_logged_step: int) -> Writer:
  """A `Writer`, or one that writes nothing where files cannot be made."""
  try:
    return Writer(directory, first_logged_step)
  except OSError as error:
    log.error(
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

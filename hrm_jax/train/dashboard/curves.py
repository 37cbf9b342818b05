"""Curves for TensorBoard: written by one process, whatever the disk does.

In a thread of their own: neither the disk nor what is drawn holds up training.
"""

import contextlib
import pathlib
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

# protobuf makes its classes at import, where no checker sees them.
# pyright: reportAttributeAccessIssue=false
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from hrm_jax.console import log

# Seconds after which a reader sees what was written, also if nobody flushes.
_FLUSH_AFTER = 30.0


class Writer:
  """Writes event files for TensorBoard; only `flush` and `close` wait for it.

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
    self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "curves")
    self._under_way: list[Future] = []
    self._write(file_version="brain.Event:2")
    start = SessionLog(status=SessionLog.START)
    self._write(step=first_logged_step, session_log=start)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes each named value at `step`."""
    each = [Summary.Value(tag=k, simple_value=v) for k, v in values.items()]
    self._write(step=step, summary=Summary(value=each))

  def summary(self, step: int, make: Callable[[], Summary]) -> None:
    """Writes at `step` what `make` returns, which the thread calls."""
    self._later(lambda: self._put(step=step, summary=make()))

  def flush(self) -> None:
    """Returns when all so far is on disk: a kill loses none of it."""
    self._later(self._flush)
    under_way, self._under_way = self._under_way, []
    for job in under_way:
      job.result()  # Raises what it raised.

  def close(self) -> None:
    """Flushes and closes the event file."""
    try:
      self.flush()
    finally:
      self._later(lambda: self._do(RecordWriter.close))
      if self._thread is not None:
        self._thread.shutdown()
      self._thread = None

  def _write(self, **event: Any) -> None:
    self._later(lambda: self._put(**event))

  def _later(self, job: Callable[[], None]) -> None:
    if self._thread is not None:
      self._under_way.append(self._thread.submit(job))

  # --- what the thread does

  def _put(self, **event: Any) -> None:
    record = Event(wall_time=time.time(), **event)
    self._do(RecordWriter.write, record.SerializeToString())
    if time.monotonic() - self._flushed_at > _FLUSH_AFTER:
      self._flush()

  def _flush(self) -> None:
    self._flushed_at = time.monotonic()
    self._do(RecordWriter.flush)

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
    self._thread, self._under_way = None, []


def open_writer(directory: pathlib.Path, first_logged_step: int) -> Writer:
  """A `Writer`, or one that writes nothing where files cannot be made."""
  try:
    return Writer(directory, first_logged_step)
  except OSError as error:
    log.error(
      f"error: {directory}: no curves ({error.strerror}); training goes on"
    )
    return NoWriter()

"""Log lines, on stderr."""

import contextlib
import logging
import sys

import tqdm

from hrm_jax.console.errors import printable

log = logging.getLogger("hrm_jax")


class _OneLine(logging.Formatter):
  """Whatever a message quotes, it cannot pass for several."""

  def formatMessage(self, record: logging.LogRecord) -> str:
    record.message = printable(record.message)
    return super().formatMessage(record)


class _LinesAboveTheBars(logging.StreamHandler):
  """Writes lines to stderr without tearing the progress bars there.

  A line that cannot be written, on a full disk or after its reader has gone,
  ends nothing.
  """

  def emit(self, record: logging.LogRecord) -> None:
    with contextlib.suppress(OSError):
      tqdm.tqdm.write(self.format(record), file=self.stream)


def set_up_logging() -> None:
  """Sends the project's own log lines to stderr, and mutes chatty ones."""
  handler = _LinesAboveTheBars(sys.stderr)
  handler.setFormatter(_OneLine("%(asctime)s %(message)s", "%H:%M:%S"))
  log.handlers[:] = [handler]
  log.setLevel(logging.INFO)
  log.propagate = False
  # Orbax and Grain narrate every call through absl's INFO level; JAX tells
  # which accelerators it did not find.
  for name in ("absl", "jax"):
    logging.getLogger(name).setLevel(logging.WARNING)


def quiet_unless(talks: bool) -> None:
  """Mutes log lines and progress, but for warnings, of a process."""
  if not talks:
    log.setLevel(logging.WARNING)

"""What a person at the terminal sees: log lines, progress, one-line errors.

Logs and progress go to stderr, so that the last line of stdout can be one
JSON object for the next program.
"""

import argparse
import atexit
import contextlib
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import tqdm

log = logging.getLogger("hrm_jax")


class InputError(Exception):
  """Something a person gave us is wrong; the message is one clear line.

  It names the file, row or key, what was expected, what came, and the way
  out. `run` prints it without a traceback. Not a ValueError: those are bugs,
  and libraries catch and rewrap them.
  """


class RunError(Exception):
  """A run cannot go on; the message is one clear line.

  Attributes:
    exit_code: of the command.
  """

  exit_code = 1


class ArgumentParser(argparse.ArgumentParser):
  """One whose errors are one line, as all others are."""

  def error(self, message: str) -> NoReturn:
    """Raises an InputError."""
    raise InputError(f"{message}; see --help.")


def printable(text: str) -> str:
  """Escapes what would move the cursor or command the terminal.

  For names that come from data: a line that shows one stays one line, and
  says what it holds.
  """
  return "".join(
    c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
  )


def one_line(error: BaseException) -> str:
  """What an error says, in one line: its beginning, and its end, which tells.

  For those of libraries, whose messages can be whole pages.
  """
  text = printable(" ".join(str(error).split()))
  if len(text) > 200:
    text = f"{text[:70]} ... {text[-120:]}"
  return f"{type(error).__name__}: {text}"


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


def exit_code(error: BaseException) -> int:
  """The exit code of a command that `error` ends."""
  match error:
    case InputError():
      return 2
    case RunError():
      return error.exit_code
    case KeyboardInterrupt():
      return 130
    case SystemExit(code=int(code)):
      return code
    case SystemExit(code=None):
      return 0
  return 1


def run(main: Callable[[], Any]) -> None:
  """Runs a command's `main` and exits: 0, or 2 after a one-line error.

  A `RunError` has an exit code of its own.
  """
  set_up_logging()
  atexit.register(_forget_what_cannot_be_written)
  # Unwind as an interrupt does, so that no half-written file stays behind.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  try:
    main()
  except (InputError, RunError) as error:
    line = printable(" ".join(str(error).split()))
    print(f"error: {line}", file=sys.stderr)
    sys.exit(exit_code(error))
  except KeyboardInterrupt as error:
    print("interrupted", file=sys.stderr)
    sys.exit(exit_code(error))
  except BrokenPipeError:
    # The reader of our output (head, less) has seen enough.
    sys.stderr.close()
    sys.exit(0)


def _forget_what_cannot_be_written() -> None:
  """Else Python meets it again at the very end, and exits with 120."""
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except OSError:
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except ValueError:  # It is closed.
      pass


def print_json(result: dict[str, Any]) -> None:
  """Prints the machine-readable result, alone on the last line of stdout.

  That its reader has gone changes nothing of how the command ends.
  """
  with contextlib.suppress(BrokenPipeError):
    print(json.dumps(as_json(result), allow_nan=False), flush=True)


def as_json(value: Any) -> Any:
  """With text for numbers that JSON does not know: NaN and infinities."""
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, dict):
    return {key: as_json(each) for key, each in value.items()}
  if isinstance(value, list | tuple):
    return [as_json(each) for each in value]
  return value


class Progress:
  """A bar with rate and ETA on a terminal, a plain line elsewhere.

  Use as a context manager; call `advance` as work gets done and `note` with
  the numbers worth showing beside the bar.
  """

  def __init__(
    self,
    what: str,
    total: int | None,
    *,
    unit: str,
    start: int = 0,
    seconds_between_lines: float = 10.0,
  ):
    # File names among it; a bar is drawn as it is, past the log's escaping.
    self._what, self._total, self._unit = printable(what), total, unit
    self._start = self._done = start
    self._note = ""
    self._every = seconds_between_lines
    self._began = self._last_line = time.monotonic()
    self._after_first = self._start, self._began
    self._bar = None
    if sys.stderr.isatty() and log.level <= logging.INFO:
      self._bar = tqdm.tqdm(
        desc=self._what,
        total=total,
        unit=unit,
        initial=start,
        dynamic_ncols=True,
      )

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exc_info: object) -> None:
    if self._bar is not None:
      self._bar.close()
    elif self._done > self._start and exc_info[0] is None:
      self._line()

  def advance(self, n: int = 1) -> None:
    """Counts `n` more units as done."""
    is_first = self._done == self._start
    self._done += n
    if is_first:  # It took the compiling too.
      self._after_first = self._done, time.monotonic()
    if self._bar is not None:
      if is_first:
        self._bar.unpause()  # Its clock starts here.
      self._bar.update(n)
    elif time.monotonic() - self._last_line >= self._every:
      self._line()

  def note(self, text: str) -> None:
    """Shows `text` beside the bar, or at the end of the next line."""
    self._note = printable(text)
    if self._bar is not None:
      self._bar.set_postfix_str(self._note, refresh=False)

  def _line(self) -> None:
    self._last_line = time.monotonic()
    # From then on the rate holds: programs compile in the first unit.
    done, since = self._after_first
    if done == self._done:
      done, since = self._start, self._began
    rate = (self._done - done) / max(self._last_line - since, 1e-9)
    text = f"{self._what}: {self._done:,}"
    if self._total is not None:
      text += f"/{self._total:,}"
    text += f" {self._unit}, {rate:,.1f} {self._unit}/s"
    if self._total is not None and rate > 0 and self._done < self._total:
      eta = tqdm.tqdm.format_interval((self._total - self._done) / rate)
      text += f", ETA {eta}"
    log.info(text + (f", {self._note}" if self._note else ""))


def progress(items: Iterable[Any], what: str, *, unit: str) -> Iterator[Any]:
  """Yields `items` while showing how far along they are."""
  total = len(items) if hasattr(items, "__len__") else None
  with Progress(what, total, unit=unit) as bar:
    for item in items:
      yield item
      bar.advance()

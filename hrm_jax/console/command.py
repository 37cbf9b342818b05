"""A command from its arguments to its exit code."""

import argparse
import atexit
import contextlib
import errno
import faulthandler
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from hrm_jax.console import signals
from hrm_jax.console.errors import (
  InputError,
  RunError,
  exit_code,
  one_line,
  printable,
)
from hrm_jax.console.logs import set_up_logging

# How argparse begins its messages about them.
_MISSING = "the following arguments are required: "
_ONE_OF = "one of the arguments "


class ArgumentParser(argparse.ArgumentParser):
  """One whose errors are one line, as all others are."""

  _given: Sequence[str] = ()

  def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
    """Keeps what was given, for the message if something is missing."""
    self._given = list(sys.argv[1:] if args is None else args)
    return super().parse_known_args(args, namespace)

  def error(self, message: str) -> NoReturn:
    """Raises an InputError."""
    if message.startswith(_MISSING):
      message = self._explained(message.removeprefix(_MISSING).split(", "))
    elif message.startswith(_ONE_OF) and "--workdir" in message:
      message += self._as_workdir()
    raise InputError(f"{message}; see --help.")

  def _explained(self, missing: list[str]) -> str:
    """Names what is missing; adds the choices, and what may have been meant.

    A run is `--workdir=DIR` for most commands and a plain DIR for others.
    """
    choices = {
      action.dest: ", ".join(map(str, action.choices))
      for action in self._actions
      if action.choices and not action.option_strings
    }
    message = _MISSING + ", ".join(
      f"{name} (one of {choices[name]})" if name in choices else name
      for name in missing
    )
    first = self._given[0] if self._given else ""
    flag, _, directory = first.partition("=")
    if "DIR" in missing and flag == "--workdir" and directory:
      message += f"; write {directory} without --workdir="
    if "--workdir" in missing:
      message += self._as_workdir()
    return message

  def _as_workdir(self) -> str:
    """What may have been meant by a directory without its flag."""
    first = self._given[0] if self._given else ""
    return f"; write --workdir={first}" if os.path.isdir(first) else ""


def run(main: Callable[[], Any]) -> None:
  """Runs a command's `main` and exits: 0, or 2 after a one-line error.

  A `RunError` has an exit code of its own.
  """
  _open_missing_streams()
  if not faulthandler.is_enabled():
    with contextlib.suppress(OSError, ValueError):  # A stderr that is no file.
      faulthandler.enable(file=sys.stderr)  # A crash in a library says where.
  set_up_logging()
  atexit.register(_forget_what_cannot_be_written)
  for number in (signal.SIGTERM, *signals.that_ask()):
    signal.signal(number, _unwind)
  try:
    main()
  except (InputError, RunError) as error:
    line = printable(" ".join(str(error).split()))
    with contextlib.suppress(OSError):  # The terminal may have gone.
      print(f"error: {line}", file=sys.stderr)
    sys.exit(exit_code(error))
  except MemoryError as error:
    # Where devices are at work, `machines.out_of_memory` knows more.
    text = one_line(error)
    print(
      f"error: no memory is left for this process ({text})", file=sys.stderr
    )
    sys.exit(exit_code(error))
  except KeyboardInterrupt as error:
    print("interrupted", file=sys.stderr)
    sys.exit(exit_code(error))
  except BrokenPipeError:
    # The reader of our output (head, less) has seen enough.
    sys.stderr.close()
    sys.exit(0)


def _open_missing_streams() -> None:
  """Puts /dev/null where a standard stream was closed before the start.

  Services and scripts close them (`2>&-`). Python then has None for it, which
  has no `write`; and the next file to be opened would get its number, and what
  libraries print.
  """
  for number, name in enumerate(("stdin", "stdout", "stderr")):
    if getattr(sys, name) is not None:
      continue
    # The lowest free number: this one, but for files of the interpreter's.
    descriptor = os.open(os.devnull, os.O_RDWR if number else os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    mode = "w" if number else "r"
    setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _unwind(number: int, frame: FrameType | None) -> None:
  """Ends as an interrupt does, so that no half-written file stays behind."""
  del frame
  for repeated in signals.that_ask():  # They must not disturb the cleaning up.
    signal.signal(repeated, signal.SIG_IGN)
  sys.exit(128 + number)


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

  That its reader has gone, a program or a terminal, or that nobody can write
  there (`1</dev/null`), changes nothing of how the command ends.

  Raises:
    RunError: it cannot be written, for a full disk, say.
  """
  try:
    print(json.dumps(as_json(result), allow_nan=False), flush=True)
  except OSError as error:
    if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
      raise RunError(
        f"stdout: the result cannot be written ({error.strerror})"
      ) from None


def as_json(value: Any) -> Any:
  """With text for numbers that JSON does not know: NaN and infinities."""
  if isinstance(value, float) and not math.isfinite(value):
    return str(value)
  if isinstance(value, dict):
    return {key: as_json(each) for key, each in value.items()}
  if isinstance(value, list | tuple):
    return [as_json(each) for each in value]
  return value

"""What ends a command, and how that is told in one line."""

import errno


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
    case OSError() if is_no_access(error):
      return 2
  return 1


# What the system says of a path that this user cannot have.
_NO_ACCESS = {
  errno.EACCES,
  errno.EPERM,
  errno.EROFS,
  errno.ENAMETOOLONG,
  errno.ELOOP,
}


def is_no_access(error: OSError) -> bool:
  """Whether a path that somebody gave leads where this user may not go.

  It shows wherever the path is looked at first, so that is told at the top.
  """
  return error.errno in _NO_ACCESS and error.filename is not None


def check_least(flag: str, value: int | None, least: int) -> None:
  """Refuses the value of a flag that is below `least`.

  Raises:
    InputError: names the flag.
  """
  if value is not None and value < least:
    raise InputError(f"{flag}: expected at least {least}, got {value}.")

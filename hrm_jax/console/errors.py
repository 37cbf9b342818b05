"""What ends a command, and how that is told in one line."""


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
    case InputError() | MemoryError():
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


def check_least(
  flag: str, value: int | None, least: int, below: int | None = None
) -> None:
  """Refuses the value of a flag that is below `least`, or not below `below`.

  Raises:
    InputError: names the flag.
  """
  if value is None:
    return
  if value < least:
    raise InputError(f"{flag}: expected at least {least}, got {value}.")
  if below is not None and value >= below:
    raise InputError(f"{flag}: expected less than {below:,}, got {value:,}.")

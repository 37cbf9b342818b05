"""Text in colour, where somebody looks at it."""

import io
import os
import sys

BOLD, DIM = "1", "2"


class Pen:
  """Text with a style on a terminal, without one elsewhere."""

  def __init__(self, colour: bool):
    self._colour = colour

  def __call__(self, text: str, style: str) -> str:
    """Returns the text in the style, the numbers of an SGR sequence."""
    return f"\x1b[{style}m{text}\x1b[0m" if self._colour and style else text


def colour_on_stdout() -> bool:
  """Whether stdout is a terminal, which knows colours, and NO_COLOR not set."""
  return (
    sys.stdout.isatty()
    and os.environ.get("TERM") != "dumb"
    and not os.environ.get("NO_COLOR")
  )


def escape_on_stdout() -> None:
  """Writes `\\uXXXX` for what the encoding of stdout lacks.

  A file or a pipe may not be UTF-8; a name should not end the command.
  """
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")

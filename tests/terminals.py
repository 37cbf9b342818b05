"""A pseudo-terminal of this process's stdout, and what stands on its screen."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator


class Terminal:
  """What was written on it, as it came."""

  def __init__(self) -> None:
    self.written = ""

  def screens(self) -> list[list[str]]:
    """The lines of all that was written, whenever some were erased; the last.

    Knows what `console.film` uses: styles, going up and erasing below.
    """
    lines, seen, row = [""], [], 0
    for part in re.split(r"(\x1b\[[?0-9;]*[a-zA-Z]|\r\n)", self.written):
      if part == "\r\n":
        row += 1
        lines.append("")
      elif re.fullmatch(r"\x1b\[\d+A", part):
        assert lines[row] == "", "the cursor is in the middle of a line"
        row -= int(part[2:-1])
        assert row >= 0
      elif part == "\x1b[J":
        seen.append(lines)
        lines = [*lines[:row], ""]
      elif not part.startswith("\x1b["):
        lines[row] += part
    return [*seen, lines]


@contextlib.contextmanager
def terminal(
  monkeypatch, rows: int, columns: int, **variables: str
) -> Iterator[Terminal]:
  """Puts stdout on a terminal of this size; all is there when it ends.

  Args:
    monkeypatch: of the test.
    rows: lines of the terminal.
    columns: its width.
    variables: of the environment, which is else that of a usual terminal.
  """
  ours, theirs = pty.openpty()
  size = struct.pack("4H", rows, columns, 0, 0)
  fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
  shown = Terminal()

  def read() -> None:
    said = b""
    with contextlib.suppress(OSError):  # All of it has been read.
      while part := os.read(ours, 4096):
        said += part
    shown.written = said.decode()

  reader = threading.Thread(target=read)
  reader.start()
  try:
    with open(theirs, "w", encoding="utf-8") as out, monkeypatch.context() as m:
      m.setattr("sys.stdout", out)
      m.setattr("sys.__stdout__", out)  # Its size is asked for.
      for name in ("COLUMNS", "LINES", "NO_COLOR"):
        m.delenv(name, raising=False)
      for name, value in {"TERM": "xterm", **variables}.items():
        m.setenv(name, value)
      yield shown
  finally:
    reader.join()
    os.close(ours)

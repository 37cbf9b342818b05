"""Pictures of text that take each other's place on the terminal."""

import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence

# Control sequences: of styles; and what is written between two frames.
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_UP, _ERASE_BELOW = "\x1b[{}A", "\x1b[J"


def fits(frames: Sequence[str]) -> bool:
  """Whether each frame can be on the terminal as a whole.

  What has scrolled away cannot be drawn again, nor what takes more lines than
  it seems to.
  """
  columns, rows = shutil.get_terminal_size()
  lines = [frame.split("\n") for frame in frames]
  # Below a frame stands the cursor.
  return all(len(frame) < rows for frame in lines) and all(
    _width(line) <= columns for frame in lines for line in frame
  )


def play(frames: Sequence[str], seconds: float) -> None:
  """Shows frames that fit on stdout, one after the other in the same place.

  When it returns, or an interrupt ends it, the cursor can be seen; after the
  last frame the place is empty again.

  Args:
    frames: of any heights.
    seconds: for which each is shown.
  """
  out = sys.stdout
  try:
    out.write(_HIDE_CURSOR)
    for frame in frames:
      out.write(frame + "\n")
      out.flush()
      time.sleep(seconds)
      out.write(_UP.format(frame.count("\n") + 1) + _ERASE_BELOW)
  finally:
    out.write(_SHOW_CURSOR)
    out.flush()


def _width(line: str) -> int:
  """Columns that a line takes; those of wide letters are two."""
  return sum(
    2 if unicodedata.east_asian_width(letter) in "WF" else 1
    for letter in _STYLE.sub("", line)
  )

"""How far along something is: a bar on a terminal, lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import tqdm

from hrm_jax.console.errors import printable
from hrm_jax.console.logs import log


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
  total = len(items) if isinstance(items, Sized) else None
  with Progress(what, total, unit=unit) as bar:
    for item in items:
      yield item
      bar.advance()

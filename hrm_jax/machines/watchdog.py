"""Reports a run that stands still, with the stacks of all threads."""

import faulthandler
import sys
import threading
import time

from hrm_jax.console import log


class Watchdog:
  """Watches from a thread of its own while it is entered.

  Args:
    seconds: how long there may be no `beat` before it reports. It does so
      again whenever as long has passed; 0: never.
  """

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._last = self._reported = time.monotonic()
    self._what = "start"
    self._over = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> "Watchdog":
    if self._seconds:
      self._thread.start()
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._over.set()
    if self._seconds:
      self._thread.join()

  def beat(self, what: str) -> None:
    """Says what has just been finished."""
    self._what, self._last = what, time.monotonic()

  def look(self, now: float) -> None:
    """Reports if nothing has been finished for too long at `now`."""
    if now - max(self._last, self._reported) < self._seconds:
      return
    self._reported = now
    log.warning(
      f"warning: nothing finished for {now - self._last:.0f} s, since "
      f"{self._what}; the stacks of all threads follow"
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)

  def _watch(self) -> None:
    while not self._over.wait(min(self._seconds / 4, 5.0)):
      self.look(time.monotonic())

"""Ends a process when another one of its run has failed, and says which.

Each process counts up a number of its own in the key-value store of JAX's
coordination service, which process 0 runs, and reads those of the others. One
whose number stands still for too long is dead or stuck. The store not
answering means that process 0 is. One that ends with an error leaves its exit
code in place of the number, and the others end with the same.

This is made by hand because JAX, which watches too, would end the process by
aborting it: with many lines, not always the name of the lost process, and no
exit code that a script could tell from a crash. It is given more time, as a
backstop. Its key-value store is no public interface, but there is no other way
for processes to hear of each other without waiting; where it is missing, JAX's
own watch remains.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Collection
from typing import Any, Protocol

from hrm_jax.console import log

# "A service is unavailable" of sysexits.h.
EXIT_CODE = 69

_KEY = "hrm_jax/roll_call"
_LEFT = "left"  # Before the exit code.

# How many calls a process may let pass. Process 0 gives the others a little
# more time than they give each other: when it ends, so does the store, and they
# could no longer tell whom they miss.
_PATIENCE, _PATIENCE_OF_FIRST = 10, 12

# How many calls long a process may take to end by itself, once another one has
# failed: most often it meets the same mistake, and has its own last words.
_LAST_WORDS = 2
# How many calls long process 0 then stays, so that the others can tell; and how
# many seconds more, so that those who just did are gone before the store is.
_STAY, _MARGIN = 10, 1.0


class Store(Protocol):
  """The part of JAX's distributed client that is used."""

  def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> Any:
    """Sets a value."""
    ...

  def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
    """All keys below a key, and their values."""
    ...


class RollCall:
  """Listens from two threads of its own, once it is started.

  Args:
    store: of the run.
    me: number of this process.
    num_processes: of the run.
    seconds: after which a lost process has been found, and this one ends.
  """

  def __init__(self, store: Store, me: int, num_processes: int, seconds: float):
    self._store, self._me, self._num_processes = store, me, num_processes
    self._pause = seconds / (_PATIENCE_OF_FIRST + 1)
    # Counted in calls, not seconds: who was stopped itself, and goes on, has
    # no reason to suspect the others. Those cannot be heard without the store,
    # so while it does not answer only process 0 is under suspicion.
    self._silent: dict[int, int] = {}
    self._unanswered = 0
    self._left: dict[int, int] = {}  # From process to its exit code.
    self._exit_code: int | None = None
    self._is_over = threading.Event()
    # The only one that speaks for this process, so that nothing it says comes
    # after its last word.
    self._caller = threading.Thread(target=self._call, daemon=True)
    self._judging = threading.Thread(target=self._judge, daemon=True)
    # Held by what must not be cut short if another process fails meanwhile.
    self.undisturbed = threading.Lock()

  def start(self) -> None:
    """From now on this process may end any time."""
    self._caller.start()
    self._judging.start()

  def stop(self) -> None:
    """Takes no notice of the others any more."""
    self._is_over.set()

  def leave(self, exit_code: int) -> None:
    """Tells the others that this process ends with an error; see `end`."""
    self._exit_code = exit_code
    self.stop()

  def end(self) -> None:
    """For the end of the process. Does not return if it has left.

    It would wait for the others, then be aborted as they end.
    """
    self.stop()
    if self._exit_code is not None:
      self._exit_after_the_others(self._exit_code)

  def _call(self) -> None:
    """Says that this process is there, and hears who else is."""
    number, before = 0, {}
    while not self._is_over.is_set():
      number += 1
      with contextlib.suppress(Exception):  # Whatever it is, it is no answer.
        self._set(str(number))
        heard = self._hear()
        self._unanswered = 0
        for process, value in heard.items():
          if _has_left(value):
            self._left[process] = int(value.removeprefix(_LEFT))
            continue
          is_silent = value == before.get(process)
          self._silent[process] = is_silent * (self._silent.get(process, 0) + 1)
        before = heard
      self._is_over.wait(self._pause)
    if self._exit_code is not None:
      with contextlib.suppress(Exception):  # The store may be gone.
        self._set(f"{_LEFT} {self._exit_code}")

  def _set(self, value: str) -> None:
    key = f"{_KEY}/{self._me}"
    self._store.key_value_set(key, value, allow_overwrite=True)

  def _hear(self) -> dict[int, str]:
    heard = self._store.key_value_dir_get(_KEY)
    return {int(key.rsplit("/", 1)[-1]): value for key, value in heard}

  def _exit_after_the_others(self, exit_code: int) -> None:
    """With process 0 goes the store: it stays until they have heard."""
    until = time.monotonic() + _STAY * self._pause
    try:
      self._caller.join(self._pause)
      if self._me == 0:
        while time.monotonic() < until and not self._all_have_left():
          time.sleep(self._pause / 10)
        time.sleep(min(self._pause, _MARGIN))
    finally:  # Also where a signal comes: whoever started us sees one end.
      exit_at_once(exit_code)

  def _all_have_left(self) -> bool:
    values = self._hear().values()
    return sum(map(_has_left, values)) == self._num_processes

  def _judge(self) -> None:
    patience = _PATIENCE if self._me else _PATIENCE_OF_FIRST
    calls_since_it_left = 0
    while not self._is_over.wait(self._pause):
      self._unanswered += 1
      lost = [i for i, calls in list(self._silent.items()) if calls >= patience]
      if self._unanswered >= patience:
        lost = [0]
      if self._left:
        calls_since_it_left += 1
        if calls_since_it_left > _LAST_WORDS:
          self._follow(*min(list(self._left.items())))
      elif lost:
        self._give_up(lost, patience * self._pause)

  def _follow(self, process: int, exit_code: int) -> None:
    log.error(
      f"error: process {process} ended with exit code {exit_code}, and said "
      f"why; process {self._me} ends too"
    )
    self.undisturbed.acquire(timeout=_PATIENCE * self._pause)
    self.leave(exit_code)
    self._exit_after_the_others(exit_code)

  def _give_up(self, lost: Collection[int], seconds: float) -> None:
    names = ", ".join(map(str, sorted(lost)))
    log.error(
      f"error: process {names}: not heard of for {seconds:.0f} s, so it is "
      f"dead or stuck; process {self._me} ends too (exit code {EXIT_CODE})"
    )
    exit_at_once(EXIT_CODE)

  def wait_for_the_verdict(self) -> None:
    """Gives the others the time to be found missing; returns if none is."""
    time.sleep(self._pause * 2 * _PATIENCE_OF_FIRST)


def _has_left(value: str) -> bool:
  return value.startswith(_LEFT)


def exit_at_once(exit_code: int) -> None:
  """Past all that the main thread may wait for, the lost one among it."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):  # Its reader may be gone.
      stream.flush()
  os._exit(exit_code)

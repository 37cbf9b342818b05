"""Ends a process when another one of its run is dead or stuck, and says which.

Each process counts up a number of its own in the key-value store of JAX's
coordination service, which process 0 runs, and reads those of the others. One
whose number stands still for too long is lost. The store not answering means
that process 0 is.

JAX watches too and would end the process, but by aborting it: with many lines,
and not always the name of the process. It is given more time, as a backstop.
"""

import os
import threading
import time
from collections.abc import Collection
from typing import Any, Protocol

from hrm_jax.console import log

# "A service is unavailable" of sysexits.h.
EXIT_CODE = 69

_KEY = "hrm_jax/roll_call"

# Calls that a process may let pass. Process 0 gives the others a little more:
# with it goes the store, and they could not tell any more whom they miss.
_PATIENCE, _PATIENCE_OF_FIRST = 10, 12


class Store(Protocol):
  """The part of JAX's distributed client that is used."""

  def key_value_set(self, key: str, value: str, allow_overwrite: bool) -> Any:
    """Sets a value."""

  def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
    """All keys below a key, and their values."""


class RollCall:
  """Listens from two threads of its own, once it is started.

  Args:
    store: of the run.
    me: number of this process.
    seconds: after which a lost process has been found, and this one ends.
  """

  def __init__(self, store: Store, me: int, seconds: float):
    self._store, self._me = store, me
    self._pause = seconds / (_PATIENCE_OF_FIRST + 1)
    # Calls that a process let pass. Counted, not timed: who was stopped
    # itself, and goes on, has no reason to suspect the others.
    self._silent = {0: 0}
    self._is_over = threading.Event()

  def start(self) -> None:
    """From now on this process may end any time."""
    for listen in (self._call, self._judge):
      threading.Thread(target=listen, daemon=True).start()

  def stop(self) -> None:
    """Takes no notice of the others any more."""
    self._is_over.set()

  def _call(self) -> None:
    """Says that this process is there, and hears who else is."""
    number, heard = 0, {}
    while not self._is_over.is_set():
      number += 1
      try:
        self._store.key_value_set(
          f"{_KEY}/{self._me}", str(number), allow_overwrite=True
        )
        found = dict(self._store.key_value_dir_get(_KEY))
      except Exception:  # Whatever it is, the store does not answer.
        found = {}
      else:
        self._silent[0] = 0
      for key in found.items() - heard.items():
        self._silent[int(key[0].rsplit("/", 1)[-1])] = 0
      heard |= found
      self._is_over.wait(self._pause)

  def _judge(self) -> None:
    patience = _PATIENCE if self._me else _PATIENCE_OF_FIRST
    while not self._is_over.wait(self._pause):
      for process in list(self._silent):
        self._silent[process] += process != self._me
      lost = [i for i, calls in self._silent.items() if calls >= patience]
      if lost:
        self._end(lost, patience * self._pause)

  def _end(self, lost: Collection[int], seconds: float) -> None:
    # Without process 0 nobody is heard.
    names = "0" if 0 in lost else ", ".join(map(str, sorted(lost)))
    log.error(
      f"error: process {names}: not heard of for {seconds:.0f} s, so it is "
      f"dead or stuck; process {self._me} ends too (exit code {EXIT_CODE})"
    )
    os._exit(EXIT_CODE)  # The main thread may wait for the lost one forever.

  def wait_for_the_verdict(self) -> None:
    """Gives the others the time to be found missing; returns if none is."""
    time.sleep(self._pause * (_PATIENCE_OF_FIRST + 3))

"""Turns a signal into a stop at the next update, in all processes alike.

Machines are taken away with a SIGTERM and a minute's notice. A run that gets
one saves after the updates that it has dispatched, or with several processes
two dispatches later, and exits with `EXIT_CODE`, which the launch scripts take
as a request to run the same command again. The first SIGINT (Ctrl-C) does the
same, and so do SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU, unless they are ignored.
These four only ask, however often they come; a second SIGTERM or SIGINT ends
the process at once. A time that is up does what a signal does.

Orbax and JAX's preemption service do not replace this: they hear SIGTERM only,
and only where a coordination service runs, which a single process has not.
"""

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax.console import log, signals
from hrm_jax.machines import sharding

# "Temporary failure: try again" of sysexits.h.
EXIT_CODE = 75

# The second of these is not a request any more.
_INSISTENT = signal.SIGTERM, signal.SIGINT


class PreemptedError(Exception):
  """Ends what can be done again later, in the middle."""


_any = jax.jit(jnp.any)


class Preemption:
  """Listens for the signals while it is entered.

  Several processes must stop after the same update, but a signal may come to
  one of them only. So each puts what it heard into a small array, and a
  reduction of that travels with the updates; its result is read two calls
  late, when it is there without waiting.

  In a thread other than the main one Python hears no signals; then none do.

  Args:
    stop_at: when it stops without any, by `time.monotonic`; None: never.
  """

  def __init__(self, stop_at: float | None = None):
    self._stop_at = stop_at
    self._heard = self._insisted = self._stops = False
    self._alone = jax.process_count() == 1
    self._under_way: list[jax.Array] = []
    self._before: dict[int, Any] = {}

  def __enter__(self) -> "Preemption":
    if threading.current_thread() is threading.main_thread():
      for number in signals.that_end():
        self._before[number] = signal.signal(number, self._hear)
    return self

  def __exit__(self, *exc_info: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def check(self, mesh: Mesh) -> None:
    """Raises a `PreemptedError` if it is time to stop.

    Args:
      mesh: of all devices. All processes call this equally often.
    """
    if self._stop_at is not None and time.monotonic() >= self._stop_at:
      log.info("the time is up: stops and saves as soon as it can")
      self._heard, self._stop_at = True, None
    if self._alone:
      self._stops = self._heard
    else:
      heard = np.full(sharding.num_local_rows(mesh), self._heard)
      flags = sharding.put_rows(heard, mesh, mesh.size)
      self._under_way.append(_any(flags))
      if len(self._under_way) > 2:
        self._stops |= bool(self._under_way.pop(0))
    if self._stops:
      raise PreemptedError

  def _hear(self, number: int, frame: FrameType | None) -> None:
    del frame
    if number in _INSISTENT:
      if self._insisted:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
      self._insisted = True
    if self._heard and number not in _INSISTENT:
      return  # Said once.
    self._heard = True
    name = signal.Signals(number).name
    # A handler must not wait for a lock that the interrupted code holds.
    with contextlib.suppress(OSError):  # Its reader may have gone.
      line = f"{name}: stops and saves as soon as it can"
      line += "; again: at once\n" if number in _INSISTENT else "\n"
      os.write(2, line.encode())

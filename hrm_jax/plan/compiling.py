"""Compiling, with a sign of life: it takes minutes, and says nothing itself."""

import contextlib
import threading
import time
from collections.abc import Iterator

import jax

from hrm_jax.console import log

SECONDS_BETWEEN_LINES = 30.0


def compiled(
  lowered: jax.stages.Lowered, what: str
) -> tuple[jax.stages.Compiled, float]:
  """Compiles a program.

  Args:
    lowered: for devices that are here or not.
    what: it is, for the log.

  Returns:
    The program, and the seconds it took.
  """
  began = time.perf_counter()
  with _still(f"compiling {what}"):
    program = lowered.compile()
  seconds = time.perf_counter() - began
  log.info(f"{what}: compiled in {seconds:.1f} s")
  return program, seconds


@contextlib.contextmanager
def _still(what: str) -> Iterator[None]:
  """Says every half a minute that something goes on."""
  log.info(what)
  done, began = threading.Event(), time.perf_counter()

  def tell() -> None:
    while not done.wait(SECONDS_BETWEEN_LINES):
      log.info(f"still {what}, {time.perf_counter() - began:.0f} s")

  thread = threading.Thread(target=tell, daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()

"""Who is lost is named, and who is not goes on."""

import threading
import time

import pytest

from hrm_jax import console, roll_call
from hrm_jax.roll_call import RollCall

SECONDS = 1.3  # 13 pauses of 0.1


class Store(dict):
  """A key-value store in this process, which may stop answering."""

  answers = True

  def key_value_set(self, key, value, allow_overwrite):
    assert allow_overwrite
    self._check()
    self[key] = value

  def key_value_dir_get(self, key):
    self._check()
    return [pair for pair in self.copy().items() if pair[0].startswith(key)]

  def _check(self):
    if not self.answers:
      raise RuntimeError("DEADLINE_EXCEEDED")


@pytest.fixture
def verdict(monkeypatch):
  """What a process says when it ends, in place of ending."""
  lines, ended = [], threading.Event()

  def end(code):
    lines.append(code)
    ended.set()
    threading.Event().wait()  # The thread does no more.

  monkeypatch.setattr(console.log, "error", lines.append)
  monkeypatch.setattr(roll_call.os, "_exit", end)
  return lambda seconds: (ended.wait(seconds), lines)


@pytest.fixture
def start(verdict):
  """Starts the roll call of a process; all stop before they can end pytest."""
  calls = []

  def start(store, me):
    calls.append(RollCall(store, me, SECONDS))
    calls[-1].start()
    return calls[-1]

  yield start
  for call in calls:
    call.stop()


def test_a_process_that_falls_silent_is_named_in_time(start, verdict):
  store = Store()
  start(store, 0)
  second = start(store, 1)
  time.sleep(1.5 * SECONDS)
  assert verdict(0) == (False, [])  # While both are there, nobody ends.
  second.stop()
  began = time.monotonic()
  ended, (line, code) = verdict(5)
  assert ended
  assert time.monotonic() - began > SECONDS / 2
  assert line.startswith("error: process 1: not heard of for ")
  assert "process 0 ends too (exit code 69)" in line
  assert code == roll_call.EXIT_CODE == 69


def test_a_store_that_does_not_answer_means_that_process_0_is_lost(
  start, verdict
):
  store = Store()
  start(store, 1)
  start(store, 2)
  time.sleep(SECONDS / 4)
  store.answers = False
  _, lines = verdict(5)
  assert lines[0].startswith("error: process 0: not heard of for ")

"""Who is lost is named, and who is not goes on."""

import threading
import time

import pytest

from hrm_jax import console
from hrm_jax.machines import roll_call
from hrm_jax.machines.roll_call import RollCall

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
def start(monkeypatch):
  """Starts the roll call of a process; all stop before they can end pytest."""
  del monkeypatch  # Only undone after that.
  calls = []

  def start(store, me, seconds=SECONDS):
    calls.append(RollCall(store, me, 3, seconds))
    calls[-1].start()
    return calls[-1]

  yield start
  for call in calls:
    call.stop()
  for call in calls:  # One that has ended in place of the process waits on.
    call._judging.join(SECONDS)


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


def test_who_ends_with_an_error_ends_the_others_with_the_same_code(
  start, verdict
):
  store = Store()
  start(store, 0)
  start(store, 1).leave(2)
  ended, (line, code) = verdict(5)
  assert ended
  assert line == (
    "error: process 1 ended with exit code 2, and said why; process 0 ends too"
  )
  assert code == 2
  assert store["hrm_jax/roll_call/0"] == "left 2"


def test_who_follows_lets_what_must_not_be_cut_short_end(start, verdict):
  store = Store()
  first = start(store, 0, seconds=8)
  with first.undisturbed:
    start(store, 1).leave(2)
    ended, _ = verdict(4)  # It has heard, and waits up to 6 seconds.
    assert not ended
  ended, (_, code) = verdict(10)
  assert ended
  assert code == 2


@pytest.fixture
def exits(monkeypatch):
  """The exit codes of what would have ended this process."""
  codes = []
  monkeypatch.setattr(roll_call.os, "_exit", codes.append)
  return codes


def test_process_0_stays_until_all_have_heard_that_it_left(exits, start):
  store = Store({"hrm_jax/roll_call/1": "7", "hrm_jax/roll_call/2": "left 2"})
  first = start(store, 0, seconds=60)  # It would stay for half a minute.
  first.leave(2)
  ending = threading.Thread(target=first.end)
  ending.start()
  ending.join(1)
  assert exits == []
  store["hrm_jax/roll_call/1"] = "left 2"
  ending.join(10)
  assert exits == [2]


def test_process_0_does_not_stay_forever(exits, start):
  first = start(Store(), 0)
  first.leave(2)
  began = time.monotonic()
  first.end()
  assert exits == [2]
  assert time.monotonic() - began > SECONDS / 4


def test_a_signal_ends_process_0_at_once_with_the_code_of_its_error(
  exits, start, monkeypatch
):
  def end_by_signal(seconds):
    raise SystemExit(143)

  monkeypatch.setattr(roll_call.time, "sleep", end_by_signal)
  first = start(Store(), 0)
  first.leave(2)
  with pytest.raises(SystemExit):
    first.end()
  assert exits == [2]


def test_who_has_not_left_ends_as_others_do(exits, start):
  start(Store(), 0).end()
  assert exits == []

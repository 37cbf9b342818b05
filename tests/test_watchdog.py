"""A run that stands still shows where."""

import time

from hrm_jax import console
from hrm_jax.watchdog import Watchdog


def warnings_of(monkeypatch):
  lines = []
  monkeypatch.setattr(console.log, "warning", lines.append)
  return lines


def wait_for(condition):
  until = time.monotonic() + 30
  while not condition() and time.monotonic() < until:
    time.sleep(0.01)


def test_silence_is_reported_with_all_stacks(monkeypatch, capfd):
  lines = warnings_of(monkeypatch)
  with Watchdog(0.1) as watchdog:
    watchdog.beat("update 7")
    wait_for(lambda: len(lines) > 1)
  assert "nothing finished for" in lines[0]
  assert "since update 7" in lines[0]
  err = capfd.readouterr().err
  assert "most recent call first" in err
  assert "wait_for" in err


def test_a_run_that_moves_is_left_alone(monkeypatch):
  lines = warnings_of(monkeypatch)
  with Watchdog(60) as watchdog:
    watchdog.beat("update 1")
    time.sleep(0.05)
  assert lines == []


def test_zero_seconds_watch_nothing(monkeypatch):
  lines = warnings_of(monkeypatch)
  with Watchdog(0) as watchdog:
    watchdog.beat("update 1")
    time.sleep(0.05)
  assert lines == []

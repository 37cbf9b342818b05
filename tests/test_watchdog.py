"""A run that stands still shows where."""

import time

import pytest

from hrm_jax import console
from hrm_jax.machines import watchdog
from hrm_jax.machines.watchdog import Watchdog


@pytest.fixture
def lines(monkeypatch):
  lines = []
  monkeypatch.setattr(console.log, "warning", lines.append)
  return lines


def wait_for(condition):
  until = time.monotonic() + 30
  while not condition() and time.monotonic() < until:
    time.sleep(0.01)


def test_silence_is_reported_with_all_stacks(lines, capfd):
  with Watchdog(0.1) as dog:
    dog.beat("update 7")
    wait_for(lambda: any("since update 7" in line for line in lines))
  assert "nothing finished for" in lines[-1]
  err = capfd.readouterr().err
  assert "most recent call first" in err
  assert "wait_for" in err


def test_it_reports_after_so_long_a_silence_and_again(lines, monkeypatch):
  now = 100.0
  monkeypatch.setattr(watchdog.time, "monotonic", lambda: now)
  dog = Watchdog(10)
  reports = {}
  for now in (105.0, 109.0, 110.0, 115.0, 119.0, 120.0, 121.0, 130.0, 131.0):
    if now in (109.0, 121.0):
      dog.beat(f"update at {now:.0f}")
    dog.look(now)
    reports[now] = len(lines)
  # From 109 on: 119; then a beat, and 131.
  assert reports == {
    **dict.fromkeys((105.0, 109.0, 110.0, 115.0), 0),
    **dict.fromkeys((119.0, 120.0, 121.0, 130.0), 1),
    131.0: 2,
  }
  dog.look(140.0)
  assert len(lines) == 2
  dog.look(141.0)
  assert "for 10 s, since update at 109" in lines[0]
  assert "for 10 s, since update at 121" in lines[1]
  assert "for 20 s, since update at 121" in lines[2]


def test_zero_seconds_watch_nothing():
  with Watchdog(0) as dog:
    assert not dog._thread.is_alive()

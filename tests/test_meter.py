"""What the training loop logs, and when."""

import types

import numpy as np
import pytest

from hrm_jax.train import meter
from hrm_jax.train.dashboard import curves
from hrm_jax.train.meter import Meter
from tests.runs import read_scalars
from tests.toys import METRIC_SUMS

# What an evaluation of no puzzle finds.
NOTHING = {
  "sets": {},
  "exact_accuracy_by_segment": [],
  "puzzles_by_segments": [],
  "puzzles_by_halt_probability": [],
}
BY_SEGMENT = {"exact_accuracy_by_segment": [0.25, 0.5]}


class Clock:
  """Stands in for the module `time`: only what we add goes by."""

  def __init__(self):
    self.now = 100.0

  def perf_counter(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  fake = types.SimpleNamespace(
    perf_counter=clock.perf_counter, time_ns=lambda: 0
  )
  monkeypatch.setattr(meter, "time", fake)
  return clock


def make_meter(directory, **changed):
  arguments = {
    "done": 0,
    "last_step": 7,
    "global_batch_size": 32,
    "seq_len": 5,
    "flops_per_step": 6e3,
    "peak_flops": 1e4,
    "log_every": 1,
  }
  arguments |= changed
  writer = curves.Writer(
    directory / "tensorboard", first_logged_step=arguments["done"] + 1
  )
  return Meter(writer, **arguments)


def logged_losses(directory):
  return [
    (step, value)
    for name, step, value in read_scalars(directory)
    if name == "train/lm_loss"
  ]


def sums_of(step):
  """The sums of one update, whose loss is its number."""
  return one_update({**METRIC_SUMS, "lm_loss": np.float32(32 * step)})


def several_updates(first, last):
  """The sums of the updates of one dispatch."""
  each = [sums_of(step) for step in range(first, last + 1)]
  return {k: np.concatenate([sums[k] for sums in each]) for k in METRIC_SUMS}


def one_update(sums):
  return {name: np.asarray(value)[None] for name, value in sums.items()}


def test_meter_logs_each_update_once_and_one_late(tmp_path):
  with make_meter(tmp_path) as meter:
    for step in (1, 2, 3):
      meter.update(step, sums_of(step))
      assert meter.latest.get("train/lm_loss", 0) == step - 1
    meter.flush()
    assert meter.latest["train/lm_loss"] == 3
    meter.flush()
  assert logged_losses(tmp_path) == [(1, 1), (2, 2), (3, 3)]


def test_meter_logs_every_nth_update_the_last_and_what_it_flushes(tmp_path):
  with make_meter(tmp_path, log_every=3, last_step=7) as meter:
    for step in range(1, 8):
      meter.update(step, sums_of(step))
      if step == 4:
        meter.flush()
    meter.flush()
  assert [step for step, _ in logged_losses(tmp_path)] == [3, 4, 6, 7]


def test_meter_logs_several_updates_of_one_dispatch(tmp_path):
  with make_meter(tmp_path, log_every=2, last_step=9) as meter:
    for last in (4, 8, 9):
      n = 1 if last == 9 else 4
      meter.update(last, several_updates(last - n + 1, last))
    meter.flush()
  assert logged_losses(tmp_path) == [(2, 2), (4, 4), (6, 6), (8, 8), (9, 9)]


def test_meter_writes_the_names_of_the_reference(tmp_path):
  with make_meter(tmp_path) as meter:
    for step in (1, 2):
      meter.update(step, one_update(METRIC_SUMS))
    meter.flush()
    means = {"all": {"exact_accuracy": 0.5}}
    meter.write_evaluation(2, {**NOTHING, "sets": means, **BY_SEGMENT})
  names = {name for name, _, _ in read_scalars(tmp_path)}
  assert names == {f"train/{key}" for key in METRIC_SUMS} | {
    "perf/step_seconds",
    "perf/examples_per_s",
    "perf/tokens_per_s",
    "perf/mfu",
    "perf/data_wait",
    "eval/all/exact_accuracy",
    "eval/accuracy_by_segment/01",
    "eval/accuracy_by_segment/02",
  }


def test_meter_measures_speed_and_the_wait_for_data(tmp_path, clock):
  def batches():
    for _ in range(5):
      clock.now += 0.5
      yield "batch"

  with make_meter(tmp_path, log_every=2) as meter:
    for step, _ in enumerate(meter.waiting_for(batches()), 1):
      clock.now += 1.5
      meter.update(step, one_update(METRIC_SUMS))
  assert meter.latest["perf/step_seconds"] == pytest.approx(2)
  assert meter.latest["perf/examples_per_s"] == pytest.approx(16)
  assert meter.latest["perf/tokens_per_s"] == pytest.approx(80)
  assert meter.latest["perf/mfu"] == pytest.approx(0.3)
  assert meter.latest["perf/data_wait"] == pytest.approx(0.25)


class Device:
  """Works on one update after the other, two seconds each."""

  def __init__(self, clock):
    self._clock, self._free_at = clock, 0.0

  def start_update(self):
    """Returns at once; who reads the sums waits for them."""
    self._clock.now += 0.01
    self._free_at = max(self._free_at, self._clock.now) + 2
    late = Late(self._clock, self._free_at)
    return {**one_update(METRIC_SUMS), "lm_loss": late}


class Late:
  """A number that is there from some time on."""

  def __init__(self, clock, ready_at):
    self._clock, self._ready_at = clock, ready_at

  def __array__(self, dtype=None, copy=None):
    self._clock.now = max(self._clock.now, self._ready_at)
    return np.ones([1], dtype)


@pytest.mark.parametrize("log_every", [1, 4])
def test_meter_times_updates_and_not_evaluations(tmp_path, clock, log_every):
  device = Device(clock)
  with make_meter(tmp_path, log_every=log_every, last_step=16) as meter:
    for step in range(1, 17):
      meter.update(step, device.start_update())
      if step == 8:
        meter.flush()
        clock.now += 1000
        meter.write_evaluation(step, NOTHING)
    meter.flush()
  seconds = [
    value
    for name, _, value in read_scalars(tmp_path)
    if name == "perf/step_seconds"
  ]
  np.testing.assert_allclose(seconds, [2.0] * (16 // log_every), rtol=0.05)


def test_waiting_passes_all_batches_on(tmp_path):
  with make_meter(tmp_path) as meter:
    assert list(meter.waiting_for([])) == []
    assert list(meter.waiting_for([1, 2])) == [1, 2]


@pytest.mark.parametrize(("log_every", "settled"), [(1, 4), (2, 4), (3, 3)])
def test_meter_settles_what_is_due_and_nothing_else(
  tmp_path, log_every, settled
):
  with make_meter(tmp_path, log_every=log_every) as meter:
    for step in range(1, 5):
      meter.update(step, sums_of(step))
    meter.settle()
    # Already on disk, though neither flushed nor closed.
    assert logged_losses(tmp_path)[-1][0] == settled
    meter.update(5, sums_of(5))
    meter.update(6, sums_of(6))
  due = [step for step in range(1, 6) if step % log_every == 0]
  assert [step for step, _ in logged_losses(tmp_path)] == due


def test_meter_settles_what_is_due_within_one_dispatch(tmp_path):
  with make_meter(tmp_path, log_every=3, last_step=12) as meter:
    for last in (4, 8):
      meter.update(last, several_updates(last - 3, last))
    meter.settle()
    assert logged_losses(tmp_path) == [(3, 3), (6, 6)]
    meter.update(12, several_updates(9, 12))
    meter.settle()
    meter.flush()
  steps = [step for step, _ in logged_losses(tmp_path)]
  assert steps == [3, 6, 9, 12]

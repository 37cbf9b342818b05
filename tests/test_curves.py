"""What stands in the event files, whatever happens."""

import errno
import threading
import time
from concurrent import futures

import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from hrm_jax import console
from hrm_jax.train.dashboard import curves
from tests.runs import read_scalars, read_summaries


def test_resumed_writer_hides_what_it_repeats(tmp_path):
  for first in (1, 5):
    writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=first)
    writer.scalars(6, {"train/lr": 0.5})
    writer.close()
  assert read_scalars(tmp_path) == [("train/lr", 6, 0.5)] * 2
  assert read_scalars(tmp_path, as_shown=True) == [("train/lr", 6, 0.5)]
  # Where a session starts, TensorBoard drops what it has from that step on.
  start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  mark = event_pb2.Event(step=5, session_log=start).SerializeToString()
  files = sorted((tmp_path / "tensorboard").iterdir())
  assert [mark in file.read_bytes() for file in files] == [False, True]


def test_what_is_flushed_is_in_the_file_whatever_comes_then(tmp_path):
  writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=1)
  for step in range(1, 50):
    writer.scalars(step, {"train/lr": 0.5})
  writer.flush()
  assert [step for _, step, _ in read_scalars(tmp_path)] == list(range(1, 50))
  writer.close()


def test_where_there_can_be_no_file_there_are_no_curves(tmp_path, errors):
  (tmp_path / "tensorboard").write_text("")
  writer = curves.open_writer(tmp_path / "tensorboard", first_logged_step=1)
  writer.scalars(1, {"train/lm_loss": 1.0})
  writer.close()
  assert len(errors) == 1
  assert f"{tmp_path / 'tensorboard'}: no curves (" in errors[0]


@pytest.fixture
def errors(monkeypatch):
  """The lines that say what is wrong."""
  lines = []
  monkeypatch.setattr(console.log, "error", lines.append)
  return lines


def fail_at(monkeypatch, method, number):
  """The disk is full from so manyth call of a method of the file on."""
  call, calls = getattr(RecordWriter, method), []

  def failing(self, *arguments):
    calls.append(arguments)
    if method == "close" or len(calls) < number:
      call(self, *arguments)
    if len(calls) >= number:
      raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(RecordWriter, method, failing)
  return calls


@pytest.mark.parametrize("method", ["write", "flush", "close"])
def test_a_full_disk_ends_the_curves_and_not_the_training(
  tmp_path, monkeypatch, errors, method
):
  writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=1)
  for step in range(1, 3):
    writer.scalars(step, {"train/lm_loss": 1.0})
  writer.flush()
  calls = fail_at(monkeypatch, method, 1)
  for step in range(3, 6):
    writer.scalars(step, {"train/lm_loss": 1.0})
    writer.flush()
  writer.close()
  steps = [step for _, step, _ in read_scalars(tmp_path)]
  # What follows half a record could not be read, so nothing does.
  assert steps == {"write": [1, 2], "flush": [1, 2, 3]}.get(
    method, [1, 2, 3, 4, 5]
  )
  assert len(errors) == 1
  assert f"{tmp_path / 'tensorboard'}: no curves from here on (No" in errors[0]
  # `close` is tried once more, so that the file is not left open.
  assert len(calls) == (2 if method == "close" else 1)


def test_a_disk_that_is_full_from_the_start_ends_nothing(
  tmp_path, monkeypatch, errors
):
  fail_at(monkeypatch, "write", 1)
  writer = curves.open_writer(tmp_path / "tensorboard", first_logged_step=1)
  writer.scalars(1, {"train/lm_loss": 1.0})
  writer.close()
  assert len(errors) == 1


def test_two_writers_of_one_second_have_a_file_each(tmp_path, monkeypatch):
  monkeypatch.setattr(curves.time, "time", lambda: 1000.5)
  for _ in range(2):
    curves.Writer(tmp_path / "tensorboard", first_logged_step=1).close()
  names = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
  assert len(names) == 2
  assert all(name.startswith("events.out.tfevents.1000.") for name in names)


def test_a_reader_sees_what_was_written_a_while_ago(tmp_path, monkeypatch):
  writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=1)
  writer.scalars(1, {"train/lr": 0.5})
  futures.wait(writer._under_way)  # Else the thread may see the later clock.
  assert read_scalars(tmp_path) == []
  later = time.monotonic() + 31
  monkeypatch.setattr(curves.time, "monotonic", lambda: later)
  writer.scalars(2, {"train/lr": 0.5})
  until = time.perf_counter() + 30
  while not read_scalars(tmp_path) and time.perf_counter() < until:
    time.sleep(0.01)
  assert [step for _, step, _ in read_scalars(tmp_path)] == [1, 2]
  writer.close()


def test_nothing_waits_for_what_is_drawn_but_a_flush(tmp_path):
  asked, drawn = threading.Event(), Summary(value=[Summary.Value(tag="late")])

  def draw():
    assert asked.wait(30)
    return drawn

  writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=1)
  writer.summary(4, draw)
  writer.scalars(5, {"train/lr": 0.5})
  asked.set()  # Only now: the two calls above have come back.
  writer.flush()
  tags = [(step, value.tag) for step, value in read_summaries(tmp_path)]
  assert tags == [(4, "late"), (5, "train/lr")]
  writer.close()


def test_what_cannot_be_drawn_is_not_silent(tmp_path):
  writer = curves.Writer(tmp_path / "tensorboard", first_logged_step=1)
  writer.summary(1, lambda: 1 // 0)
  with pytest.raises(ZeroDivisionError):
    writer.close()


def test_no_writer_writes_nothing():
  writer = curves.NoWriter()
  writer.scalars(1, {"train/lr": 0.5})
  writer.summary(1, lambda: 1 // 0)
  writer.flush()
  writer.close()

"""What stands in the event files, whatever happens."""

import errno

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from hrm_jax import console
from hrm_jax.train import curves
from tests.runs import read_scalars


def test_resumed_writer_hides_what_it_repeats(tmp_path):
  for first_step in (1, 5):
    writer = curves.Writer(tmp_path / "tensorboard", first_step=first_step)
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
  writer = curves.Writer(tmp_path / "tensorboard", first_step=1)
  for step in range(1, 50):
    writer.scalars(step, {"train/lr": 0.5})
  writer.flush()
  assert [step for _, step, _ in read_scalars(tmp_path)] == list(range(1, 50))
  writer.close()


def test_where_there_can_be_no_file_there_are_no_curves(tmp_path, monkeypatch):
  errors = []
  monkeypatch.setattr(console.log, "error", errors.append)
  (tmp_path / "tensorboard").write_text("")
  writer = curves.open_writer(tmp_path / "tensorboard", first_step=1)
  writer.scalars(1, {"train/lm_loss": 1.0})
  writer.close()
  assert len(errors) == 1
  assert f"{tmp_path / 'tensorboard'}: no curves (" in errors[0]


def test_a_full_disk_ends_the_curves_and_not_the_training(
  tmp_path, monkeypatch
):
  errors = []
  monkeypatch.setattr(console.log, "error", errors.append)
  write = EventsWriter.write_event

  def full_disk(self, event):
    if event.HasField("summary") and event.step == 3:
      raise OSError(errno.ENOSPC, "No space left on device")
    return write(self, event)

  monkeypatch.setattr(EventsWriter, "write_event", full_disk)
  writer = curves.Writer(tmp_path / "tensorboard", first_step=1)
  for step in range(1, 100):  # More than tensorboardX's queue holds.
    writer.scalars(step, {"train/lm_loss": 1.0})
  writer.flush()  # Nor does this wait forever.
  writer.close()
  steps = [step for _, step, _ in read_scalars(tmp_path)]
  assert steps == [1, 2]  # What follows half a record could not be read.
  assert len(errors) == 1
  assert f"{tmp_path / 'tensorboard'}: no curves from here on (No" in errors[0]

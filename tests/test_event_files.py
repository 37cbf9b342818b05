"""Scalars read back from event files, also from damaged ones."""

import pytest

from hrm_jax.console import InputError
from hrm_jax.train.dashboard import curves, event_files


def write(directory, first, values):
  """A run that begins at update `first`: from a step to its value."""
  writer = curves.Writer(directory, first_logged_step=first)
  for step, value in values.items():
    writer.scalars(step, {"eval/all/accuracy": value})
  writer.close()


def test_a_resumed_run_overwrites_what_was_never_saved(tmp_path):
  write(tmp_path, 1, {2: 0.25, 4: 0.5, 6: 0.75, 8: 0.0})
  write(tmp_path, 5, {6: 1.0})
  found = event_files.read_scalars(tmp_path)
  assert found["eval/all/accuracy"] == {2: 0.25, 4: 0.5, 6: 1.0}


def test_of_two_values_at_one_step_the_later_one_counts(tmp_path):
  writer = curves.Writer(tmp_path, first_logged_step=1)
  for value in (0.25, 0.5):
    writer.scalars(3, {"train/lr": value})
  writer.close()
  assert event_files.read_scalars(tmp_path)["train/lr"] == {3: 0.5}


def test_where_nothing_was_written_there_is_nothing(tmp_path):
  assert event_files.read_scalars(tmp_path / "tensorboard") == {}


@pytest.mark.parametrize("missing", [1, 5, 20, 40])
def test_what_a_kill_cut_off_is_not_there(tmp_path, missing, lines):
  write(tmp_path, 1, {2: 0.25, 4: 0.5})
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:-missing])
  found = event_files.read_scalars(tmp_path)
  assert found["eval/all/accuracy"] == {2: 0.25}
  assert lines == []


@pytest.mark.parametrize("place", ["length", "content"])
def test_a_damaged_record_is_told(tmp_path, place, lines):
  write(tmp_path, 1, {2: 0.25, 4: 0.5})
  (path,) = tmp_path.iterdir()
  data = bytearray(path.read_bytes())
  start = following = 0
  while following < len(data):
    start = following
    following += 16 + int.from_bytes(data[start : start + 8], "little")
  data[start if place == "length" else start + 12] ^= 0xFF
  path.write_bytes(data)
  found = event_files.read_scalars(tmp_path)
  assert found["eval/all/accuracy"] == {2: 0.25}
  (line,) = lines
  assert line.startswith(
    f"warning: {path}: expected an event at byte {start:,}"
  )


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
  (tmp_path / "events.out.tfevents.1").mkdir()
  with pytest.raises(InputError, match=r"tfevents\.1: cannot be read \("):
    event_files.read_scalars(tmp_path)

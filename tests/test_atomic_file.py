"""A file is written all at once, or not at all."""

import json
import os
import stat

import pytest

from hrm_jax.checkpoint import atomic_file


def test_json_replaces_what_was_there(tmp_path):
  path = tmp_path / "value.json"
  for value in ({"a": 1}, {"b": [2, "ü"]}):
    atomic_file.write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
  assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / "note.txt"
  atomic_file.write_text(path, "old")
  with pytest.raises(UnicodeEncodeError):
    atomic_file.write_text(path, "new \ud800")  # Half of a character.
  assert path.read_text(encoding="utf-8") == "old"
  assert [p.name for p in tmp_path.iterdir()] == ["note.txt"]


def test_a_pipe_or_a_device_stays_what_it_is(tmp_path):
  path = tmp_path / "pipe"
  os.mkfifo(path)
  with pytest.raises(OSError, match="It is no regular file"):
    atomic_file.write_text(path, "new")
  assert stat.S_ISFIFO(path.stat().st_mode)
  assert [p.name for p in tmp_path.iterdir()] == ["pipe"]

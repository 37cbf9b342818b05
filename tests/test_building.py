"""What a killed build leaves: the next one removes it, a living one's not."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import building
from tests.commands import files_of
from tests.test_writer import write

# Writes some examples, says so, and waits to be killed.
BUILDER = """
import sys, time
import numpy as np
from hrm_jax.data import writer

with writer.DatasetWriter(sys.argv[1], seq_len=4, vocab_size=6) as dataset:
  dataset.add_examples("train", *np.ones((2, 9, 4), np.uint8))
  print("building", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def builder(tmp_path):
  """A process that builds `out`, and has begun to."""
  process = subprocess.Popen(
    [sys.executable, "-c", BUILDER, str(tmp_path / "out")],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "building\n"
  yield process
  process.kill()
  process.communicate()


def names(path):
  return sorted(p.name for p in path.iterdir())


def test_what_a_killed_build_left_is_removed_and_that_is_said(
  builder, tmp_path, monkeypatch
):
  lines = []
  monkeypatch.setattr(building.log, "info", lines.append)
  os.kill(builder.pid, signal.SIGKILL)
  builder.wait()
  left = [n for n in names(tmp_path) if not n.endswith(".lock")]
  assert len(left) == 1
  write(tmp_path / "other")
  assert left[0] in names(tmp_path)  # That is not of its name.
  write(tmp_path / "out")
  assert names(tmp_path) == ["other", "out"]
  assert lines == [
    f"{tmp_path / left[0]}: removing what a killed build left, 0.0 MB"
  ]


def test_the_work_of_a_living_build_stays(builder, tmp_path):
  before = names(tmp_path)
  write(tmp_path / "out")
  assert names(tmp_path) == sorted([*before, "out"])


def test_a_build_that_ends_by_an_error_leaves_no_lock(tmp_path):
  work = building.Building(tmp_path, "out")
  assert len(names(tmp_path)) == 2
  work.discard()
  assert names(tmp_path) == []


def test_a_set_whose_replacement_was_killed_gets_its_name_back(tmp_path):
  out = tmp_path / "out"
  write(out)
  before = files_of(out)
  work = building.Building(tmp_path, "out")
  out.rename(work.replaced)
  work._lock.release()  # As the end of its process does.
  with pytest.raises(InputError, match="already exists; pass --overwrite"):
    write(out)
  assert files_of(out) == before
  assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
  "error", [NotImplementedError("no locks"), OSError(errno.ENOLCK, "no locks")]
)
def test_without_locks_a_set_is_built_and_nothing_removed(
  error, tmp_path, monkeypatch
):
  def fail(*args, **kwargs):
    raise error

  (tmp_path / ".out.building-12345678").mkdir()
  (tmp_path / ".out.building-12345678.lock").touch()
  monkeypatch.setattr(building.filelock.FileLock, "acquire", fail)
  write(tmp_path / "out")
  assert len(np.load(tmp_path / "out" / "train" / "all__inputs.npy")) == 3
  assert names(tmp_path) == [
    ".out.building-12345678",
    ".out.building-12345678.lock",
    "out",
  ]


@pytest.mark.parametrize(
  ("name", "other"), [("d*", "data"), ("o[1]", "o1"), ("a", "a.building-b")]
)
def test_any_name_finds_its_own_remains_and_no_others(name, other, tmp_path):
  for each in (name, other):
    building.Building(tmp_path, each)._lock.release()
  write(tmp_path / name)
  left = [n for n in names(tmp_path) if n.startswith(".")]
  assert len(left) == 2
  assert all(n.startswith(f".{other}.building-") for n in left)


def test_remains_of_another_user_are_told_and_stay(
  tmp_path, monkeypatch, lines
):
  left = building.Building(tmp_path, "out").path
  acquire = building._acquire

  def mine(path):
    return None if path.name.startswith(left.name) else acquire(path)

  monkeypatch.setattr(building, "_acquire", mine)
  monkeypatch.setattr(building.os, "access", lambda path, mode: False)
  write(tmp_path / "out")
  assert left.exists()
  assert lines == [
    f"warning: {left}: another user builds there or left it, so it stays; if "
    "no build is running, have it deleted"
  ]


def test_remains_that_cannot_be_removed_are_told_each_time(
  tmp_path, monkeypatch, lines
):
  work = building.Building(tmp_path, "out")
  work._lock.release()

  def refuse(path, **arguments):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))

  for out in (tmp_path / "out",) * 2:
    with monkeypatch.context() as patch:
      patch.setattr(building.shutil, "rmtree", refuse)
      building.remove_leftovers(out, tmp_path)
  told = f"warning: {work.path}: cannot be removed (Permission denied)"
  assert lines.count(told) == 2

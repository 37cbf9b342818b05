"""Two runs do not share a working directory."""

import errno
import fcntl
import subprocess
import sys

import pytest

from hrm_jax import console
from hrm_jax.checkpoint import workdir_lock
from hrm_jax.console import InputError
from tests import runs


def test_who_comes_second_gets_one_line(tmp_path):
  with (
    workdir_lock.hold(tmp_path),
    pytest.raises(InputError, match=f"^{tmp_path}: another run is using it"),
  ):
    runs.train_tiny(tmp_path)
  assert not (tmp_path / "checkpoints").exists()
  with workdir_lock.hold(tmp_path):
    pass  # It is free again.


def test_nothing_is_left_of_a_run_that_was_refused(tmp_path):
  new = tmp_path / "run"
  with pytest.raises(InputError, match="bad"), workdir_lock.hold(new):
    raise InputError("bad")
  assert not new.exists()
  with workdir_lock.hold(new):
    (new / "config.json").touch()
  assert sorted(p.name for p in new.iterdir()) == ["config.json", "lock"]


def test_a_killed_process_leaves_it_free(tmp_path):
  program = (
    "import pathlib, sys, time\n"
    "from hrm_jax.checkpoint import workdir_lock\n"
    "with workdir_lock.hold(pathlib.Path(sys.argv[1])):\n"
    "  print('held', flush=True)\n"
    "  time.sleep(60)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program, str(tmp_path)],
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError), workdir_lock.hold(tmp_path):
      pass
    process.kill()
  with workdir_lock.hold(tmp_path):
    pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, number):
  def no_locks(*_):
    raise OSError(number, "No locks available")

  lines = []
  monkeypatch.setattr(console.log, "warning", lines.append)
  monkeypatch.setattr(fcntl, "flock", no_locks)
  with workdir_lock.hold(tmp_path), workdir_lock.hold(tmp_path):
    assert "lock: not locked (No locks available)" in lines[0]


def test_what_an_ended_run_left_there_is_no_lock(tmp_path):
  (tmp_path / "lock").write_text("12345\n")
  with workdir_lock.hold(tmp_path):
    pass


def test_where_none_can_be_made_a_line_says_so(tmp_path):
  (tmp_path / "lock").mkdir()
  message = f"^{tmp_path / 'lock'}: cannot be made \\(Is a directory"
  with pytest.raises(InputError, match=message), workdir_lock.hold(tmp_path):
    pass

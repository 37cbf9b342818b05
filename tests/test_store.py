"""Saving and restoring: nothing half-written is ever taken for whole."""

import collections
import errno
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from hrm_jax import console
from hrm_jax.checkpoint import choice, manifest, saved_steps, store
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.console import InputError, RunError
from tests import runs
from tests.commands import files_of
from tests.toy_checkpoints import (
  delete,
  flip,
  resume,
  save,
  set_format,
  shapes,
  steps_of,
  toy_run,
  toy_state,
  truncate,
)

# --- damage


@pytest.mark.parametrize("damage", [flip, truncate, delete])
def test_damage_to_any_file_is_named_and_the_step_passed_over(
  trained, lines, damage
):
  directory = trained / "checkpoints"
  names = files_of(directory / "10")
  assert len(names) > 10
  for name, content in names.items():
    path = directory / "10" / name
    if damage is not delete and not content:
      continue  # Orbax leaves empty marker files.
    damage(path)
    assert choice.choose_step(directory) == 5, name
    assert f"{path}: " in lines.pop(), name
    path.write_bytes(content)
  assert choice.choose_step(directory) == 10


def test_a_half_written_directory_is_no_checkpoint(tmp_path, lines):
  save(tmp_path, 1)
  directory = tmp_path / "checkpoints"
  half = directory / "2.orbax-checkpoint-tmp"
  shutil.copytree(directory / "1", half)
  shutil.copytree(directory / "1", directory / "3")
  (directory / "3" / "manifest.json").unlink()
  assert resume(tmp_path).step == 1
  assert any(f"{half}: deleted" in line for line in lines)
  assert any("3/manifest.json: is missing" in line for line in lines)


def test_what_orbax_cannot_read_is_named_and_passed_over(tmp_path, lines):
  save(tmp_path, 1, 2)
  path = tmp_path / "checkpoints" / "2"
  (path / "state" / "_METADATA").write_text("{}")
  manifest.write(path, 2)  # As if it had been written so.
  assert resume(tmp_path).step == 1
  assert len(lines) == 1
  assert f"{path}: its digests are right, yet it cannot be read" in lines[0]
  with pytest.raises(InputError, match="its digests are right, yet"):
    resume(tmp_path, strict=True)


def test_what_could_not_be_read_is_saved_anew(tmp_path, lines):
  save(tmp_path, 1, 2)
  path = tmp_path / "checkpoints" / "2"
  (path / "state" / "_METADATA").write_text("{}")
  manifest.write(path, 2)
  with Checkpoints(tmp_path) as checkpoints:
    assert checkpoints.resume(shapes()).step == 1
    checkpoints.save(2, toy_state(2), toy_run(2, 0.5))
  assert f"{path}: it could not be read; step 2 is saved anew" in lines[-1]
  assert resume(tmp_path).step == 2


def test_a_missing_array_is_reported_not_invented(tmp_path, lines):
  save(tmp_path, 1)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(2, {"key": jax.random.key(0)}, toy_run(2, 0))
  assert resume(tmp_path).step == 1
  assert "checkpoints/2: " in lines[0]


def test_strict_restore_refuses_a_damaged_newest_step(tmp_path):
  save(tmp_path, 1, 2)
  flip(tmp_path / "checkpoints" / "2" / "run" / "metadata")
  with pytest.raises(InputError, match=r"2/run/metadata: .*--strict-restore"):
    resume(tmp_path, strict=True)


def test_where_all_is_damaged_nothing_is_started_over(tmp_path):
  save(tmp_path, 1)
  flip(tmp_path / "checkpoints" / "1" / "run" / "metadata")
  before = files_of(tmp_path)
  with pytest.raises(InputError, match="none of its checkpoints is whole"):
    resume(tmp_path)
  assert files_of(tmp_path) == before


def test_a_damaged_step_in_the_way_is_saved_anew(tmp_path, lines):
  save(tmp_path, 1, 2)
  flip(tmp_path / "checkpoints" / "2" / "run" / "metadata")
  assert save(tmp_path, 2).saved_step == 2
  assert "2/run/metadata: its digest differs" in lines[0]
  assert lines[0].endswith("step 2 is saved anew")
  restored = resume(tmp_path)
  assert restored.step == 2
  np.testing.assert_array_equal(restored.state["a"], toy_state(2)["a"])


def test_a_whole_step_is_not_written_again(tmp_path):
  save(tmp_path, 1)
  before = files_of(tmp_path)
  assert save(tmp_path, 1).saved_step == 1
  assert files_of(tmp_path) == before


def test_a_pickle_inside_a_checkpoint_does_not_run(tmp_path, lines):
  class Bomb:
    def __reduce__(self):
      return (tmp_path.joinpath("canary").touch, ())

  bomb = pickle.dumps(Bomb())
  workdir = tmp_path / "run"
  save(workdir, 1, 2)
  path = workdir / "checkpoints" / "2"
  for name, content in files_of(path).items():
    if name != "manifest.json":
      (path / name).write_bytes(bomb)
      assert resume(workdir).step == 1, name
      if name in ("run/metadata", "state/_METADATA", "_CHECKPOINT_METADATA"):
        manifest.write(path, 2)  # Even with right digests.
        assert resume(workdir).step in (1, 2), name
      (path / name).write_bytes(content)
      manifest.write(path, 2)
  (path / "more.npy").write_bytes(bomb)
  assert resume(workdir).step == 1
  assert not (tmp_path / "canary").exists()


# --- what is kept


def test_every_step_saved_has_its_manifest(tmp_path):
  assert save(tmp_path, 1, 2, 3).saved_step == 3
  directory = tmp_path / "checkpoints"
  assert saved_steps.complete_steps(directory) == [1, 2, 3]


@pytest.mark.parametrize("max_to_keep", [1, 2])
def test_damaged_newer_steps_cost_no_good_one_its_place(
  tmp_path, lines, max_to_keep
):
  save(tmp_path, 50, 57, accuracy=None)
  flip(max((tmp_path / "checkpoints/57/state/d").iterdir()))
  assert resume(tmp_path).step == 50
  save(tmp_path, 53, max_to_keep=max_to_keep)
  assert steps_of(tmp_path) == [50, 53, 57][2 - max_to_keep :]
  assert resume(tmp_path).step == 53


def test_a_step_that_a_kill_left_without_manifest_goes_with_the_next(tmp_path):
  save(tmp_path, 1, 2)
  delete(tmp_path / "checkpoints" / "2" / "manifest.json")
  assert resume(tmp_path).step == 1
  save(tmp_path, 3)
  assert steps_of(tmp_path) == [1, 3]


def test_an_evaluation_made_after_its_step_was_saved_counts(tmp_path, lines):
  directory = saved_steps.directory_of(tmp_path)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, toy_state(1), toy_run(1, 0.5))
    checkpoints.save(2, toy_state(2), {"evaluation": None})
    checkpoints.save(2, toy_state(2), toy_run(2, 0.75))
  assert saved_steps.scores(directory) == {1: 0.5, 2: 0.75}
  assert saved_steps.problems(directory, 2) == []
  path = directory / "evaluations" / "2.json"
  changed = path.read_text().replace("0.75", "0.95")
  for text in ("", "[]", '{"evaluation": {"step": 2}}', changed):
    path.write_text(text)  # It can be made again.
    assert saved_steps.read_run(directory, 2)["evaluation"] is None
  saved_steps.remove(directory, "2")
  assert not path.exists()
  assert lines == []


def test_the_best_and_the_period_outlive_max_to_keep(tmp_path):
  policy = {"max_to_keep": 2, "keep_period": 4}
  save(tmp_path, 1, accuracy=0.9, **policy)
  save(tmp_path, *range(2, 10), accuracy=0.1, **policy)
  assert steps_of(tmp_path) == [1, 4, 8, 9]
  assert choice.find_step(tmp_path, "best") == 1


def test_old_steps_stay_until_the_new_one_has_its_manifest(
  tmp_path, monkeypatch
):
  save(tmp_path, 1)
  seen = []
  write = manifest.write

  def spy(directory, step):
    seen.append(steps_of(tmp_path))
    write(directory, step)

  monkeypatch.setattr(manifest, "write", spy)
  save(tmp_path, 2, accuracy=0.9, max_to_keep=1)
  assert seen == [[1, 2]]
  assert steps_of(tmp_path) == [2]


def test_the_run_record_is_that_of_the_moment_of_saving(tmp_path):
  run = toy_run(1, 0.25)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, toy_state(1), run)
    run["evaluation"] = None
  assert saved_steps.scores(tmp_path / "checkpoints") == {1: 0.25}


def test_training_options_reach_the_checkpoints(tmp_path):
  runs.train_tiny(
    tmp_path, checkpoint_interval=1, max_to_keep=1, keep_period=3, num_steps=5
  )
  assert steps_of(tmp_path) == [3, 5]


# --- failures


def test_too_little_space_is_told_and_nothing_is_tried(
  tmp_path, lines, monkeypatch
):
  save(tmp_path, 1)
  usage = collections.namedtuple("usage", "free")
  free = [2**20, 2**30]
  monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage(free.pop(0)))
  checkpoints = save(tmp_path, 2, 3)
  assert len(lines) == 1
  assert "step 2 is not saved: it needs 1.0 MiB, and 1.0 MiB are" in lines[0]
  assert checkpoints.saved_step == 3
  assert steps_of(tmp_path) == [1, 3]


def test_a_save_that_fails_in_the_background_is_survived(
  tmp_path, lines, monkeypatch
):
  wait = ocp.AsyncCheckpointer.wait_until_finished
  full = [OSError(errno.ENOSPC, "No space left on device")]

  def fail_once(self):
    wait(self)
    directory = tmp_path / "checkpoints"
    if full and (directory / "2").exists():
      (directory / "2").rename(directory / "2.orbax-checkpoint-tmp")
      raise full.pop()

  monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", fail_once)
  checkpoints = save(tmp_path, 1, 2)
  assert checkpoints.saved_step == 1
  assert len(lines) == 1
  assert "2: not saved: OSError: [Errno 28] No space left" in lines[0]
  assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]
  assert save(tmp_path, 2).saved_step == 2


def test_a_failed_save_with_several_errors_spoils_no_later_one(
  tmp_path, lines, monkeypatch
):
  wait = ocp.AsyncCheckpointer.wait_until_finished
  errors = []

  def raise_one_by_one(self):
    wait(self)
    if (tmp_path / "checkpoints" / "2").exists():
      (tmp_path / "checkpoints" / "2").rename(tmp_path / "failed")
      errors.extend([OSError(errno.ENOSPC, "No space left on device")] * 3)
    if errors:
      raise errors.pop()

  monkeypatch.setattr(
    ocp.AsyncCheckpointer, "wait_until_finished", raise_one_by_one
  )
  assert save(tmp_path, 1, 2, 3).saved_step == 3
  assert steps_of(tmp_path) == [1, 3]
  assert len(lines) == 1


def test_a_manifest_that_cannot_be_written_is_a_failed_save(
  tmp_path, lines, monkeypatch
):
  save(tmp_path, 1)

  def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(manifest, "write", full_disk)
    assert save(tmp_path, 2, max_to_keep=1).saved_step is None
  assert "2: not saved: OSError" in lines[0]
  assert steps_of(tmp_path) == [1]


def test_a_file_in_the_way_gets_one_line(tmp_path):
  (tmp_path / "checkpoints").write_text("")
  with pytest.raises(InputError, match=r"checkpoints: cannot be made \(File"):
    store.Checkpoints(tmp_path)


def test_training_ends_and_says_what_was_not_saved(
  tmp_path, monkeypatch, capsys
):
  from hrm_jax.train import __main__ as train

  result = {"step": 10, "saved_step": 5, "ended": "finished"}
  monkeypatch.setattr(train, "train", lambda *_, **__: result)
  flags = "--config=sudoku.py:mini", f"--workdir={tmp_path}"
  monkeypatch.setattr(sys, "argv", ["train", *flags])
  monkeypatch.setattr(console.log, "handlers", [])
  with pytest.raises(RunError, match="update 10 is not saved; the newest"):
    train.main()
  assert RunError.exit_code == 1
  assert '"saved_step": 5' in capsys.readouterr().out


@pytest.mark.slow
def test_killed_while_saving_leaves_only_what_is_whole(tmp_path):
  program = (
    "import itertools, pathlib, sys\n"
    "from tests.toy_checkpoints import save\n"
    "for step in itertools.count(1):\n"
    "  save(pathlib.Path(sys.argv[1]), step, max_to_keep=2)\n"
    "  print(step, flush=True)\n"
  )
  root = pathlib.Path(__file__).parent.parent
  for kill in (signal.SIGKILL, signal.SIGTERM):
    child = subprocess.Popen(
      [sys.executable, "-c", program, tmp_path],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
      cwd=root,
    )
    with child:
      done = [int(child.stdout.readline()) for _ in range(3)]
      child.send_signal(kill)
    restored = resume(tmp_path)
    assert restored.step >= done[-1]
    np.testing.assert_array_equal(
      restored.state["a"], toy_state(restored.step)["a"]
    )


# --- what may be good


def test_a_newer_format_is_named_even_if_its_manifest_is_another(tmp_path):
  save(tmp_path, 1, 2)
  path = tmp_path / "checkpoints" / "2"
  set_format(path, 2)
  (path / "manifest.json").write_text('{"version": 2}')
  with pytest.raises(InputError, match=r"2: it has format 2, .*; update "):
    resume(tmp_path)


@pytest.mark.parametrize("number", ["1", 1.0, True, 0, [1]])
def test_what_is_no_number_of_a_format_is_no_newer_one(tmp_path, number):
  save(tmp_path, 1)
  set_format(tmp_path / "checkpoints" / "1", number)
  with pytest.raises(InputError, match=r"1: expected format 1, got"):
    saved_steps.read_run(tmp_path / "checkpoints", 1)


def test_what_orbax_may_not_read_is_not_passed_over(tmp_path, monkeypatch):
  save(tmp_path, 1, 2)

  def refuse(*_, **__):
    raise ValueError("UNKNOWN: Error reading [os_error_code='5'] [spec=...]")

  monkeypatch.setattr(ocp.AsyncCheckpointer, "restore", refuse)
  with pytest.raises(InputError, match=r"2: cannot be read \(Input/output"):
    resume(tmp_path)


def test_nothing_is_saved_over_what_may_not_be_read(tmp_path, lines, locked):
  save(tmp_path, 1, 2)
  before = files_of(tmp_path)
  locked(tmp_path / "checkpoints" / "2" / "run" / "metadata", errno.EACCES)
  assert save(tmp_path, 2).saved_step is None
  assert "warning: step 2 is not saved, one is there: " in lines[0]
  assert files_of(tmp_path) == before

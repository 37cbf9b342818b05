"""Which checkpoints are whole, which is best, and which may go."""

import pytest

from hrm_jax.checkpoint import saved_steps
from hrm_jax.console import InputError
from tests.toy_checkpoints import make_step


@pytest.fixture
def directory(tmp_path):
  return tmp_path / "checkpoints"


def test_only_plain_numbers_are_steps(tmp_path, directory):
  make_step(tmp_path, 10)
  for name in (
    "007",
    "9.orbax-checkpoint-tmp",
    "\u0665",
    "-3",
    ".8.removed",
    "x",
  ):
    (directory / name).mkdir()
  assert saved_steps.all_steps(directory) == [10]


@pytest.mark.parametrize("text", ["{}", "[]", "3"])
def test_a_run_record_of_something_else_is_named(tmp_path, directory, text):
  path = make_step(tmp_path, 3) / "run" / "metadata"
  path.write_text(text)
  with pytest.raises(InputError, match="3/run/metadata: expected the desc"):
    saved_steps.read_run(directory, 3)


def test_a_step_without_sets_has_no_score(tmp_path, directory):
  make_step(tmp_path, 3, {})
  assert saved_steps.scores(directory) == {3: None}


def test_the_score_is_the_mean_over_the_sets(tmp_path, directory):
  make_step(tmp_path, 5, {"a": 0.5, "b": 0.25})
  assert saved_steps.scores(directory) == {5: 0.375}


def test_of_equally_good_steps_the_newest_is_best():
  assert saved_steps.best_step({5: 0.5, 6: 0.7, 9: 0.7, 12: 0.1}) == 9
  assert saved_steps.best_step({5: None}) is None


@pytest.mark.parametrize(
  ("policy", "gone"),
  [
    ({"max_to_keep": None}, []),
    ({"max_to_keep": 9}, []),
    ({"max_to_keep": 1}, [2, 6, 8]),
    ({"max_to_keep": 2}, [2, 6]),
    ({"max_to_keep": 1, "keep_period": 3}, [2, 8]),
    ({"max_to_keep": None, "keep_period": 3}, []),
  ],
)
def test_the_newest_the_best_and_the_period_stay(policy, gone):
  scores = {8: 0.2, 2: 0.1, 4: 0.9, 6: None, 10: 0.3}
  assert saved_steps.expendable(scores, **policy) == gone


def test_a_deletion_cut_short_leaves_no_half_step(
  tmp_path, directory, monkeypatch
):
  make_step(tmp_path, 5)

  def killed(path):
    (path / "manifest.json").unlink()
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(saved_steps.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
      saved_steps.remove(directory, "5")
  assert saved_steps.all_steps(directory) == []
  assert saved_steps.remove_leftovers(directory) == [".5.removed"]
  assert list(directory.iterdir()) == []


def test_whatever_lies_in_the_way_can_be_removed(tmp_path, directory):
  elsewhere = make_step(tmp_path, 5).rename(tmp_path / "elsewhere")
  (directory / "5").symlink_to(elsewhere)
  (directory / "6").write_text("")
  for name in ("5", "6"):
    saved_steps.remove(directory, name)
  assert list(directory.iterdir()) == []
  assert (elsewhere / "manifest.json").exists()


def test_steps_that_may_be_good_are_not_weighed_against_others(
  tmp_path, directory, monkeypatch
):
  for step in (3, 5, 7):
    make_step(tmp_path, step, {"a": 0.5})
  record = directory / "5" / "run" / "metadata"
  record.write_text(record.read_text().replace('"format": 1', '"format": 2'))
  read = saved_steps.pathlib.Path.read_text

  def refuse(path, **options):
    if path == directory / "7" / "run" / "metadata":
      raise PermissionError(13, "Permission denied", str(path))
    return read(path, **options)

  monkeypatch.setattr(saved_steps.pathlib.Path, "read_text", refuse)
  assert saved_steps.scores(directory) == {3: 0.5}


def test_a_step_that_cannot_be_looked_into_is_not_called_unfinished(
  tmp_path, directory, monkeypatch
):
  for step in (3, 5):
    (make_step(tmp_path, step) / "manifest.json").unlink()
  look = saved_steps.pathlib.Path.lstat

  def refuse(path):
    if path.parent == directory / "5":
      raise PermissionError(13, "Permission denied", str(path))
    return look(path)

  monkeypatch.setattr(saved_steps.pathlib.Path, "lstat", refuse)
  assert saved_steps.unfinished(directory, before=9) == [3]

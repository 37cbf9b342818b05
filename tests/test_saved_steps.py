"""Which checkpoints are whole, which is best, and which may go."""

import json

import pytest

from hrm_jax import console
from hrm_jax.checkpoint import manifest, saved_steps
from hrm_jax.console import InputError


def make_step(workdir, step, accuracy=None, evaluated=None):
  """A step with an evaluation, of this step if nothing else is said."""
  path = workdir / "checkpoints" / str(step)
  (path / "run").mkdir(parents=True)
  evaluation = accuracy is not None and {
    "step": evaluated or step,
    "sets": {k: {"exact_accuracy": v} for k, v in accuracy.items()},
  }
  run = {"format": 1, "evaluation": evaluation or None}
  (path / "run" / "metadata").write_text(json.dumps(run))
  manifest.write(path, step)
  return path


@pytest.fixture
def directory(tmp_path):
  return tmp_path / "checkpoints"


@pytest.fixture
def warnings(monkeypatch):
  lines = []
  monkeypatch.setattr(console.log, "warning", lines.append)
  return lines


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


def test_the_newest_whole_step_is_chosen_and_worse_ones_named(
  tmp_path, directory, warnings
):
  for step in (9, 10, 11):
    make_step(tmp_path, step)
  (directory / "11" / "manifest.json").unlink()
  (directory / "10" / "run" / "metadata").write_text("")
  assert saved_steps.choose_step(directory) == 9
  assert [line.split(": ")[1] for line in warnings] == [
    str(directory / "11" / "manifest.json"),
    str(directory / "10" / "run" / "metadata"),
  ]
  assert "passing over step 10" in warnings[1]


def test_strictly_a_damaged_newest_step_is_refused(tmp_path, directory):
  make_step(tmp_path, 9)
  (make_step(tmp_path, 10) / "run" / "metadata").unlink()
  with pytest.raises(InputError, match=r"10/run/metadata: is missing; --stri"):
    saved_steps.choose_step(directory, strict=True)


def test_no_step_is_chosen_where_none_is(tmp_path, directory):
  assert saved_steps.choose_step(directory) is None
  make_step(tmp_path, 3)
  assert saved_steps.choose_step(directory, passed_over={3}) is None


def test_a_run_starts_anew_only_where_nothing_was_ever_finished(
  tmp_path, directory
):
  anew = {"strict": False, "passed_over": ()}
  assert saved_steps.step_to_resume(directory, **anew) is None
  (make_step(tmp_path, 3) / "manifest.json").unlink()
  assert saved_steps.step_to_resume(directory, **anew) is None
  damaged = make_step(tmp_path, 4) / "run" / "metadata"
  assert saved_steps.step_to_resume(directory, **anew) == 4
  damaged.write_text("")
  with pytest.raises(InputError, match="none of its checkpoints is whole, and"):
    saved_steps.step_to_resume(directory, **anew)


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(
  tmp_path, directory, monkeypatch
):
  make_step(tmp_path, 3)

  def closed(path):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(saved_steps.os, "listdir", closed)
  with pytest.raises(InputError, match=r"cannot be read \(Permission denied"):
    saved_steps.choose_step(directory)


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


def test_an_evaluation_of_an_earlier_step_does_not_count(tmp_path, directory):
  make_step(tmp_path, 5, {"a": 0.5})
  make_step(tmp_path, 7, {"a": 0.9}, evaluated=5)
  make_step(tmp_path, 8)
  scores = saved_steps.scores(directory)
  assert scores == {5: 0.5, 7: None, 8: None}
  assert saved_steps.find_step(tmp_path, "best") == 5


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


def test_asking_for_a_damaged_step_is_refused(tmp_path):
  make_step(tmp_path, 4, {"a": 0.1})
  path = make_step(tmp_path, 5, {"a": 0.9}) / "run" / "metadata"
  path.write_text(path.read_text().replace("0.9", "0.8"))
  for step in (5, "best"):
    with pytest.raises(InputError, match=r"5/run/metadata: its digest differs"):
      saved_steps.find_step(tmp_path, step)


def test_asking_for_what_is_not_there_lists_what_is(tmp_path):
  with pytest.raises(InputError, match="no checkpoint there; train one"):
    saved_steps.find_step(tmp_path, None)
  path = make_step(tmp_path, 4)
  with pytest.raises(InputError, match="no step 5 there; it has 4"):
    saved_steps.find_step(tmp_path, 5)
  with pytest.raises(InputError, match="with an evaluation of its own"):
    saved_steps.find_step(tmp_path, "best")
  (path / "manifest.json").unlink()
  with pytest.raises(InputError, match="none of its checkpoints is whole"):
    saved_steps.find_step(tmp_path, None)


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


@pytest.fixture
def vanishing(tmp_path, directory, monkeypatch):
  """Deletes the first step that is looked at, once a newer one is whole."""
  look = manifest.problems

  def delete_first(path, step, **options):
    if not (directory / "9").exists():
      make_step(tmp_path, 9, {"a": 0.9})
      saved_steps.remove(directory, str(step))
    return look(path, step, **options)

  monkeypatch.setattr(manifest, "problems", delete_first)


def test_a_step_deleted_while_it_is_looked_at_is_no_damaged_one(
  tmp_path, directory, warnings, vanishing
):
  for step in (3, 5):
    make_step(tmp_path, step, {"a": 0.1 * step})
  assert saved_steps.choose_step(directory) == 9
  assert warnings == []


def test_a_named_step_deleted_while_it_is_looked_at_is_told(
  tmp_path, vanishing
):
  make_step(tmp_path, 5)
  with pytest.raises(InputError, match=r"5: it was deleted while .* one of 9"):
    saved_steps.find_step(tmp_path, 5)


def test_the_best_step_deleted_while_it_is_looked_at_is_another(
  tmp_path, vanishing
):
  make_step(tmp_path, 5, {"a": 0.5})
  assert saved_steps.find_step(tmp_path, "best") == 9


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

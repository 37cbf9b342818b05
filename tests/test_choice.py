"""Which checkpoint is chosen, also while a run deletes some."""

import pytest

from hrm_jax import console
from hrm_jax.checkpoint import choice, manifest, saved_steps
from hrm_jax.console import InputError
from tests.toy_checkpoints import make_step


@pytest.fixture
def directory(tmp_path):
  return tmp_path / "checkpoints"


@pytest.fixture
def warnings(monkeypatch):
  lines = []
  monkeypatch.setattr(console.log, "warning", lines.append)
  return lines


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


def test_the_newest_whole_step_is_chosen_and_worse_ones_named(
  tmp_path, directory, warnings
):
  for step in (9, 10, 11):
    make_step(tmp_path, step)
  (directory / "11" / "manifest.json").unlink()
  (directory / "10" / "run" / "metadata").write_text("")
  assert choice.choose_step(directory) == 9
  assert [line.split(": ")[1] for line in warnings] == [
    str(directory / "11" / "manifest.json"),
    str(directory / "10" / "run" / "metadata"),
  ]
  assert "passing over step 10" in warnings[1]


def test_strictly_a_damaged_newest_step_is_refused(tmp_path, directory):
  make_step(tmp_path, 9)
  (make_step(tmp_path, 10) / "run" / "metadata").unlink()
  with pytest.raises(InputError, match=r"10/run/metadata: is missing; --stri"):
    choice.choose_step(directory, strict=True)


def test_no_step_is_chosen_where_none_is(tmp_path, directory):
  assert choice.choose_step(directory) is None
  make_step(tmp_path, 3)
  assert choice.choose_step(directory, passed_over={3}) is None


def test_a_run_starts_anew_only_where_nothing_was_ever_finished(
  tmp_path, directory
):
  anew = {"strict": False, "passed_over": ()}
  assert choice.step_to_resume(directory, **anew) is None
  (make_step(tmp_path, 3) / "manifest.json").unlink()
  assert choice.step_to_resume(directory, **anew) is None
  damaged = make_step(tmp_path, 4) / "run" / "metadata"
  assert choice.step_to_resume(directory, **anew) == 4
  damaged.write_text("")
  with pytest.raises(InputError, match="none of its checkpoints is whole, and"):
    choice.step_to_resume(directory, **anew)


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(
  tmp_path, directory, monkeypatch
):
  make_step(tmp_path, 3)

  def closed(path):
    raise PermissionError(13, "Permission denied", str(path))

  monkeypatch.setattr(saved_steps.os, "listdir", closed)
  with pytest.raises(InputError, match=r"cannot be read \(Permission denied"):
    choice.choose_step(directory)


def test_an_evaluation_of_an_earlier_step_does_not_count(tmp_path, directory):
  make_step(tmp_path, 5, {"a": 0.5})
  make_step(tmp_path, 7, {"a": 0.9}, evaluated=5)
  make_step(tmp_path, 8)
  scores = saved_steps.scores(directory)
  assert scores == {5: 0.5, 7: None, 8: None}
  assert choice.find_step(tmp_path, "best") == 5


def test_asking_for_a_damaged_step_is_refused(tmp_path):
  make_step(tmp_path, 4, {"a": 0.1})
  path = make_step(tmp_path, 5, {"a": 0.9}) / "run" / "metadata"
  path.write_text(path.read_text().replace("0.9", "0.8"))
  for step in (5, "best"):
    with pytest.raises(InputError, match=r"5/run/metadata: its digest differs"):
      choice.find_step(tmp_path, step)


def test_asking_for_what_is_not_there_lists_what_is(tmp_path):
  with pytest.raises(InputError, match="no checkpoint there; train one"):
    choice.find_step(tmp_path, None)
  path = make_step(tmp_path, 4)
  with pytest.raises(InputError, match="no step 5 there; it has 4"):
    choice.find_step(tmp_path, 5)
  with pytest.raises(InputError, match="training has evaluated none of these"):
    choice.find_step(tmp_path, "best")
  (path / "manifest.json").unlink()
  with pytest.raises(InputError, match="none of its checkpoints is whole"):
    choice.find_step(tmp_path, None)


def test_what_is_inside_a_workdir_is_no_workdir(tmp_path):
  make_step(tmp_path, 4)
  inside = tmp_path / "checkpoints"
  for path, meant in (
    (inside, f"its checkpoints; choose --workdir={tmp_path}."),
    (inside / "4", f"its steps; choose --workdir={tmp_path} --step=4."),
    (inside / "5", "no checkpoint there; train one"),
  ):
    with pytest.raises(InputError) as error:
      choice.find_step(path, None)
    assert meant in str(error.value)


def test_a_step_deleted_while_it_is_looked_at_is_no_damaged_one(
  tmp_path, directory, warnings, vanishing
):
  for step in (3, 5):
    make_step(tmp_path, step, {"a": 0.1 * step})
  assert choice.choose_step(directory) == 9
  assert warnings == []


def test_a_named_step_deleted_while_it_is_looked_at_is_told(
  tmp_path, vanishing
):
  make_step(tmp_path, 5)
  with pytest.raises(InputError, match=r"5: it was deleted while .* one of 9"):
    choice.find_step(tmp_path, 5)


def test_the_best_step_deleted_while_it_is_looked_at_is_another(
  tmp_path, vanishing
):
  make_step(tmp_path, 5, {"a": 0.5})
  assert choice.find_step(tmp_path, "best") == 9

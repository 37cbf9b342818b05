"""Answers on disk: all of them, or none and a line that says so."""

import numpy as np
import pytest

from hrm_jax.evaluate import predictions
from hrm_jax.evaluate.predictions import PredictionFiles

ROWS = {
  "rows": np.arange(3),
  "logits": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
}


def files(workdir, **given):
  directory = predictions.directory_of(workdir, 7, "test")
  return PredictionFiles.create(directory, {"all": 3}, **given)


def test_batches_become_one_array_per_column(tmp_path):
  with files(tmp_path) as writer:
    for part in (slice(0, 2), slice(2, 3)):
      writer.write("all", {name: rows[part] for name, rows in ROWS.items()})
    assert not predictions.directory_of(tmp_path, 7, "test").exists()
  assert not writer.failed
  directory = tmp_path / "predictions" / "7" / "test"
  for name, rows in ROWS.items():
    saved = np.load(directory / f"all__{name}.npy", mmap_mode="r")
    assert saved.dtype == rows.dtype
    np.testing.assert_array_equal(saved, rows)


@pytest.mark.parametrize("other_fails", [False, True])
def test_a_full_disk_is_told_once_and_leaves_nothing(
  tmp_path, monkeypatch, other_fails
):
  lines = []
  monkeypatch.setattr(predictions.log, "error", lines.append)
  total = int(other_fails)
  with files(tmp_path, sum_over_processes=lambda n: n + total) as writer:
    if not other_fails:
      (partial,) = (tmp_path / "predictions" / "7").iterdir()
      (partial / "all__rows.npy").symlink_to("/dev/full")
    for _ in range(2):
      writer.write("all", ROWS)
  assert writer.failed
  assert list((tmp_path / "predictions" / "7").iterdir()) == []
  assert len(lines) == (not other_fails)
  assert all("(No space left on device)" in line for line in lines)


def test_an_evaluation_that_fails_leaves_nothing(tmp_path):
  def evaluate():
    with files(tmp_path) as writer:
      writer.write("all", ROWS)
      raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    evaluate()
  assert list((tmp_path / "predictions" / "7").iterdir()) == []


@pytest.mark.parametrize("where", ["predictions", "predictions/7/test"])
def test_a_folder_that_cannot_be_made_is_told_and_nothing_else(
  tmp_path, monkeypatch, where
):
  lines = []
  monkeypatch.setattr(predictions.log, "error", lines.append)
  (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
  (tmp_path / where).write_text("")
  with files(tmp_path) as writer:
    writer.write("all", ROWS)
    writer.write("all", ROWS)
  assert writer.failed
  (line,) = lines
  assert ".test.partial: cannot be written (Not a directory)" in line
  assert (tmp_path / where).read_text() == ""

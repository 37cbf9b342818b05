"""The shared writer: all of a data set or nothing, and never in the way."""

import errno
import json
import os

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import puzzle, writer
from tests.commands import files_of


def write(root, *, value=1, **arguments):
  """A set of 3 examples in 2 puzzles in 1 group, and an empty test split."""
  with writer.DatasetWriter(
    root, seq_len=4, vocab_size=6, **arguments
  ) as dataset:
    for examples in (2, 1):
      cells = np.full((examples, 4), value, np.uint8)
      dataset.add_examples("train", cells, cells + np.uint8(1))
    dataset.add_puzzles(
      "train",
      identifiers=[1, 2],
      examples_per_puzzle=[1, 2],
      puzzles_per_group=[2],
    )
    return dataset.finish(
      identifiers=["<blank>", "one", "two"], build={"builder": "test"}
    )


def test_pieces_become_arrays_and_metadata(tmp_path):
  build = write(tmp_path / "out")

  def load(split, field):
    path = puzzle.field_path(tmp_path / "out", split, "all", field)
    # The way in which training reads them.
    return np.load(path, mmap_mode="r", allow_pickle=False)

  np.testing.assert_array_equal(load("train", "inputs"), np.ones((3, 4)))
  np.testing.assert_array_equal(load("train", "labels"), np.full((3, 4), 2))
  assert load("train", "puzzle_identifiers").tolist() == [1, 2]
  assert load("train", "puzzle_indices").tolist() == [0, 1, 3]
  assert load("train", "group_indices").tolist() == [0, 2]
  assert load("train", "inputs").dtype == np.uint8
  assert load("train", "group_indices").dtype == np.int32
  assert np.load(tmp_path / "out/test/all__inputs.npy").shape == (0, 4)
  metadata = puzzle.read_metadata(tmp_path / "out", "train")
  assert metadata.mean_puzzle_examples == 1.5
  assert metadata.num_puzzle_identifiers == 3
  assert (metadata.total_groups, metadata.total_puzzles) == (1, 2)
  assert build["counts"]["train"] == {"groups": 1, "puzzles": 2, "examples": 3}
  assert json.loads((tmp_path / "out" / "build.json").read_text()) == build
  assert build.keys() == {"builder", "commit", "counts"}


def test_examples_that_no_puzzle_owns_are_a_mistake_of_the_builder(tmp_path):
  with writer.DatasetWriter(
    tmp_path / "out", seq_len=4, vocab_size=6
  ) as dataset:
    dataset.add_examples("train", *np.ones((2, 3, 4), np.uint8))
    with pytest.raises(AssertionError):
      dataset.finish(identifiers=["<blank>"], build={})
  assert list(tmp_path.iterdir()) == []


def test_parents_are_made_only_for_a_finished_set(tmp_path):
  out = tmp_path / "a" / "b" / "out"
  with (
    pytest.raises(RuntimeError),
    writer.DatasetWriter(out, seq_len=4, vocab_size=6),
  ):
    raise RuntimeError
  assert list(tmp_path.iterdir()) == []
  write(out)
  assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_existing_set_is_replaced_only_on_request(tmp_path):
  out = tmp_path / "out"
  write(out)
  before = files_of(out)
  with pytest.raises(InputError, match="already exists; pass --overwrite"):
    write(out, value=3)
  assert files_of(out) == before
  (out / "leftover").touch()
  write(out, value=3, overwrite=True)
  assert files_of(out).keys() == before.keys()
  assert files_of(out) != before
  assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_data_set_is_never_replaced(tmp_path):
  (tmp_path / "home").mkdir()
  (tmp_path / "home" / "thesis.tex").touch()
  with pytest.raises(InputError, match="holds files but no data set"):
    write(tmp_path / "home", overwrite=True)
  with pytest.raises(InputError, match="exists and is not a directory"):
    write(tmp_path / "home" / "thesis.tex", overwrite=True)
  assert (tmp_path / "home" / "thesis.tex").exists()
  (tmp_path / "empty").mkdir()
  write(tmp_path / "empty")


def test_a_set_that_appeared_meanwhile_is_not_replaced(tmp_path):
  out = tmp_path / "out"
  with writer.DatasetWriter(out, seq_len=4, vocab_size=6) as dataset:
    write(out)
    with pytest.raises(InputError, match="already exists"):
      dataset.finish(identifiers=["<blank>"], build={})
  assert len(np.load(out / "train" / "all__inputs.npy")) == 3
  assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_replacement_keeps_the_old_set(tmp_path, monkeypatch):
  out = tmp_path / "out"
  write(out)
  before = files_of(out)
  rename = type(tmp_path).rename

  def fail_for_new_set(path, target):
    if path.name.startswith(".out.building-") and not path.name.endswith("old"):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return rename(path, target)

  monkeypatch.setattr(type(tmp_path), "rename", fail_for_new_set)
  with pytest.raises(InputError, match=r"out: cannot write: .*No space left"):
    write(out, value=3, overwrite=True)
  assert files_of(out) == before
  assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_set_lies_where_a_link_points(tmp_path):
  (tmp_path / "disk").mkdir()
  (tmp_path / "link").symlink_to(tmp_path / "disk" / "set")
  write(tmp_path / "link")
  assert (tmp_path / "disk" / "set" / "build.json").exists()


def test_an_error_of_the_input_does_not_blame_the_output(tmp_path):
  out = tmp_path / "out"
  error = PermissionError(errno.EACCES, "Permission denied", "given.csv")
  with (
    pytest.raises(PermissionError, match=r"given\.csv"),
    writer.DatasetWriter(out, seq_len=4, vocab_size=6),
  ):
    raise error
  assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_the_output(tmp_path, monkeypatch):
  def fail(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(writer._RowFile, "append", fail)
  with pytest.raises(InputError, match=r"out: cannot write: .*No space left"):
    write(tmp_path / "out")
  assert list(tmp_path.iterdir()) == []


def test_an_old_set_that_cannot_be_deleted_is_told_and_the_new_one_stands(
  tmp_path, monkeypatch, lines
):
  out = tmp_path / "out"
  write(out)
  before = files_of(out)

  def refuse(path, **arguments):
    if not arguments:
      raise PermissionError(errno.EACCES, "Permission denied", str(path))

  monkeypatch.setattr(writer.shutil, "rmtree", refuse)
  write(out, value=3, overwrite=True)
  assert files_of(out) != before
  (old,) = tmp_path.glob(".out.building-*")
  assert files_of(old) == before
  assert lines == [
    f"warning: {out}: the data set that this one replaces cannot be removed "
    f"(Permission denied); it lies in {old}"
  ]

"""Damaged or contradicting files of a data set are refused, not guessed at."""

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import FIELDS
from hrm_jax.data.split import digest, open_split
from tests.datasets import rewrite_field, write_split

GROUPS = [[3, 1], [2]]


@pytest.mark.parametrize(
  ("field", "change", "message"),
  [
    (
      "inputs",
      lambda a: a[:, :3],
      r"shape \(9, 4\) by key 'seq_len' of .*json, got \(9, 3\)",
    ),
    (
      "inputs",
      lambda a: a.ravel(),
      r"expected shape \(36, 4\) by .*, got \(36,\)",
    ),
    (
      "labels",
      lambda a: a[1:],
      r"shape \(9, 4\) as .*inputs\.npy, got \(8, 4\)",
    ),
    ("labels", lambda a: a + 0.5, r"expected integers, got dtype float64"),
    ("inputs", lambda a: a > 3, r"expected integers, got dtype bool"),
    ("inputs", lambda a: a[:0], r"got shape \(0, 4\)"),
    ("group_indices", lambda a: a[1], r"got shape \(\)"),
    ("puzzle_identifiers", lambda a: a[:, None], r"shape \(3,\), got \(3, 1\)"),
    (
      "puzzle_identifiers",
      lambda a: a + 1,
      r"row 2: .* in 0\.\.3 by key .*json, got 4",
    ),
    (
      "puzzle_identifiers",
      lambda a: a - 2,
      r"row 0: .* in 0\.\.3 by key .*json, got -1",
    ),
    (
      "puzzle_indices",
      lambda a: a[:-1],
      r"shape \(4,\), one more than .*, got \(3,\)",
    ),
    ("puzzle_indices", lambda a: a + 1, r"from 0 to 9, .* got 1 to 10"),
    ("puzzle_indices", lambda a: a + (a == 0), r"from 0 to 9, .* got 1 to 9"),
    ("puzzle_indices", lambda a: a[[0, 2, 1, 3]], r"got 5 then 4 at entry 2"),
    ("group_indices", lambda a: a[:, None], r"shape \(3,\), got \(3, 1\)"),
    ("group_indices", lambda a: a[:-1], r"from 0 to 3, .* got 0 to 2"),
    ("group_indices", lambda a: a[[0, 0, 2]], r"got 0 then 0 at entry 1"),
    ("group_indices", lambda a: a[[0, 2]], r"'total_groups': expected 1, .* 2"),
  ],
)
def test_arrays_at_odds_are_refused(tmp_path, field, change, message):
  path = write_split(tmp_path, groups=[[4, 1], [4]])
  rewrite_field(path, field, change)
  with pytest.raises(InputError, match=message) as error:
    open_split(tmp_path, "train")
  assert ("dataset.json" if "total" in message else field) in str(error.value)


def test_a_split_that_is_not_there_is_told_with_those_that_are(tmp_path):
  write_split(tmp_path, groups=GROUPS)
  with pytest.raises(InputError, match="with a 'valid' split; it has train"):
    open_split(tmp_path, "valid")
  with pytest.raises(InputError, match=r"with a 'valid' split\.$"):
    open_split(tmp_path / "nothing", "valid")


def test_a_missing_file_is_named(tmp_path):
  (write_split(tmp_path, groups=GROUPS) / "all__labels.npy").unlink()
  with pytest.raises(InputError, match=r"all__labels\.npy: no such file"):
    open_split(tmp_path, "train")


def test_a_split_without_sets_is_refused(tmp_path):
  write_split(tmp_path, groups=GROUPS, sets=[])
  with pytest.raises(InputError, match=r"'sets': expected a name"):
    open_split(tmp_path, "train")


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, size):
  for field in FIELDS:
    root = tmp_path / field
    file = write_split(root, groups=GROUPS) / f"all__{field}.npy"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(InputError, match=rf"{field}\.npy: .* complete"):
      open_split(root, "train")


def test_bytes_after_the_end_are_refused(tmp_path):
  file = write_split(tmp_path, groups=GROUPS) / "all__inputs.npy"
  size = file.stat().st_size
  file.write_bytes(file.read_bytes() + b"x")
  message = rf"all__inputs\.npy: expected {size} bytes, got {size + 1}\."
  with pytest.raises(InputError, match=message):
    open_split(tmp_path, "train")


@pytest.mark.parametrize(
  "content",
  [b'{"a": "\xff"}', b"[" * 100_000, b'{"pad_id": ' + b"1" * 5000 + b"}"],
  ids=["not UTF-8", "deep", "huge number"],
)
def test_unreadable_metadata_is_refused(tmp_path, content):
  (write_split(tmp_path, groups=GROUPS) / "dataset.json").write_bytes(content)
  with pytest.raises(InputError, match=r"dataset\.json: (cannot|not valid)"):
    open_split(tmp_path, "train")


def test_a_path_that_is_a_file_is_refused(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match="cannot be read"):
    open_split(tmp_path / "file", "train")


def test_pickled_arrays_are_not_loaded(tmp_path):
  class Trap:
    def __reduce__(self):
      return (tmp_path.joinpath("sprung").touch, ())

  for field in FIELDS:
    root = tmp_path / field
    file = write_split(root, groups=GROUPS) / f"all__{field}.npy"
    trap = np.array([Trap()], object)
    np.save(file, trap, allow_pickle=True)
    with pytest.raises(InputError, match=rf"{field}\.npy: "):
      open_split(root, "train")
    trap.dump(file)
    with pytest.raises(InputError, match=rf"{field}\.npy: "):
      open_split(root, "train")
  assert not (tmp_path / "sprung").exists()


def test_a_digest_names_the_content_of_a_split(tmp_path):
  groups = {"a": [[1, 2], [3]], "b": [[2]]}
  paths = [write_split(tmp_path / n, groups=groups) for n in "xyz"]
  for path in paths[1:]:  # Read anew, and kept in other integers.
    inputs = np.load(path / "a__inputs.npy")
    np.save(path / "a__inputs.npy", inputs.astype(np.int32))
  same = {digest(open_split(tmp_path / n, "train")) for n in "xy"}
  assert len(same) == 1
  for name in ("a__inputs", "a__labels", "a__puzzle_identifiers"):
    path = paths[2] / f"{name}.npy"
    values = before = np.load(path)
    np.save(path, values[::-1])
    other = digest(open_split(tmp_path / "z", "train"))
    assert other not in same, name
    np.save(path, before)


def test_a_digest_of_a_long_split_takes_rows_from_all_of_it(tmp_path):
  path = write_split(tmp_path, groups=[[1]] * 1000) / "all__inputs.npy"
  inputs = np.load(path)
  of = set()
  for start in (None, 0, 500, 990):
    changed = inputs.copy()
    if start is not None:
      changed[start : start + 10] += 1
    np.save(path, changed)
    of.add(digest(open_split(tmp_path, "train")))
  assert len(of) == 4

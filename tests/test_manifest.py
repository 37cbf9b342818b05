"""The digests of a directory: whatever changes, the bad file is named."""

import os

import pytest

from hrm_jax.checkpoint import manifest
from hrm_jax.checkpoint.manifest import Problem

FILES = {"a": b"first", "below/b": b"second" * 99, "below/empty": b""}


@pytest.fixture
def directory(tmp_path):
  for name, content in FILES.items():
    path = tmp_path / "7" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  manifest.write(tmp_path / "7", 7)
  return tmp_path / "7"


def flip(path, bit):
  content = bytearray(path.read_bytes())
  content[bit // 8] ^= 1 << bit % 8
  path.write_bytes(content)


def test_what_was_written_is_good(directory):
  assert manifest.problems(directory, 7) == []


def test_written_twice_is_written_alike(directory):
  before = (directory / "manifest.json").read_bytes()
  manifest.write(directory, 7)
  assert (directory / "manifest.json").read_bytes() == before
  assert not list(directory.glob("*.partial"))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(directory, name):
  (directory / name).unlink()
  assert manifest.problems(directory, 7) == [Problem(name, "is missing")]


@pytest.mark.parametrize("name", ["a", "below/b"])
def test_a_truncated_file_is_named_with_both_sizes(directory, name):
  size = len(FILES[name])
  (directory / name).write_bytes(FILES[name][:-1])
  for digests in (True, False):
    assert manifest.problems(directory, 7, digests=digests) == [
      Problem(name, f"expected {size} bytes, got {size - 1}")
    ]


@pytest.mark.parametrize("name", ["a", "below/b"])
def test_a_flipped_bit_shows_in_the_digest(directory, name):
  flip(directory / name, 8 * len(FILES[name]) - 1)
  [(file, what, _)] = manifest.problems(directory, 7)
  assert (file, what[:18]) == (name, "its digest differs")
  assert manifest.problems(directory, 7, digests=False) == []


def test_every_bad_file_is_named_in_order(directory):
  (directory / "below/b").unlink()
  (directory / "a").write_bytes(b"")
  names = [file for file, _, _ in manifest.problems(directory, 7)]
  assert names == ["a", "below/b"]


def test_a_file_too_many_is_named(directory):
  (directory / "below/more").write_bytes(b"")
  assert manifest.problems(directory, 7) == [
    Problem("below/more", "is not of this checkpoint")
  ]


def test_without_a_manifest_the_directory_is_incomplete(directory):
  (directory / "manifest.json").unlink()
  [(file, what, _)] = manifest.problems(directory, 7)
  assert file == "manifest.json"
  assert "incomplete" in what


def test_nothing_at_all_is_incomplete(tmp_path):
  [(file, _, _)] = manifest.problems(tmp_path / "none", 7)
  assert file == "manifest.json"
  (tmp_path / "file").write_text("")
  [(file, _, _)] = manifest.problems(tmp_path / "file", 7)
  assert file == "manifest.json"


def test_any_flipped_bit_of_the_manifest_shows(directory):
  path = directory / "manifest.json"
  content = path.read_bytes()
  for bit in range(8 * len(content)):
    flip(path, bit)
    [(file, _, _)] = manifest.problems(directory, 7)
    assert file == "manifest.json", bit
    path.write_bytes(content)


def test_any_cut_of_the_manifest_shows(directory):
  path = directory / "manifest.json"
  content = path.read_bytes()
  for size in range(len(content)):
    path.write_bytes(content[:size])
    assert manifest.problems(directory, 7), size


@pytest.mark.parametrize(
  "text", ["[]", "null", '{"files": 3, "step": 7}', "[" * 100_000]
)
def test_another_json_is_no_manifest(directory, text):
  (directory / "manifest.json").write_text(text)
  assert manifest.problems(directory, 7) == [
    Problem("manifest.json", "is not the manifest of step 7")
  ]


def test_another_step_under_this_name_is_refused(directory):
  other = directory.with_name("8")
  directory.rename(other)
  assert manifest.problems(other, 8) == [
    Problem("manifest.json", "is not the manifest of step 8")
  ]


def test_a_link_is_no_file_of_a_checkpoint(directory):
  twin = directory.with_name("twin")
  (directory / "a").rename(twin)
  (directory / "a").symlink_to(twin)
  assert manifest.problems(directory, 7) == [
    Problem("a", "is not a regular file")
  ]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_manifest_that_is_no_file_is_not_waited_for(directory, make):
  own = directory / "manifest.json"
  twin = directory.with_name("twin")
  own.rename(twin)
  make(own)
  wanted = [Problem("manifest.json", "is not a regular file")]
  assert manifest.problems(directory, 7) == wanted
  (own.rmdir if own.is_dir() else own.unlink)()
  own.symlink_to(twin)
  assert manifest.problems(directory, 7) == wanted


def test_what_cannot_be_read_is_named_itself(directory, monkeypatch):
  def closed(path, onerror):
    onerror(PermissionError(13, "Permission denied", str(directory / "below")))
    yield

  monkeypatch.setattr(manifest.os, "walk", closed)
  assert manifest.problems(directory, 7) == [
    Problem("below", "cannot be read (Permission denied)", 13)
  ]


def test_a_failed_write_leaves_no_manifest(directory, monkeypatch):
  (directory / "manifest.json").unlink()

  def full_disk(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(manifest.pathlib.Path, "replace", full_disk)
  with pytest.raises(OSError, match="No space"):
    manifest.write(directory, 7)
  assert sorted(p.name for p in directory.iterdir()) == ["a", "below"]

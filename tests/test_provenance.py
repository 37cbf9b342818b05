"""Which commit made something: this code's, and no other's."""

import pathlib
import shutil
import subprocess

from hrm_jax.data import provenance


def git(directory, *arguments):
  name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
  done = subprocess.run(
    ["git", "-C", str(directory), *name, *arguments],
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.strip()


def commit_of(directory, monkeypatch):
  """What a copy of the code says that lies there."""
  path = directory / "hrm_jax" / "data" / "provenance.py"
  path.parent.mkdir(parents=True)
  shutil.copy(pathlib.Path(provenance.__file__), path)
  monkeypatch.setattr(provenance, "__file__", str(path))
  return provenance.source_commit()


def test_a_checkout_names_its_commit(tmp_path, monkeypatch):
  git(tmp_path, "init")
  git(tmp_path, "commit", "--allow-empty", "-m", "first")
  head = git(tmp_path, "rev-parse", "HEAD")
  assert commit_of(tmp_path, monkeypatch) == head


def test_a_copy_within_another_repository_names_none(tmp_path, monkeypatch):
  git(tmp_path, "init")
  git(tmp_path, "commit", "--allow-empty", "-m", "first")
  assert commit_of(tmp_path / "lib", monkeypatch) is None


def test_a_checkout_without_a_commit_names_none(tmp_path, monkeypatch):
  git(tmp_path, "init")
  assert commit_of(tmp_path, monkeypatch) is None

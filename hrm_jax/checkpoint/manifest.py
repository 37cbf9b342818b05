"""A digest for each file of a directory, so that damage shows.

`manifest.json` lies in the directory it describes: size in bytes and SHA-256
of every other file below. It is written last and all at once, so a directory
that was cut off half-way has none. It guards against accidents, not against
somebody who rewrites files and manifest alike.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from hrm_jax.checkpoint import atomic_file
from hrm_jax.checkpoint.errors import no_access

FILE_NAME = "manifest.json"


class Problem(NamedTuple):
  """One bad file.

  Attributes:
    file: its path below the directory.
    what: is wrong with it, to follow its name in a line.
    no_access: the number of the system's error, if the file may be good and
      only cannot be read; see `errors.no_access`.
  """

  file: str
  what: str
  no_access: int | None = None


def write(directory: pathlib.Path, step: int) -> None:
  """Writes the manifest of a directory that will not change any more.

  Args:
    directory: whose files to digest.
    step: the checkpoint that it holds.

  Raises:
    OSError: a file cannot be read or written; no manifest is left behind.
  """
  files = {name: describe_file(path) for name, path in _entries(directory)}
  atomic_file.write_text(directory / FILE_NAME, _to_text(step, files))


def problems(
  directory: pathlib.Path, step: int, *, digests: bool = True
) -> list[Problem]:
  """Compares a directory with its manifest.

  Args:
    directory: where the checkpoint lies.
    step: the checkpoint that it should hold.
    digests: whether to read every file; else only names and sizes count.

  Returns:
    The bad files in order of their names; none if all is as it was written.
  """
  own = directory / FILE_NAME
  try:
    # A pipe would block, and a link may point anywhere.
    if own.is_symlink() or (own.exists() and not own.is_file()):
      return [Problem(FILE_NAME, "is not a regular file")]
    text = own.read_text(encoding="utf-8")
    value = json.loads(text)
    expected = value["files"]
    # What was written can be written again: one flipped bit shows.
    if value["step"] == step and text == _to_text(step, expected):
      found = dict(_entries(directory))
      names = sorted(expected.keys() | found.keys())
      each = (
        _problem(name, expected.get(name), found.get(name), digests)
        for name in names
      )
      return [problem for problem in each if problem]
  except (FileNotFoundError, NotADirectoryError):
    return [
      Problem(
        FILE_NAME, "is missing: the checkpoint is incomplete, or being saved"
      )
    ]
  except OSError as error:
    bad = pathlib.Path(error.filename or own)
    if bad.is_relative_to(directory):
      bad = bad.relative_to(directory)
    return [_unread(str(bad), error)]
  except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
    pass
  return [Problem(FILE_NAME, f"is not the manifest of step {step}")]


def _entries(directory: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  """Every file and link below a directory, except for its manifest."""
  own = directory / FILE_NAME

  def give_up(error: OSError) -> None:
    raise error

  for root, folders, files in os.walk(directory, onerror=give_up):
    links = [name for name in folders if os.path.islink(f"{root}/{name}")]
    for name in (*files, *links):
      path = pathlib.Path(root, name)
      if path not in (own, atomic_file.partial_of(own)):
        yield path.relative_to(directory).as_posix(), path


def describe_file(path: pathlib.Path) -> dict[str, int | str]:
  """Size, `bytes`, and digest, `sha256`, of a file."""
  return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: pathlib.Path) -> str:
  """The digest of a file, read from its beginning to its end."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _to_text(step: int, files: dict) -> str:
  value = {"version": 1, "step": step, "files": files}
  # A digest of the manifest itself: without it a flipped bit in here would
  # put the blame on another file.
  digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode())
  value["sha256"] = digest.hexdigest()
  return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _problem(
  name: str,
  expected: dict | None,
  path: pathlib.Path | None,
  digests: bool,
) -> Problem | None:
  """What is wrong with one file."""
  if expected is None:
    return Problem(name, "is not of this checkpoint")
  if path is None:
    return Problem(name, "is missing")
  # A pipe would block, and a link may point anywhere.
  if path.is_symlink() or not path.is_file():
    return Problem(name, "is not a regular file")
  try:
    size = path.stat().st_size
    if size != expected["bytes"]:
      return Problem(name, f"expected {expected['bytes']} bytes, got {size}")
    if digests and describe_file(path) != expected:
      return Problem(name, "its digest differs: the content has changed")
  except OSError as error:
    return _unread(name, error)
  return None


def _unread(name: str, error: OSError) -> Problem:
  return Problem(name, f"cannot be read ({error.strerror})", no_access(error))

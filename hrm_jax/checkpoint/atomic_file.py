"""Writes a file all at once: a reader finds the old one or the new one."""

import errno
import json
import os
import pathlib
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file in UTF-8; see `write_bytes`."""
  write_bytes(path, text.encode("utf-8"))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file.

  Raises:
    OSError: it cannot be written; what was there is there still.
  """
  if path.exists() and not (path.is_file() or path.is_dir()):
    # A pipe or a device: who may would replace it for everybody.
    raise OSError(errno.EINVAL, "It is no regular file", str(path))
  partial = partial_of(path)
  try:
    with partial.open("wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())  # Else a power cut may leave an empty file.
    partial.replace(path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise


def write_json(
  path: pathlib.Path, value: Any, *, indent: int | None = 2
) -> None:
  """Writes a value as JSON, and a line's end; see `write_text`."""
  write_text(path, json.dumps(value, indent=indent) + "\n")


def partial_of(path: pathlib.Path) -> pathlib.Path:
  """Where a file lies while it is written; a kill may leave it there."""
  return path.with_name(f".{path.name}.partial")

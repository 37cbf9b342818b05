"""The hidden directory in which a data set grows, and what a kill leaves of it.

Beside each such directory lies a lock file, which its builder holds. The lock
goes with the process, however it ends: so the next builder of the same data
set can tell the remains of a dead builder from the work of a living one.
"""

import contextlib
import glob
import os
import pathlib
import secrets
import shutil

import filelock

from hrm_jax.console import log

# Behind the name of the building directory: its lock, and the data set that
# it takes the place of.
_LOCK, _REPLACED = ".lock", ".old"
_RANDOM_BYTES = 4  # Two hexadecimal digits each end the directory's name.


class Building:
  """A new hidden directory, and the lock that says that it is alive.

  Attributes:
    path: the directory.
    replaced: where the data set that it replaces may wait meanwhile.
  """

  def __init__(self, parent: pathlib.Path, name: str):
    """Makes the directory.

    Args:
      parent: where; it exists.
      name: of the data set that is built.

    Raises:
      OSError: it cannot be made.
    """
    self.path = parent / f"{_prefix(name)}{secrets.token_hex(_RANDOM_BYTES)}"
    self.replaced = self.path.with_name(self.path.name + _REPLACED)
    # The lock comes first: without it the directory would look abandoned.
    self._lock_path = self.path.with_name(self.path.name + _LOCK)
    self._lock = _acquire(self._lock_path)
    try:
      self.path.mkdir()
    except BaseException:
      self.discard()
      raise

  def discard(self) -> None:
    """Removes what is left of the directory, and its lock."""
    shutil.rmtree(self.path, ignore_errors=True)
    # Before the lock is given back, or another could take it meanwhile.
    self._lock_path.unlink(missing_ok=True)
    if self._lock is not None:
      self._lock.release()


def remove_leftovers(final: pathlib.Path, parent: pathlib.Path) -> None:
  """Removes what builders of a data set left that were killed, and says so.

  A data set that such a builder was about to replace gets its name back.

  Args:
    final: the data set.
    parent: where its builders keep their hidden directories.
  """
  # Digits are asked for, as "a.building-b" is a name of its own beside "a".
  digits = "[0-9a-f]" * (2 * _RANDOM_BYTES)
  names = glob.escape(_prefix(final.name)) + digits + _LOCK
  for lock_path in sorted(parent.glob(names)):
    building = lock_path.with_name(lock_path.name.removesuffix(_LOCK))
    replaced = building.with_name(building.name + _REPLACED)
    lock = _acquire(lock_path)
    if lock is None:  # Its builder is alive, or nobody can tell.
      if not os.access(lock_path, os.R_OK | os.W_OK):
        log.warning(
          f"warning: {building}: another user builds there or left it, so it "
          "stays; if no build is running, have it deleted"
        )
      continue
    if replaced.exists() and not final.exists():
      log.warning(
        f"warning: {final}: an earlier build was killed while it replaced this "
        "data set; the old one is back"
      )
      replaced.rename(final)
    for path in (building, replaced):
      if path.exists():
        log.info(
          f"{path}: removing what a killed build left, "
          f"{_size(path) / 1e6:,.1f} MB"
        )
        _remove(path)
    # With its lock, what is left is met again by the next build.
    if not building.exists() and not replaced.exists():
      lock_path.unlink(missing_ok=True)
    lock.release()


def _remove(path: pathlib.Path) -> None:
  try:
    shutil.rmtree(path)
  except OSError as error:
    log.warning(f"warning: {path}: cannot be removed ({error.strerror})")


def _size(path: pathlib.Path) -> int:
  """Bytes of the files below a directory, as far as it can be read."""
  size = 0
  for root, _, files in os.walk(path):
    for name in files:
      with contextlib.suppress(OSError):
        size += os.lstat(os.path.join(root, name)).st_size
  return size


def _prefix(name: str) -> str:
  return f".{name}.building-"


def _acquire(path: pathlib.Path) -> filelock.BaseFileLock | None:
  """Takes a lock; None if another has it, or it cannot be had.

  Some file systems know no locks. Building goes on there without one; what
  cannot be written at all is told when the directory is made.
  """
  lock = filelock.FileLock(path)
  try:
    lock.acquire(timeout=0)
  except (OSError, NotImplementedError):  # filelock.Timeout is an OSError.
    return None
  return lock

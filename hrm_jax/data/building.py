"""The hidden directory in which a data set grows, and what a kill leaves of it.

Beside each such directory lies a lock file, which its builder holds. The lock
goes with the process, however it ends: so the next builder of the same data
set can tell the remains of a dead builder from the work of a living one.
"""

import pathlib
import secrets
import shutil

import filelock

from hrm_jax.console import log

# Behind the name of the building directory: its lock, and the data set that
# it takes the place of.
_LOCK, _REPLACED = ".lock", ".old"


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
    self.path = parent / f"{_prefix(name)}{secrets.token_hex(4)}"
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
  for lock_path in sorted(parent.glob(f"{_prefix(final.name)}*{_LOCK}")):
    building = lock_path.with_name(lock_path.name.removesuffix(_LOCK))
    replaced = building.with_name(building.name + _REPLACED)
    lock = _acquire(lock_path)
    if lock is None:  # Its builder is alive, or nobody can tell.
      continue
    if replaced.exists() and not final.exists():
      log.warning(
        f"warning: {final}: an earlier build was killed while it replaced this "
        "data set; the old one is back"
      )
      replaced.rename(final)
    for path in (building, replaced):
      if path.exists():
        size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        log.info(
          f"{path}: removing what a killed build left, {size / 1e6:,.1f} MB"
        )
        shutil.rmtree(path, ignore_errors=True)
    lock_path.unlink(missing_ok=True)
    lock.release()


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

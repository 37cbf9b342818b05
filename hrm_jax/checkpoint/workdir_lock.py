"""One run at a time has a working directory.

Two would delete each other's saves that are under way, and mix their curves.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import filelock

from hrm_jax.console import InputError, log


@contextlib.contextmanager
def hold(workdir: pathlib.Path) -> Iterator[None]:
  """Holds WORKDIR/lock; the system frees it however the process ends.

  The file itself may stay: it is the lock on it that counts. Some file systems
  know no locks; then there is none, and a line says so.

  Args:
    workdir: of the run; made if it is not there, and removed again if nothing
      else is in it at the end.

  Raises:
    InputError: another process holds it; it cannot be made.
  """
  path = workdir / "lock"
  is_new = not workdir.exists()
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()
  except OSError as error:
    raise InputError(f"{path}: cannot be made ({error.strerror}).") from None
  # Not a soft one, which is a file that a killed process leaves behind.
  lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
  try:
    lock.acquire()
  except filelock.Timeout:
    raise InputError(
      f"{workdir}: another run is using it ({path} is locked); wait for its "
      "end, or choose another --workdir."
    ) from None
  except OSError as error:
    log.warning(f"warning: {path}: not locked ({error.strerror})")
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      if is_new and list(workdir.iterdir()) == [path]:  # It was refused.
        path.unlink()
        workdir.rmdir()
    lock.release()

"""One run at a time has a working directory.

Two would delete each other's saves that are under way, and mix their curves.
"""

import contextlib
import fcntl
import pathlib
from collections.abc import Iterator

from hrm_jax.console import InputError, log


@contextlib.contextmanager
def hold(workdir: pathlib.Path) -> Iterator[None]:
  """Holds a lock, which goes with the process however it ends.

  Some file systems know no locks; then there is none, and a line says so.

  Args:
    workdir: of the run; made if it is not there.

  Raises:
    InputError: another process holds it; it cannot be made.
  """
  path = workdir / "lock"
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = path.open("w", encoding="utf-8")
  except OSError as error:
    raise InputError(f"{path}: cannot be made ({error.strerror}).") from None
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise InputError(
        f"{workdir}: another run is using it ({path} is locked); wait for its "
        "end, or choose another --workdir."
      ) from None
    except OSError as error:
      log.warning(f"warning: {path}: not locked ({error.strerror})")
    yield

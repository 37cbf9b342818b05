"""What goes wrong while Orbax restores, in a line that names the checkpoint."""

import contextlib
import pathlib
from collections.abc import Iterator

from hrm_jax.checkpoint.errors import (
  FormatError,
  NoAccessError,
  UnreadableError,
  no_access,
  not_accessible,
)
from hrm_jax.console import one_line
from hrm_jax.machines import out_of_memory


@contextlib.contextmanager
def explained(path: str | pathlib.Path) -> Iterator[None]:
  """Turns what Orbax raises into one line that names the checkpoint.

  That there is no memory for it passes as it is.

  Raises:
    NoAccessError: the system does not let this process read it.
    UnreadableError: anything else went wrong.
  """
  try:
    yield
  except (NoAccessError, FormatError):
    raise
  except Exception as error:  # Orbax, TensorStore and JAX raise many kinds.
    if out_of_memory.shortage(error):
      raise  # It says nothing of the checkpoint.
    if number := no_access(error):
      raise not_accessible(path, number) from error
    raise UnreadableError(
      f"{path}: its digests are right, yet it cannot be read: "
      f"{one_line(error)}."
    ) from error

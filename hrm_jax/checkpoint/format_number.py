"""The number of the format that checkpoints are written in.

It stands in the run record, and is checked before any array is read or
anything else of that record is used. Who changes the format so that earlier
checkpoints cannot be read any more, by another name or shape in the state or
another meaning of a key, counts it up. For each number, tests/checkpoints
holds a small sample that must stay readable.
"""

import pathlib
from typing import Any

from hrm_jax.checkpoint.errors import FormatError
from hrm_jax.console import InputError

KEY = "format"
CURRENT = 1

# The last commit that writes and reads checkpoints without a number.
_BEFORE_NUMBERS = "9d08fd3"


def check(run: dict[str, Any], path: pathlib.Path) -> None:
  """Checks that this version reads a checkpoint, by its run record.

  Args:
    run: the record, as it was read.
    path: where the checkpoint lies, for the message.

  Raises:
    FormatError: it has another number, or none.
    InputError: what stands there is no number of a format.
  """
  number = run.get(KEY)
  if number == CURRENT and type(number) is int:
    return
  if number is None:
    raise FormatError(
      f"{path}: its format has no number, and this version of hrm_jax reads "
      f"format {CURRENT}; use it with the commit {_BEFORE_NUMBERS}, or train "
      "anew in another --workdir."
    )
  if type(number) is not int or number < CURRENT:
    raise InputError(
      f"{path}: expected format {CURRENT}, got {number!r} in its run record."
    )
  raise FormatError(
    f"{path}: it has format {number}, and this version of hrm_jax reads "
    f"format {CURRENT}; update hrm_jax."
  )

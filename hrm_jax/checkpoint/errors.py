"""Why a checkpoint cannot be read, told apart by what to do about it.

A damaged or half-written one is no error here but a line of `manifest`: an
older step may do instead. What follows is not damage, or not known to be.
"""

import errno
import os
import pathlib
import re

from hrm_jax.console import InputError


class UnreadableError(InputError):
  """A checkpoint that Orbax cannot read, though its digests are right."""


class NoAccessError(InputError):
  """A checkpoint that may be whole, but that this process cannot look at.

  It belongs to another user, say, or the disk fails. It is never deleted and
  never passed over: an older step would be taken for the newest.
  """


class FormatError(InputError):
  """A checkpoint that was written by another version of hrm_jax."""


class DeletedError(InputError):
  """A checkpoint that its run has deleted while it was being read."""


# What the system says where a file is missing, or something else lies in its
# place. Every other error tells nothing of what was saved: no permission, a
# disk or a server that does not answer, too many open files.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}

_NO_PERMISSION = {errno.EACCES, errno.EPERM}

# TensorStore raises a ValueError, which quotes the number of the system's
# error or begins with the name of its kind.
_TENSORSTORE_NUMBER = re.compile(r"os_error_code='(\d+)'")
_TENSORSTORE_KIND = "PERMISSION_DENIED"


def no_access(error: BaseException) -> int | None:
  """The number of the system's error, if it says nothing of the content."""
  number = None
  if isinstance(error, OSError):
    number = error.errno
  elif found := _TENSORSTORE_NUMBER.search(str(error)):
    number = int(found[1])
  elif str(error).startswith(_TENSORSTORE_KIND):
    number = errno.EACCES
  return None if number in _NOT_THERE else number


def not_accessible(path: str | pathlib.Path, number: int) -> NoAccessError:
  """What to raise where a file cannot be read; `number` as `no_access` has."""
  way_out = (
    "ask its owner for the right to read it, or run as that user"
    if number in _NO_PERMISSION
    else "look after the disk or the server that it lies on, and try again"
  )
  return NoAccessError(
    f"{path}: cannot be read ({os.strerror(number)}), so nobody knows whether "
    f"what is saved there is whole, and it is left as it is; {way_out}."
  )

"""Reads back the scalars of event files, as TensorBoard shows them.

An event file is a row of records: the length of the content (8 bytes, little
endian), a checksum of the length (4), the content, a checksum of the content
(4). The content is an `Event` in protobuf; `curves` writes them.
"""

import pathlib
import struct
from collections.abc import Iterator

# protobuf makes its classes at import, where no checker sees them.
# pyright: reportAttributeAccessIssue=false
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from hrm_jax.console import InputError, log

_HEADER = struct.Struct("<QI")
_CHECKSUM = 4


def read_scalars(directory: pathlib.Path) -> dict[str, dict[int, float]]:
  """The scalars of a run that may have been resumed, or be running.

  Its files are read in the order of their names, that of time. Where a resumed
  run begins, what an earlier one wrote at that step or later is dropped: it was
  never saved. Of two values at one step the later one counts.

  Args:
    directory: of the event files.

  Returns:
    From a tag to its values by step, in increasing order; none without files.

  Raises:
    InputError: a file cannot be read.
  """
  found: dict[str, dict[int, float]] = {}
  for path in sorted(directory.glob("*tfevents*")):
    for event in events(path):
      if event.session_log.status == SessionLog.START:
        found = {
          tag: {s: v for s, v in values.items() if s < event.step}
          for tag, values in found.items()
        }
      for value in event.summary.value:
        if value.HasField("simple_value"):
          found.setdefault(value.tag, {})[event.step] = value.simple_value
  return {tag: dict(sorted(v.items())) for tag, v in found.items() if v}


def events(path: pathlib.Path) -> Iterator[Event]:
  """The events of one file.

  What a kill cut off at the end is not there. Nothing behind a damaged record
  can be found; a warning says so.

  Raises:
    InputError: the file cannot be read.
  """
  try:
    data = path.read_bytes()
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  start = 0
  while len(data) >= start + _HEADER.size:
    length, checksum = _HEADER.unpack_from(data, start)
    content = start + _HEADER.size
    end = content + length + _CHECKSUM
    try:
      if checksum != masked_crc32c(data[start : start + 8]):
        raise DecodeError("checksum")
      if len(data) < end:
        return
      event = Event.FromString(data[content : end - _CHECKSUM])
    except DecodeError:
      log.warning(
        f"warning: {path}: expected an event at byte {start:,}, got something "
        "else; what follows is not read"
      )
      return
    yield event
    start = end

"""Where the members of torch's zip files lie; no number is trusted.

`torch.save` writes a zip file whose members are stored as they are, each one
once. So nothing has to be unpacked: a member is a range of bytes, and all that
is checked here is that the ranges lie in the file and apart from each other.
Python's `zipfile` would also unpack, follow doubled names and believe sizes.
"""

import itertools
import os
import pathlib
import struct
from typing import BinaryIO, NamedTuple

from hrm_jax.console import InputError, printable

# The directory of a checkpoint with 5,000 tensors has less than half of this.
_MOST_BYTES = 2**21
_MOST_MEMBERS = 20_000

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

# What a field holds whose number stands in its 64-bit form elsewhere.
_IN_64 = {2: 0xFFFF, 4: 0xFFFFFFFF}
_EXTRA_64 = 1

_ENCRYPTED, _STORED = 1, 0


class Member(NamedTuple):
  """A member's bytes.

  Attributes:
    start: of the first one, from the beginning of the file.
    size: how many.
    crc: their CRC-32.
  """

  start: int
  size: int
  crc: int


class _Entry(NamedTuple):
  """What the directory says of a member."""

  raw_name: bytes
  header: int  # where its own header lies
  size: int
  crc: int


def members(file: BinaryIO, path: pathlib.Path) -> dict[str, Member]:
  """Reads the directory of a zip file, and every member's header.

  Args:
    file: opened for reading bytes.
    path: of the file, for messages.

  Returns:
    The members by their names; all lie in the file, none overlaps another.

  Raises:
    InputError: it is no whole zip file, or not one as torch writes them.
    OSError: it cannot be read.
  """
  size = os.fstat(file.fileno()).st_size
  start, num_bytes, count = _directory(file, path, size)
  directory = _read(file, start, num_bytes)
  found: dict[str, Member] = {}
  ranges = []
  at = 0
  for _ in range(count):
    entry, at = _entry(directory, at, path)
    name = _name(entry.raw_name, path)
    if name in found:
      raise InputError(
        f"{path}: its member {_shown(entry.raw_name)} is there twice."
      )
    found[name] = _member(file, path, entry, end=start)
    ranges.append((entry.header, found[name].start + entry.size))
  if at != num_bytes:
    raise damaged(path, "its directory has bytes that describe nothing")
  ranges.sort()
  for (_, end), (begin, _) in itertools.pairwise(ranges):
    if begin < end:
      raise damaged(path, "two of its members overlap")
  return found


def damaged(path: pathlib.Path, why: str) -> InputError:
  """What to raise where a file is not as torch wrote it."""
  return InputError(
    f"{path}: expected a whole file of torch.save, got one that is cut off or "
    f"damaged ({why}); fetch it again."
  )


def _read(file: BinaryIO, start: int, size: int) -> bytes:
  file.seek(start)
  return file.read(size)


def _directory(
  file: BinaryIO, path: pathlib.Path, size: int
) -> tuple[int, int, int]:
  """Where the directory begins, its bytes, and how many members it has."""
  # A comment of up to 65,535 bytes may follow; torch writes none.
  tail_start = max(0, size - _END.size - 0xFFFF)
  tail = _read(file, tail_start, size - tail_start)
  at = tail.rfind(b"PK\5\6")
  if at < 0 or len(tail) - at < _END.size:
    raise damaged(path, "a zip file's end is missing")
  end = tail_start + at
  _, disk, first, here, count, num_bytes, start, comment = _END.unpack_from(
    tail, at
  )
  if disk or first or here != count or end + _END.size + comment != size:
    raise damaged(path, "its end makes no sense")
  if count == _IN_64[2] or _IN_64[4] in (num_bytes, start):
    end -= _LOCATOR_64.size
    start, num_bytes, count, end = _directory_64(file, path, end)
  if start + num_bytes > end:
    raise damaged(path, "its directory reaches past its end")
  if num_bytes > _MOST_BYTES or count > _MOST_MEMBERS:
    raise InputError(
      f"{path}: expected a directory of at most {_MOST_MEMBERS:,} members, got "
      f"{count:,} in {num_bytes:,} bytes."
    )
  return start, num_bytes, count


def _directory_64(
  file: BinaryIO, path: pathlib.Path, locator: int
) -> tuple[int, int, int, int]:
  """The same of a file with 64-bit numbers, and where that record lies."""
  bad = damaged(path, "its 64-bit end makes no sense")
  if locator < 0:
    raise bad
  raw = _read(file, locator, _LOCATOR_64.size)
  if len(raw) < _LOCATOR_64.size:
    raise bad
  signature, _, end, _ = _LOCATOR_64.unpack(raw)
  if signature != b"PK\6\7" or end + _END_64.size > locator:
    raise bad
  values = _END_64.unpack(_read(file, end, _END_64.size))
  if values[0] != b"PK\6\6" or values[6] != values[7]:
    raise bad
  count, num_bytes, start = values[7:]
  return start, num_bytes, count, end


def _entry(directory: bytes, at: int, path: pathlib.Path) -> tuple[_Entry, int]:
  """One entry of the directory, and where the next one begins."""
  if len(directory) - at < _ENTRY.size:
    raise damaged(path, "its directory is too short")
  values = _ENTRY.unpack_from(directory, at)
  signature, flags, method = values[0], values[3], values[4]
  crc, packed, size, name_size, extra_size, comment_size = values[7:13]
  header = values[-1]
  name_at = at + _ENTRY.size
  extra_at = name_at + name_size
  after = extra_at + extra_size + comment_size
  if signature != b"PK\1\2" or after > len(directory):
    raise damaged(path, "its directory makes no sense")
  name = directory[name_at:extra_at]
  extra = directory[extra_at : extra_at + extra_size]
  size, packed, header = _wide(extra, (size, packed, header), path)
  if method != _STORED or packed != size or flags & _ENCRYPTED:
    raise InputError(
      f"{path}: expected members as torch.save stores them, got one that is "
      f"compressed or encrypted, {_shown(name)}; save it again with torch.save."
    )
  return _Entry(name, header, size, crc), after


def _wide(
  extra: bytes, numbers: tuple[int, ...], path: pathlib.Path
) -> list[int]:
  """Replaces each number that did not fit into 32 bits."""
  if _IN_64[4] not in numbers:
    return list(numbers)
  at = 0
  while at + 4 <= len(extra):
    kind, size = struct.unpack_from("<2H", extra, at)
    if kind == _EXTRA_64:
      missing = numbers.count(_IN_64[4])
      if size >= 8 * missing and at + 4 + size <= len(extra):
        wide = iter(struct.unpack_from(f"<{missing}Q", extra, at + 4))
        return [next(wide) if n == _IN_64[4] else n for n in numbers]
      break
    at += 4 + size
  raise damaged(path, "a member's 64-bit size is missing")


def _name(raw: bytes, path: pathlib.Path) -> str:
  try:
    return raw.decode("utf-8")
  except UnicodeDecodeError:
    raise damaged(path, "a member's name is no text") from None


def _shown(raw_name: bytes) -> str:
  """A name for a message: its end, which tells, and nothing odd."""
  return f"'{printable(raw_name[-100:].decode('utf-8', 'replace'))}'"


def _member(
  file: BinaryIO, path: pathlib.Path, entry: _Entry, *, end: int
) -> Member:
  """Compares an entry with the header that stands before the bytes."""
  bad = damaged(path, f"its member {_shown(entry.raw_name)}")
  if entry.header + _LOCAL.size > end:
    raise bad
  raw = _read(file, entry.header, _LOCAL.size + len(entry.raw_name))
  if len(raw) < _LOCAL.size:
    raise bad
  values = _LOCAL.unpack_from(raw)
  signature, method, name_size, extra_size = values[0], values[3], *values[-2:]
  start = entry.header + _LOCAL.size + name_size + extra_size
  if (
    signature != b"PK\3\4"
    or method != _STORED
    or raw[_LOCAL.size :] != entry.raw_name
    or name_size != len(entry.raw_name)
    or start + entry.size > end
  ):
    raise bad
  return Member(start, entry.size, entry.crc)

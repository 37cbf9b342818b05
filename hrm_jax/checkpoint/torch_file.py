"""Reads and writes the files of `torch.save`, without PyTorch.

Such a file is a zip file (see `torch_zip`) of a pickle, which describes the
tensors (see `torch_pickle`), and of their numbers:

  NAME/data.pkl     the names, shapes and dtypes
  NAME/data/<key>   the numbers of one storage
  NAME/byteorder    "little" or "big"; little where it is missing
  NAME/version      of the format

Somebody else wrote the file. So all that it says is compared with the bytes
that are there before any array is made, each storage belongs to one tensor, and
no more memory is used than a small multiple of the file.
"""

import contextlib
import math
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

from hrm_jax.checkpoint import torch_pickle, torch_zip
from hrm_jax.checkpoint.torch_pickle import PickleError, Storage, View
from hrm_jax.console import InputError, printable

_PICKLE = "data.pkl"
# torch's files before its version 1.6 begin with this number, as a pickle.
_LEGACY = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
_LFS = b"version https://git-lfs.github.com/"
# Nobody needs the time at which a file was written to be in it.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class Described(NamedTuple):
  """What a file says of one tensor."""

  shape: tuple[int, ...]
  dtype: np.dtype


class TorchFile:
  """A file of `torch.save` that holds a state dict, checked.

  Attributes:
    path: of the file.
    tensors: shape and dtype of each tensor, by its name, in the file's order.
  """

  def __init__(self, file: BinaryIO, path: pathlib.Path):
    self.path = path
    self._file = file
    self._members = torch_zip.members(file, path)
    self._prefix = _prefix(self._members, path)
    self._swapped = self._byte_order() != sys.byteorder
    data = self._bytes(self._prefix + _PICKLE, most=torch_pickle.MOST_BYTES)
    try:
      self._views = torch_pickle.state_dict(data)
    except PickleError as error:
      raise InputError(f"{path}: {error}.") from None
    self._check()
    self.tensors = {
      name: Described(view.shape, view.storage.dtype)
      for name, view in self._views.items()
    }

  def array(self, name: str) -> np.ndarray:
    """Reads a tensor, and compares its bytes with their checksum.

    Args:
      name: one of `tensors`.

    Returns:
      In this machine's byte order, contiguous, writable.

    Raises:
      InputError: it is damaged.
    """
    view = self._views[name]
    dtype = view.storage.dtype
    flat = self._read(self._member_of(view.storage))
    if self._swapped:
      flat.view(f"u{dtype.itemsize}").byteswap(inplace=True)
    flat = flat.view(dtype)
    if not math.prod(view.shape):
      return np.zeros(view.shape, dtype)
    strides = tuple(n * dtype.itemsize for n in view.strides)
    # `_check` has seen that the view stays within the storage.
    tensor = np.lib.stride_tricks.as_strided(
      flat[view.offset :], view.shape, strides
    )
    return np.ascontiguousarray(tensor).reshape(view.shape)

  def _check(self) -> None:
    """Compares what the pickle says with the bytes that are there."""
    owners: dict[str, str] = {}
    for name, view in self._views.items():
      where = f"{self.path}: tensor '{printable(name[:100])}'"
      storage = view.storage
      member = self._prefix + f"data/{storage.key}"
      if member not in self._members:
        raise InputError(
          f"{where}: expected its numbers as member "
          f"'{printable(member[-100:])}', which is missing."
        )
      if storage.key in owners:
        other = printable(owners[storage.key][:100])
        raise InputError(
          f"{where}: expected numbers of its own, got those of '{other}'; save "
          "a copy of it."
        )
      owners[storage.key] = name
      has = self._members[member].size
      claims = storage.size * storage.dtype.itemsize
      if claims != has:
        raise InputError(
          f"{where}: it claims {claims:,} bytes of numbers, but the file has "
          f"{has:,} for it."
        )
      count = math.prod(view.shape)
      # The number behind the last one, unless there is none.
      last = sum(
        (n - 1) * stride
        for n, stride in zip(view.shape, view.strides, strict=True)
      )
      if count and (
        count > storage.size or view.offset + last + 1 > storage.size
      ):
        raise InputError(
          f"{where}: its shape {list(view.shape)}, strides "
          f"{list(view.strides)} and offset {view.offset:,} reach past the "
          f"{storage.size:,} numbers that the file has for it."
        )
      if not count and max(view.shape) > 2**31:
        raise InputError(f"{where}: expected a shape, got {list(view.shape)}.")

  def _byte_order(self) -> str:
    name = f"{self._prefix}byteorder"
    if name not in self._members:
      return "little"
    order = self._bytes(name, most=100)
    if order not in (b"little", b"big"):
      raise InputError(
        f"{self.path}: its member '{printable(name[-100:])}': expected little "
        f"or big, got {order!r:.40}."
      )
    return order.decode()

  def _member_of(self, storage: Storage) -> torch_zip.Member:
    return self._members[self._prefix + f"data/{storage.key}"]

  def _bytes(self, name: str, *, most: int) -> bytes:
    member = self._members[name]
    if member.size > most:
      raise InputError(
        f"{self.path}: its member '{printable(name[-100:])}': expected at most "
        f"{most:,} bytes, got {member.size:,}."
      )
    return self._read(member).tobytes()

  def _read(self, member: torch_zip.Member) -> np.ndarray:
    """The bytes of a member, which `torch_zip` has found to be there."""
    buffer = np.empty(member.size, np.uint8)
    self._file.seek(member.start)
    count = self._file.readinto(buffer.data)  # pyright: ignore[reportAttributeAccessIssue]
    if count != member.size or zlib.crc32(buffer.data) != member.crc:
      raise torch_zip.damaged(self.path, "its checksums differ")
    return buffer


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[TorchFile]:
  """Opens a file, and checks all that it says; numbers are not read yet.

  Raises:
    InputError: it cannot be read, is damaged, or holds anything but tensors of
      the dtypes of `torch_pickle` in one dictionary.
  """
  try:
    if path.exists() and not path.is_file():
      raise InputError(f"{path}: expected a file of torch.save, got no file.")
    with path.open("rb") as file:
      _check_beginning(file, path)
      yield TorchFile(file, path)
  except OSError as error:
    if error.filename not in (None, str(path)):
      raise  # It happened while the tensors were used.
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None


def _check_beginning(file: BinaryIO, path: pathlib.Path) -> None:
  """Says what a file is that is no zip file, where that can be told."""
  beginning = file.read(64)
  if beginning.startswith(b"PK\3\4"):
    return
  if beginning.startswith(_LFS):
    raise InputError(
      f"{path}: expected a file of torch.save, got a pointer of Git LFS to it; "
      "fetch the file itself, for instance with git lfs pull."
    )
  if beginning.startswith(b"\x80"):
    old = "of torch before 1.6" if _LEGACY in beginning else "or none of torch"
    raise InputError(
      f"{path}: expected torch's zip format, got a bare pickle ({old}), which "
      "is not read here. Where torch is installed, and if you trust the file: "
      f"python -c \"import torch; torch.save(torch.load('{path}', "
      "map_location='cpu', weights_only=True), 'NEW')\"."
    )
  raise torch_zip.damaged(path, "it does not begin as a zip file")


def _prefix(members: Mapping[str, torch_zip.Member], path: pathlib.Path) -> str:
  """The folder inside the file in which everything lies, with its slash."""
  found = [name for name in members if name.count("/") == 1]
  found = [name for name in found if name.endswith(f"/{_PICKLE}")]
  if len(found) != 1:
    raise InputError(
      f"{path}: expected a file of torch.save with one member NAME/{_PICKLE}, "
      f"got a zip file with {len(found)} of them."
    )
  return found[0].removesuffix(_PICKLE)


def write(path: pathlib.Path, named: Mapping[str, np.ndarray]) -> None:
  """Writes a state dict that `torch.load(path, weights_only=True)` reads.

  Args:
    path: of the file; what was there is replaced.
    named: the tensors by their names, of the dtypes of `torch_pickle`.

  Raises:
    OSError: it cannot be written; half of it may be there.
  """
  views, arrays = {}, {}
  for i, (name, value) in enumerate(named.items()):
    array = np.ascontiguousarray(value).reshape(np.shape(value))
    native = array.dtype.newbyteorder("=")
    storage = Storage(str(i), native, array.size)
    views[name] = View(storage, 0, array.shape, _strides(array.shape))
    arrays[str(i)] = array.astype(native, copy=False)
  folder = path.stem or "archive"
  with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

    def add(name: str, data: bytes | memoryview) -> None:
      info = zipfile.ZipInfo(f"{folder}/{name}", _NO_TIME)
      info.file_size = len(data)  # So that sizes above 2 GiB are announced.
      with archive.open(info, "w") as member:
        member.write(data)

    add(_PICKLE, torch_pickle.from_views(views))
    add("byteorder", sys.byteorder.encode())
    for key, array in arrays.items():
      add(f"data/{key}", memoryview(array.reshape(-1).view(np.uint8)))
    add("version", b"3\n")


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Numbers from one element to the next, along each axis, as torch counts."""
  below = [max(n, 1) for n in shape[1:]] + [1] if shape else []
  return tuple(math.prod(below[i:]) for i in range(len(below)))


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors of a file, by their names.

  Raises:
    InputError: see `opened` and `TorchFile.array`.
  """
  with opened(path) as file:
    return {name: file.array(name) for name in file.tensors}

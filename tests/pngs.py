"""Reads PNG files of the plainest kind, and checks them on the way."""

import struct
import zlib

import numpy as np


def decode(data: bytes) -> np.ndarray:
  """[height, width, 3] uint8 of a file with a palette and without filters."""
  assert data[:8] == b"\x89PNG\r\n\x1a\n"
  chunks, place = [], 8
  while place < len(data):
    (length,) = struct.unpack_from(">I", data, place)
    name = data[place + 4 : place + 8]
    content = data[place + 8 : place + 8 + length]
    (checksum,) = struct.unpack_from(">I", data, place + 8 + length)
    assert checksum == zlib.crc32(name + content), name
    chunks.append((name, content))
    place += 12 + length
  assert [name for name, _ in chunks] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
  header, palette, pixels, _ = (content for _, content in chunks)
  width, height, *kind = struct.unpack(">IIBBBBB", header)
  assert kind == [8, 3, 0, 0, 0]
  rows = np.frombuffer(zlib.decompress(pixels), np.uint8)
  rows = rows.reshape(height, 1 + width)
  assert (rows[:, 0] == 0).all()
  return np.frombuffer(palette, np.uint8).reshape(-1, 3)[rows[:, 1:]]

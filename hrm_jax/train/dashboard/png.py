"""A picture of few colours as the bytes of a PNG file.

Source: PNG specification, third edition (W3C, 2025), sections 5 and 11. No
library for images is needed: NumPy has the pixels, and Python the compression.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np


def encode(
  pixels: np.ndarray, palette: Sequence[tuple[int, int, int]]
) -> bytes:
  """Encodes an indexed picture.

  Args:
    pixels: [height, width] uint8, places in the palette.
    palette: up to 256 colours, as RGB of 0 to 255.

  Raises:
    ValueError: a pixel has no colour, or the picture no pixels.
  """
  if pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
    raise ValueError(
      f"pixels: expected [height, width] uint8, got {list(pixels.shape)} "
      f"{pixels.dtype}."
    )
  if not pixels.max() < len(palette) <= 256:
    raise ValueError(
      f"palette: expected {pixels.max() + 1} to 256 colours, got "
      f"{len(palette)}."
    )
  height, width = pixels.shape
  # 8 bits a pixel, by palette; the usual compression, filters, no interlacing.
  header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
  # Before each row stands its filter: 0, none, which suits flat colours.
  rows = np.pad(pixels, ((0, 0), (1, 0)))
  return b"".join(
    [
      b"\x89PNG\r\n\x1a\n",
      _chunk(b"IHDR", header),
      _chunk(b"PLTE", np.array(palette, np.uint8).tobytes()),
      _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
      _chunk(b"IEND", b""),
    ]
  )


def _chunk(name: bytes, data: bytes) -> bytes:
  checksum = zlib.crc32(name + data)
  return (
    struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
  )

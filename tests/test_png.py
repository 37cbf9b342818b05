"""The bytes of a PNG file."""

import numpy as np
import pytest

from hrm_jax.train.dashboard import png
from tests.pngs import decode

COLOURS = [(1, 2, 3), (250, 0, 0), (0, 9, 250)]


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (300, 5)])
def test_a_reader_finds_the_pixels_that_were_written(shape):
  pixels = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
  got = decode(png.encode(pixels, COLOURS))
  np.testing.assert_array_equal(got, np.array(COLOURS)[pixels])


def test_a_picture_that_no_file_can_hold_is_refused():
  one = np.zeros((1, 1), np.uint8)
  with pytest.raises(ValueError, match=r"palette: expected 3 to 256 .* got 2"):
    png.encode(one + 2, COLOURS[:2])
  with pytest.raises(ValueError, match=r"palette: .* got 257"):
    png.encode(one, [(0, 0, 0)] * 257)
  for bad in (one[0], one[:0], one.astype(int)):
    with pytest.raises(ValueError, match="pixels: expected"):
      png.encode(bad, COLOURS)

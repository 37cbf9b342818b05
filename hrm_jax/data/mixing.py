"""A hash of integers, the same everywhere and for ever."""

import numpy as np


def mix(values: np.ndarray, salt: int = 1) -> np.ndarray:
  """Spreads every bit over all 64: the finaliser of splitmix64.

  Args:
    values: uint64, of any shape.
    salt: different ones give unrelated hashes.
  """
  values = values + np.uint64(salt * 0x9E3779B97F4A7C15 % (1 << 64))
  values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return values ^ (values >> np.uint64(31))

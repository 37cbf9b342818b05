"""Opens arrays on disk: reads no more than asked for, and never a pickle."""

import pathlib

import numpy as np

from hrm_jax.console import InputError


def open_numbers(
  path: pathlib.Path, missing: str = "no such file"
) -> np.memmap:
  """Memory-maps a .npy file, of any shape and kind of number.

  Args:
    path: the file.
    missing: what to say where there is none, after its name.

  Raises:
    InputError: it is not there, or is no such file as a whole.
  """
  try:
    # Unlike np.load, this never takes a file for a pickle or an archive.
    return np.lib.format.open_memmap(path, mode="r")
  except FileNotFoundError:
    raise InputError(f"{path}: {missing}.") from None
  except (OSError, ValueError) as error:
    raise InputError(
      f"{path}: expected a complete .npy file of numbers, got one that does "
      f"not open ({error})."
    ) from None

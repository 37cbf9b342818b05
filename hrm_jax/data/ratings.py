"""How hard the examples of a set are, where its source says so.

  <root>/<split>/<set>__ratings.npy  [examples] float64, finite

A file beside those of `puzzle`, for scores by difficulty. The reference does
not know it, and no network sees it.
"""

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data.split import ExampleSet, Split

FIELD = "ratings"


def read(split: Split, examples: ExampleSet) -> np.ndarray | None:
  """[examples] float64, the ratings of a set; None where it has none.

  Raises:
    InputError: the file is damaged, or is one of other examples.
  """
  path = split.path / f"{examples.name}__{FIELD}.npy"
  try:
    # Unlike np.load, this never takes a file for a pickle or an archive.
    values = np.array(np.lib.format.open_memmap(path, mode="r"))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise InputError(
      f"{path}: expected a complete .npy file of numbers, got one that does "
      f"not open ({error})."
    ) from None
  expected = (len(examples.inputs),)
  if values.dtype.kind not in "iuf":
    raise InputError(f"{path}: expected a .npy file of numbers.")
  if values.shape != expected:
    raise InputError(
      f"{path}: expected shape {expected}, one rating for each example, got "
      f"{values.shape}."
    )
  bad = np.flatnonzero(~np.isfinite(values))
  if bad.size:
    raise InputError(
      f"{path}: row {bad[0]}: expected a number, got {values[bad[0]]}."
    )
  return values.astype(np.float64)

"""How hard the examples of a set are, where its source says so.

  <root>/<split>/<set>__ratings.npy  [examples] float64, finite

A file beside those of `puzzle`, for scores by difficulty. The reference does
not know it, and no network sees it.
"""

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data.number_file import open_numbers
from hrm_jax.data.split import ExampleSet, Split

FIELD = "ratings"


def read(split: Split, examples: ExampleSet) -> np.ndarray | None:
  """[examples] float64, the ratings of a set; None where it has none.

  Raises:
    InputError: the file is damaged, or is one of other examples.
  """
  path = split.path / f"{examples.name}__{FIELD}.npy"
  if not path.exists():
    return None
  values = np.array(open_numbers(path))
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

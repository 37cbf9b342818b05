"""Writes the answers of an evaluation to disk, for voting and for looking at.

  WORKDIR/predictions/<step>/<split>/<set>__<column>.npy, a row per example

or in a directory of its own. Columns: rows [n] int64, the examples' places in
their set; inputs, labels, puzzle_identifiers as in the batch (padding rows are
left out), predictions [n, G] int32, logits [n, G, V] float32, q_halt_logits and
q_continue_logits [n] float32, segments [n] int32, how many each one got. Of
several processes each writes the rows it has, as if they were a set of their
own: <set>.<i>of<n>__<column>.npy.
"""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import numpy as np

from hrm_jax.console import InputError, log


class PredictionFiles:
  """Files of known length, filled batch by batch; nothing stays in memory.

  An evaluation is worth more than its files: when one of them cannot be
  written, on a full disk for instance, that is told, and the rest ignored.

  Args:
    directory: where they go.
    rows_by_set: their lengths.
    suffix: what is added to the sets' names.

  Attributes:
    failed: whether one could not be written.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    rows_by_set: Mapping[str, int],
    suffix: str = "",
  ):
    self.failed = False
    self._directory, self._rows = directory, rows_by_set
    self._suffix = suffix
    self._files: dict[tuple[str, str], BinaryIO] = {}

  @classmethod
  @contextlib.contextmanager
  def create(
    cls,
    directory: pathlib.Path,
    rows_by_set: Mapping[str, int],
    *,
    part: tuple[int, int] = (0, 1),
    sum_over_processes: Callable[[int], int] = lambda count: count,
  ) -> Iterator["PredictionFiles"]:
    """Files that appear under their name when they are complete.

    Args:
      directory: where they will lie; what is there is replaced.
      rows_by_set: how many rows this process is going to write.
      part: number of this process, and of how many.
      sum_over_processes: returns when all processes have called it.
    """
    final = directory.absolute()
    partial = final.with_name(f".{final.name}.partial")
    index, count = part
    files = cls(partial, rows_by_set, f".{index}of{count}" if count > 1 else "")
    if index == 0:
      shutil.rmtree(partial, ignore_errors=True)
      with files.told():
        partial.mkdir(parents=True)
    sum_over_processes(0)  # The folder is there.
    try:
      yield files
    except BaseException:
      files.close()
      shutil.rmtree(partial, ignore_errors=True)
      raise
    files.close()
    files.failed = sum_over_processes(int(files.failed)) > 0
    if index == 0 and not files.failed:
      shutil.rmtree(final, ignore_errors=True)
      with files.told():
        partial.rename(final)
    if index == 0 and files.failed:
      shutil.rmtree(partial, ignore_errors=True)

  def write(self, set_name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Appends rows to each column of a set."""
    if self.failed:
      return
    for name, values in columns.items():
      with self.told():
        if (set_name, name) not in self._files:
          self._files[set_name, name] = self._open(set_name, name, values)
        self._files[set_name, name].write(values.tobytes())

  def close(self) -> None:
    """Makes sure that all rows are on disk."""
    for file in self._files.values():
      with self.told():
        file.flush()
        os.fsync(file.fileno())
      with contextlib.suppress(OSError):  # Told just now.
        file.close()

  def _open(self, set_name: str, column: str, values: np.ndarray) -> BinaryIO:
    path = self._directory / f"{set_name}{self._suffix}__{column}.npy"
    file = path.open("wb")
    header = {
      "descr": np.lib.format.dtype_to_descr(values.dtype),
      "fortran_order": False,
      "shape": (self._rows[set_name], *values.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, header)
    return file

  @contextlib.contextmanager
  def told(self) -> Iterator[None]:
    """Tells the first error within it, and that nothing will be saved."""
    try:
      yield
    except OSError as error:
      if not self.failed:
        log.error(
          f"error: {self._directory}: cannot be written ({error.strerror}); "
          "these predictions are not saved"
        )
      self.failed = True


def directory_of(workdir: pathlib.Path, step: int, split: str) -> pathlib.Path:
  """Where the predictions of a step on a split lie."""
  return pathlib.Path(workdir) / "predictions" / str(step) / split


def check_place(directory: pathlib.Path) -> None:
  """Refuses a place where predictions cannot lie, before they are made.

  Nothing stays there.

  Raises:
    InputError: there is something else than predictions, or no directory can
      be made.
  """
  _check_may_replace(directory)
  place = directory.absolute().parent
  try:
    while not place.exists():
      place = place.parent
    # Only trying tells: what the system may write depends on more than modes.
    with tempfile.TemporaryDirectory(prefix=".", dir=place):
      pass
  except OSError as error:
    raise InputError(
      f"{directory}: no directory can be made there: {place} cannot be written "
      f"({error.strerror})."
    ) from None


def _check_may_replace(directory: pathlib.Path) -> None:
  try:
    names = os.listdir(directory)
  except FileNotFoundError:
    return
  except OSError as error:
    raise InputError(
      f"{directory}: expected a directory, or nothing yet ({error.strerror})."
    ) from None
  # What `arc_vote` makes of them lies beside them.
  known = re.compile(r".+__\w+\.npy|.+__votes\.json|submission\.json")
  other = sorted(name for name in names if not known.fullmatch(name))
  if other:
    raise InputError(
      f"{directory}: expected predictions, which are replaced, or nothing, got "
      f"{other[0]}; choose another directory."
    )

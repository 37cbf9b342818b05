"""Writes the answers of an evaluation to disk, for voting and for looking at.

  WORKDIR/predictions/<step>/<split>/<set>__<column>.npy, a row per example

Columns: rows [n] int64, the examples' places in their set; inputs, labels,
puzzle_identifiers as in the batch (padding rows are left out), predictions
[n, G] int32, logits [n, G, V] float32, q_halt_logits and q_continue_logits [n]
float32. Of several processes each writes the rows it has, as if they were a
set of their own: <set>.<i>of<n>__<column>.npy.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping

import numpy as np


class PredictionFiles:
  """Files of known length, filled batch by batch; nothing stays in memory.

  Args:
    directory: where they go.
    rows_by_set: their lengths.
    suffix: of the sets' names.
  """

  def __init__(
    self,
    directory: pathlib.Path,
    rows_by_set: Mapping[str, int],
    suffix: str = "",
  ):
    self._directory, self._rows = directory, rows_by_set
    self._suffix = suffix
    self._files: dict[tuple[str, str], np.memmap] = {}
    self._done = dict.fromkeys(rows_by_set, 0)

  @classmethod
  @contextlib.contextmanager
  def maybe(
    cls,
    wanted: bool,
    workdir: pathlib.Path,
    step: int,
    split: str,
    rows_by_set: Mapping[str, int],
    *,
    part: tuple[int, int] = (0, 1),
    wait_for_all: Callable[[str], None] = lambda what: None,
  ) -> Iterator["PredictionFiles | None"]:
    """Files that appear under their name when they are complete.

    Args:
      wanted: whether to write at all; else yields None.
      workdir: of the run.
      step: of the weights.
      split: name of what will be evaluated.
      rows_by_set: how many rows this process is going to write.
      part: number of this process, and of how many.
      wait_for_all: returns when all processes have called it.
    """
    if not wanted:
      yield None
      return
    final = pathlib.Path(workdir) / "predictions" / str(step) / split
    partial = final.with_name(f".{split}.partial")
    index, count = part
    if index == 0:
      shutil.rmtree(partial, ignore_errors=True)
      partial.mkdir(parents=True)
    wait_for_all("a folder for predictions")
    try:
      files = cls(
        partial, rows_by_set, f".{index}of{count}" if count > 1 else ""
      )
      yield files
      files.flush()
    except BaseException:
      shutil.rmtree(partial, ignore_errors=True)
      raise
    wait_for_all("predictions written")
    if index == 0:
      shutil.rmtree(final, ignore_errors=True)
      partial.rename(final)

  def write(self, set_name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Appends rows to each column of a set."""
    start = self._done[set_name]
    for name, values in columns.items():
      file = self._files.get((set_name, name))
      if file is None:
        file = np.lib.format.open_memmap(
          self._directory / f"{set_name}{self._suffix}__{name}.npy",
          mode="w+",
          dtype=values.dtype,
          shape=(self._rows[set_name], *values.shape[1:]),
        )
        self._files[set_name, name] = file
      file[start : start + len(values)] = values
    self._done[set_name] = start + len(values)

  def flush(self) -> None:
    """Makes sure that all rows are on disk."""
    for file in self._files.values():
      file.flush()

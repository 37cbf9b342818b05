"""Writes the answers of an evaluation to disk, for voting and for looking at.

  WORKDIR/predictions/<step>/<split>/<set>__<column>.npy, a row per example

Columns: inputs, labels, puzzle_identifiers as in the batch (padding rows are
left out), predictions [rows, G] int32, logits [rows, G, V] float32,
q_halt_logits and q_continue_logits [rows] float32.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import numpy as np

from hrm_jax.data import EvaluationData


class PredictionFiles:
  """Files of known length, filled batch by batch; nothing stays in memory."""

  def __init__(self, directory: pathlib.Path, rows_by_set: Mapping[str, int]):
    self._directory, self._rows = directory, rows_by_set
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
    data: EvaluationData,
  ) -> Iterator["PredictionFiles | None"]:
    """Files that appear under their name when they are complete.

    Args:
      wanted: whether to write at all; else yields None.
      workdir: of the run.
      step: of the weights.
      split: name of what will be evaluated.
      data: its batches.
    """
    if not wanted:
      yield None
      return
    final = pathlib.Path(workdir) / "predictions" / str(step) / split
    partial = final.with_name(f".{split}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
      files = cls(partial, data.examples_by_set)
      yield files
      files.flush()
    except BaseException:
      shutil.rmtree(partial, ignore_errors=True)
      raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)

  def write(self, set_name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Appends rows to each column of a set."""
    start = self._done[set_name]
    for name, values in columns.items():
      file = self._files.get((set_name, name))
      if file is None:
        file = np.lib.format.open_memmap(
          self._directory / f"{set_name}__{name}.npy",
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

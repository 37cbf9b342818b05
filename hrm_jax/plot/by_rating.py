"""How a run does on puzzles that its data set rates, easy to hard.

From the predictions that `evaluate --save-predictions` leaves in the workdir,
and the ratings beside the data.
"""

import pathlib
import re
from typing import NamedTuple

import numpy as np

from hrm_jax.checkpoint import run_record
from hrm_jax.console import InputError
from hrm_jax.data import ratings
from hrm_jax.data.number_file import open_numbers
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.split import open_split
from hrm_jax.evaluate.predictions import directory_of
from hrm_jax.plot.run import LeftOutError, Run

# Bins of about as many puzzles each, as far as equal ratings let them.
_BINS = 8

# Where there were several processes, each has written a part of a set.
_PART = re.compile(r"\.\d+of\d+$")


class Rated(NamedTuple):
  """What became of n rated puzzles."""

  ratings: np.ndarray  # [n] float64
  solved: np.ndarray  # [n] bool
  segments: np.ndarray  # [n] int64, how many each one got


def read(run: Run) -> Rated:
  """The newest predictions of a run for its test split.

  Raises:
    LeftOutError: the data set holds no ratings, or there are no predictions.
    InputError: a file is damaged, or does not fit the others.
  """
  recorded = run.record["config"]["data"]["path"]
  try:
    root = run_record.find_data(recorded, run.workdir)
  except InputError as error:
    raise LeftOutError(str(error)) from None
  split = open_split(root, "test")
  rated = {each.name: ratings.read(split, each) for each in split.sets}
  if not any(values is not None for values in rated.values()):
    raise LeftOutError(
      f"{split.path} holds no ratings; build_sudoku --keep-ratings keeps them"
    )
  directory = _newest(run.workdir)
  parts = []
  for path in sorted(directory.glob("*__predictions.npy")):
    part = path.name.removesuffix("__predictions.npy")
    of_set = rated.get(_PART.sub("", part))
    if of_set is not None:
      parts.append(_read_part(directory, part, of_set, split.metadata.seq_len))
  if not parts:
    raise LeftOutError(f"{directory} has no predictions for rated puzzles")
  return Rated(*map(np.concatenate, zip(*parts, strict=True)))


def _newest(workdir: pathlib.Path) -> pathlib.Path:
  root = workdir / "predictions"
  steps = [int(p.name) for p in root.glob("*") if p.name.isdecimal()]
  found = [directory_of(workdir, step, "test") for step in sorted(steps)]
  found = [path for path in found if any(path.glob("*__segments.npy"))]
  if not found:
    raise LeftOutError(
      f"{root} has no predictions with their segments; make them by python -m "
      f"hrm_jax.evaluate --workdir={workdir} --halt=act --save-predictions"
    )
  return found[-1]


def _read_part(
  directory: pathlib.Path, part: str, of_set: np.ndarray, seq_len: int
) -> tuple[np.ndarray, ...]:
  """Ratings, solved and segments of a file; without what nobody can judge."""
  column = {
    name: open_numbers(
      directory / f"{part}__{name}.npy", missing="no such file; evaluate anew"
    )
    for name in ("rows", "labels", "predictions", "segments")
  }
  rows = np.asarray(column["rows"])
  path = directory / f"{part}__rows.npy"
  for name, values in column.items():
    each = (seq_len,) if name in ("labels", "predictions") else ()
    expected = (rows.size, *each)
    if values.shape != expected or values.dtype.kind not in "iu":
      raise InputError(
        f"{directory / f'{part}__{name}.npy'}: expected integers of shape "
        f"{expected} as {path.name} has it, got {values.dtype} of shape "
        f"{values.shape}; evaluate anew."
      )
  if rows.size and not 0 <= rows.min() <= rows.max() < len(of_set):
    raise InputError(
      f"{path}: expected places among the {len(of_set)} examples of the set, "
      f"got {rows.max()}; evaluate anew."
    )
  labels = column["labels"]
  asked = labels != IGNORE_LABEL_ID  # [n, G]
  solved = ((column["predictions"] == labels) | ~asked).all(1)
  counted = asked.any(1)
  columns = (of_set[rows], solved, column["segments"].astype(np.int64))
  return tuple(values[counted] for values in columns)


def binned(
  runs: list[Rated], values: list[np.ndarray]
) -> list[dict[float, float]]:
  """The mean of a value in bins of the rating, which all runs share.

  Args:
    runs: each with its puzzles.
    values: of each run, [n].

  Returns:
    For each run from the mean rating of a bin, over all runs, to the mean of
    its values there. A bin in which it has no puzzle is not there.
  """
  pooled = np.concatenate([run.ratings for run in runs])
  edges = np.unique(np.quantile(pooled, np.linspace(0, 1, _BINS + 1)))[1:-1]
  bins = np.searchsorted(edges, pooled, side="right")
  centres = {b: float(pooled[bins == b].mean()) for b in np.unique(bins)}
  curves = []
  for run, value in zip(runs, values, strict=True):
    mine = np.searchsorted(edges, run.ratings, side="right")
    curves.append(
      {centres[b]: float(value[mine == b].mean()) for b in np.unique(mine)}
    )
  return curves

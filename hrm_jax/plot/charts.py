"""What is drawn: a chart for each figure, as numbers; no matplotlib here."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrm_jax.console import counted, log
from hrm_jax.plot import by_rating
from hrm_jax.plot.by_rating import Rated
from hrm_jax.plot.lines import Line, over_runs
from hrm_jax.plot.run import Curves, LeftOutError, Run


class Axis(NamedTuple):
  """An axis.

  Attributes:
    column: its name among the columns of the CSV.
    label: what stands at it, the unit included.
    from_zero: whether it begins at 0.
    may_be_log: whether it is logarithmic where its values span decades.
    is_whole: whether it counts something, so that ticks are whole numbers.
  """

  column: str
  label: str
  from_zero: bool = False
  may_be_log: bool = False
  is_whole: bool = False


class Chart(NamedTuple):
  """One figure.

  Attributes:
    title: above it.
    x: the axis from left to right.
    y: the axis upwards.
    lines: at least one.
  """

  title: str
  x: Axis
  y: Axis
  lines: list[Line]


class Group(NamedTuple):
  """Runs that differ in their seed alone, or logs of the same name.

  Attributes:
    label: for the legend.
    runs: of ours; none for another program.
    curves: metrics of each run, shares from 0 to 1.
  """

  label: str
  runs: list[Run]
  curves: list[Curves]


_EXACT = Axis("exact_accuracy_percent", "Puzzles solved (%)")
_UPDATES = Axis("updates", "Updates", from_zero=True)
_PERCENT = 100.0

# By metric: the title, the axis, and what its values are multiplied by.
_LEARNING = {
  "exact_accuracy": ("Held-out puzzles solved", _EXACT, _PERCENT),
  "accuracy": (
    "Cells right in held-out puzzles",
    Axis("accuracy_percent", "Cells right (%)"),
    _PERCENT,
  ),
  "lm_loss": (
    "Loss on held-out puzzles",
    Axis("lm_loss_nats", "Loss (nats per cell)"),
    1.0,
  ),
}


def learning(groups: Sequence[Group], metric: str) -> Chart:
  """A metric of the evaluations against the updates done.

  Args:
    groups: a line for each.
    metric: a key of `_LEARNING`.

  Raises:
    LeftOutError: no log has the metric.
  """
  title, y, scale = _LEARNING[metric]
  lines = [
    _line(
      title,
      group.label,
      [
        {step: scale * value for step, value in curves.get(metric, {}).items()}
        for curves in group.curves
      ],
    )
    for group in groups
  ]
  return _chart(f"no evaluation tells '{metric}'", title, _UPDATES, y, lines)


def by_segments(groups: Sequence[Group]) -> Chart:
  """Exact accuracy against segments, in the newest evaluation of each run."""
  title = "Held-out puzzles solved, by segments"
  lines = _of_runs(
    groups,
    title,
    lambda run: {
      n: _PERCENT * share for n, share in enumerate(run.by_segment, 1)
    },
  )
  return _chart(
    "no run has kept an evaluation in its checkpoints",
    title,
    Axis("segments", "Segments", is_whole=True),
    _EXACT,
    lines,
  )


def by_compute(groups: Sequence[Group]) -> Chart:
  """Exact accuracy against the FLOPs of the training so far."""
  title = "Held-out puzzles solved, by compute"
  lines = _of_runs(
    groups,
    title,
    lambda run: {
      step * run.flops_per_update: _PERCENT * share
      for step, share in run.curves.get("exact_accuracy", {}).items()
      if step
    },
  )
  return _chart(
    "only the FLOPs of runs of hrm_jax are known",
    title,
    Axis(
      "training_flops",
      "Training compute (FLOPs)",
      from_zero=True,
      may_be_log=True,
    ),
    _EXACT,
    lines,
  )


def accuracy_by_rating(groups: Sequence[Group]) -> Chart:
  """Exact accuracy against the rating, of the newest saved predictions."""
  return _by_rating(
    groups,
    lambda rated: _PERCENT * rated.solved,
    "Held-out puzzles solved, by rating",
    _EXACT,
  )


def segments_by_rating(groups: Sequence[Group]) -> Chart:
  """Segments that puzzles took against the rating.

  Raises:
    LeftOutError: as `by_rating.read`; or all puzzles were given as many.
  """
  chart = _by_rating(
    groups,
    lambda rated: rated.segments,
    "Segments per puzzle, by rating",
    Axis("segments", "Segments"),
  )
  taken = {value for line in chart.lines for value in line.mean}
  if len(taken) == 1:
    raise LeftOutError(
      f"every puzzle was given {taken.pop():g} segments; evaluate --halt=act "
      "--save-predictions lets each take its own number"
    )
  return chart


def _by_rating(
  groups: Sequence[Group],
  value_of: Callable[[Rated], np.ndarray],
  title: str,
  y: Axis,
) -> Chart:
  """The mean of a value in bins of the rating, which all lines share.

  A run that cannot be read so is not in its line; a line without runs is not
  there.

  Raises:
    LeftOutError: there is none; says what the first run lacks.
  """
  found: list[list[Rated]] = []
  lacking = ["only runs of hrm_jax keep predictions of single puzzles"]
  for group in groups:
    found.append([])
    for run in group.runs:
      try:
        found[-1].append(by_rating.read(run))
      except LeftOutError as error:
        lacking.insert(-1, str(error))
  every = [rated for group in found for rated in group]
  if not every:
    raise LeftOutError(lacking[0])
  for line in lacking[:-1]:
    log.info(f"{title}: without a run: {line}")
  curves = iter(by_rating.binned(every, [value_of(rated) for rated in every]))
  lines = [
    _line(title, group.label, [next(curves) for _ in rated])
    for group, rated in zip(groups, found, strict=True)
    if rated
  ]
  return _chart(
    "no bin of the rating holds puzzles of all runs",
    title,
    Axis("rating_mean", "Rating"),
    y,
    lines,
  )


def _of_runs(
  groups: Sequence[Group],
  title: str,
  curve_of: Callable[[Run], Mapping[float, float]],
) -> list[Line | None]:
  """A line of each group that has runs of ours; tells which have none."""
  for group in groups:
    if not group.runs and any(other.runs for other in groups):
      log.info(f"{title}: without {group.label}: only runs of hrm_jax tell it")
  return [
    _line(title, group.label, [curve_of(run) for run in group.runs])
    for group in groups
    if group.runs
  ]


def _line(
  title: str, label: str, curves: Sequence[Mapping[float, float]]
) -> Line | None:
  """The line of some runs; tells what of them is not in it."""
  line = over_runs(label, curves)
  if line is None:
    log.info(f"{title}: without {label}: no point that all its runs have")
  elif lost := len(set().union(*curves)) - len(line.x):
    log.info(
      f"{title}: {label}: without {counted(lost, 'point')} that not all its "
      "runs have"
    )
  return line


def _chart(
  otherwise: str,
  title: str,
  x: Axis,
  y: Axis,
  lines: Sequence[Line | None],
) -> Chart:
  drawn = [line for line in lines if line is not None]
  if not drawn:
    raise LeftOutError(otherwise)
  return Chart(title, x, y, drawn)


def to_csv(chart: Chart) -> str:
  """The numbers of a chart as a table: a row for each point of each line."""
  text = io.StringIO()
  rows = csv.writer(text, lineterminator="\n")
  y = chart.y.column
  rows.writerow(
    ["line", chart.x.column, f"{y}_mean", f"{y}_lowest", f"{y}_highest", "runs"]
  )
  for line in chart.lines:
    points = zip(line.x, line.mean, line.lowest, line.highest, strict=True)
    rows.writerows([line.label, *point, line.runs] for point in points)
  return text.getvalue()


# By the name of its files, what makes each chart.
FIGURES: Mapping = {
  **{
    f"learning-{metric}": lambda groups, metric=metric: learning(groups, metric)
    for metric in _LEARNING
  },
  "accuracy-by-segments": by_segments,
  "accuracy-by-rating": accuracy_by_rating,
  "segments-by-rating": segments_by_rating,
  "accuracy-by-compute": by_compute,
}

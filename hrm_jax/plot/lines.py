"""Curves of several seeds as one line: their mean, and how far they spread."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Line(NamedTuple):
  """What is drawn of one configuration, or of one other program.

  Attributes:
    label: its name in the legend.
    x: increasing.
    mean: over the runs, at each x.
    lowest: of the runs.
    highest: of the runs.
    runs: how many there are.
  """

  label: str
  x: tuple[float, ...]
  mean: tuple[float, ...]
  lowest: tuple[float, ...]
  highest: tuple[float, ...]
  runs: int


def over_runs(
  label: str, curves: Sequence[Mapping[float, float]]
) -> Line | None:
  """One line of several curves.

  It has the points that all of them have: where one is missing, the mean of the
  others would jump for no reason of theirs.

  Args:
    label: for the legend.
    curves: from x to y.

  Returns:
    None if they have no point in common.
  """
  shared = sorted(set.intersection(*(set(curve) for curve in curves)))
  if not shared:
    return None
  at = [[curve[x] for curve in curves] for x in shared]
  return Line(
    label,
    tuple(shared),
    tuple(sum(values) / len(values) for values in at),
    tuple(map(min, at)),
    tuple(map(max, at)),
    len(curves),
  )


def common_name(names: Sequence[str]) -> str:
  """What runs that differ in their seed are called together.

  The beginning that their names share, without what leads to the seed:
  "mini-seed-0" and "mini-seed-1" are "mini". Names that share nothing: the
  first.
  """
  if len(set(names)) == 1:
    return names[0]
  alike = itertools.takewhile(
    lambda letters: len(set(letters)) == 1, zip(*names, strict=False)
  )
  shared = "".join(letters[0] for letters in alike).rstrip("0123456789-_. ")
  shared = shared.removesuffix("seed").rstrip("-_. ")
  return shared or names[0]

"""The search for the largest batch, without any compiler."""

import itertools

import pytest

from hrm_jax.console import InputError
from hrm_jax.machines.out_of_memory import Shortage
from hrm_jax.plan import fit
from hrm_jax.plan.fit import Trial

ALL = list(fit.steps())


def compiler(needs, available=1000.0, tells=True):
  """Stands for compiling: it needs so much for so many rows."""
  tried = []

  def attempt(rows):
    assert rows not in tried, "nothing is compiled twice"
    tried.append(rows)
    total = needs(rows)
    fits = total <= available
    return Trial(rows, fits, total if tells or fits else None, available)

  return attempt


def largest(needs, available=1000.0):
  fitting = [rows for rows in ALL if needs(rows) <= available]
  return max(fitting, default=None)


def test_rows_grow_by_one_and_then_by_a_sixteenth():
  assert ALL[:20] == [*range(1, 21)]
  assert ALL[30:36] == [31, 32, 34, 36, 38, 40]
  assert all(b - a == max(1, a // 16) for a, b in itertools.pairwise(ALL))


@pytest.mark.parametrize("first", [1, 7, 96, 5000])
@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize(
  "needs",
  [
    lambda rows: 100 + 3 * rows,
    lambda rows: 990 + 10 * rows,
    lambda rows: 0.1 * rows,
    # Padded rows, and a compiler that begins to save where it gets narrow.
    lambda rows: 50 + 40 * -(-rows // 8),
    lambda rows: min(200 + 9 * rows, 500 + 2 * rows),
    lambda rows: 300 + (rows > 40) * 5000,
  ],
)
def test_the_largest_is_found_and_the_next_was_tried(needs, tells, first):
  found = fit.search(compiler(needs, tells=tells), first)
  assert found.largest.rows == largest(needs)
  assert found.next.rows == ALL[ALL.index(found.largest.rows) + 1]
  assert found.largest.fits
  assert not found.next.fits
  assert {found.largest, found.next} <= set(found.tried)
  assert len(found.tried) <= 16


@pytest.mark.parametrize("slope", [0.7, 3, 20])
@pytest.mark.parametrize("first", [8, 96])
def test_a_straight_line_takes_few_compilations(slope, first):
  found = fit.search(compiler(lambda rows: 350 + slope * rows), first)
  assert len(found.tried) <= 5


def test_where_not_one_row_fits_that_is_the_answer():
  found = fit.search(compiler(lambda rows: 1001 + rows), 96)
  assert found.largest is None
  assert found.next.rows == 1


def test_where_everything_fits_there_is_no_largest():
  with pytest.raises(InputError, match="rows a device fit, and no more"):
    fit.search(compiler(lambda rows: 1), 96)


def test_what_xla_asked_for_counts_only_if_it_is_all():
  said = fit.refused(3, Shortage(2000, 1000), 900)
  assert said == Trial(3, False, 2000, 1000)
  assert fit.refused(3, Shortage(500, None), 900) == Trial(3, False, None, 900)
  assert fit.refused(3, Shortage(None, None), 9) == Trial(3, False, None, 9)

"""The largest batch that fits a device, found by compiling.

What a program needs grows almost in a straight line with the rows of a device,
so a few compilations lead there: each says how much is needed, also where it
does not fit. Found is a number of rows that fits of which the next larger one
does not; both were compiled.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ml_collections

from hrm_jax.console import InputError, counted, log
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.machines.out_of_memory import Shortage, in_words
from hrm_jax.plan import memory, planning
from hrm_jax.plan.planning import DoesNotFitError, TimingByCompiler
from hrm_jax.plan.targets import Target

# Up to so many rows a device they are tried one by one, then in sixteenths.
_SINGLE = 16

# More rows than any device has had.
_MOST = 2**20


class Trial(NamedTuple):
  """What came of a number of rows on each device.

  Attributes:
    rows: on each device.
    fits: whether the program fits.
    total: bytes that it needs; None where XLA does not say.
    available: bytes that there are.
  """

  rows: int
  fits: bool
  total: int | None
  available: int | None


class Fit(NamedTuple):
  """The end of a search.

  Attributes:
    largest: that fits; None: not even one row does.
    next: larger by a step; it does not fit.
    tried: all that was compiled, in order.
  """

  largest: Trial | None
  next: Trial
  tried: tuple[Trial, ...]


def steps() -> Iterator[int]:
  """Rows a device, from the smallest on."""
  rows = 1
  while rows <= _MOST:
    yield rows
    rows += max(1, rows // _SINGLE)


def search(attempt: Callable[[int], Trial], first: int) -> Fit:
  """Finds the largest number of rows that fits.

  Args:
    attempt: compiles for so many rows a device.
    first: where to begin.

  Raises:
    InputError: whatever is tried fits.
  """
  grid = list(steps())
  tried: dict[int, Trial] = {}
  # Places in the grid: the largest that is known to fit, the smallest not to.
  low, high = -1, len(grid)
  place = max(i for i, rows in enumerate(grid) if rows <= max(first, 1))
  for count in itertools.count(1):
    trial = tried[place] = attempt(grid[place])
    _tell(trial, count)
    if trial.fits:
      low = place
    else:
      high = place
    if high - low == 1:
      break
    guess = _guess(grid, [t for t in tried.values() if t.total])
    if guess is None or count % 4 == 0:  # The line may mislead: halve.
      guess = (low + high) // 2 if high < len(grid) else 2 * place + 8
    # Where the guess is known to fit, the next one is left to be seen.
    place = min(max(guess, low + 1), high - 1)
  if high == len(grid):
    raise InputError(
      f"--fit: {grid[-1]:,} rows a device fit, and no more are tried."
    )
  return Fit(tried.get(low), tried[high], tuple(tried.values()))


def _guess(grid: list[int], known: list[Trial]) -> int | None:
  """Where what is needed would be what there is, if it grew in a line."""
  known = sorted(known, key=lambda t: abs(_excess(t)))[:2]
  if len(known) < 2:
    if not known:
      return None
    # Half of it may be there whatever the rows: a first step, not too large.
    (one,) = known
    wanted = one.rows * (one.available or 0) / (one.total or 1)
  else:
    (a, b) = known
    slope = (_excess(a) - _excess(b)) / (a.rows - b.rows)
    if slope <= 0:
      return None
    wanted = a.rows - _excess(a) / slope
  fits = [i for i, rows in enumerate(grid) if rows <= wanted]
  return fits[-1] if fits else 0


def _excess(trial: Trial) -> int:
  return (trial.total or 0) - (trial.available or 0)


def _tell(trial: Trial, count: int) -> None:
  said = "fit" if trial.fits else "do not fit"
  if trial.total is not None:
    said += f": {in_words(trial.total)}"
    if trial.available is not None:
      said += f" of {in_words(trial.available)}"
  log.info(f"try {count}: {counted(trial.rows, 'row')} a device {said}")


def refused(rows: int, short: Shortage, available: int | None) -> Trial:
  """The trial of a program that XLA did not compile for want of memory."""
  has = short.available if short.available is not None else available
  total = short.asked
  # It may name only the part that was too much, which may be less than all.
  if total is not None and has is not None and total <= has:
    total = None
  return Trial(rows, False, total, has)


def largest_batch(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  target: Target,
  *,
  remat: bool,
) -> Fit:
  """The largest batch whose update fits the target.

  Args:
    config: of the run; its batch is where the search begins.
    metadata: of its puzzles.
    target: what is compiled for.
    remat: in place of the configuration's.

  Raises:
    InputError: nobody knows what memory there is, or everything fits.
  """
  available = memory.available(target.chip)
  if available is None:
    raise InputError(
      f"--fit: expected a target whose memory is known, got '{target.name}'."
    )

  def attempt(rows: int) -> Trial:
    changed = copy.deepcopy(config)
    with changed.unlocked(), changed.model.ignore_type():
      changed.global_batch_size = rows * len(target.devices)
      changed.model.remat = remat
      if remat:  # Blocks that are written out cannot be computed again.
        changed.model.unroll = None
    timing = TimingByCompiler(target)
    program = planning.program_for(changed, metadata, target, timing)
    try:
      total = planning.plan_update(program, target).memory.total
    except DoesNotFitError as error:
      return refused(rows, error.short, available)
    return Trial(rows, True, total, available)

  return search(attempt, config.global_batch_size // len(target.devices))

"""Where to hit a run, so that the hits are spread over all of it."""

import random

# Updates that a run makes on average between two hits, and after the last.
_STEPS_PER_HIT = 5
# So many at least: what waits for a hit may be late, and a run that is over
# cannot be hit any more.
_STEPS_LEFT = 6


def iterations(count: int) -> int:
  """Iterations of 20 updates that leave room for so many hits."""
  return 1 + -(-_STEPS_PER_HIT * count // 20)


def target(
  done: int, last_step: int, hits_left: int, rng: random.Random
) -> int:
  """The update after which to hit a run next.

  Args:
    done: updates that are saved.
    last_step: of the run.
    hits_left: of the run, this one included.
    rng: what it is drawn with.
  """
  share = (last_step - _STEPS_PER_HIT - done) // (hits_left + 1)
  step = done + rng.randint(1, max(2 * share, 1))
  return max(min(step, last_step - _STEPS_LEFT), done + 1)

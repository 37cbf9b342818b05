"""The run that nothing happens to, and whether another one ended like it."""

import functools
import pathlib
import threading
from typing import NamedTuple

from tests.faults import curves
from tests.faults.processes import Starter

# 8 epochs of 40 puzzles in batches of 16.
_STEPS_PER_ITERATION = 20


class Reference(NamedTuple):
  """What an uninterrupted run left.

  Attributes:
    flags: of the run.
    workdir: of the run; leave it as it is.
    last_step: that it ends with.
    curves: that it logged.
    state: digests of its last checkpoint.
  """

  flags: tuple[str, ...]
  workdir: pathlib.Path
  last_step: int
  curves: curves.Curves
  state: dict[str, str]

  def matches(self, starter: Starter, workdir: pathlib.Path) -> dict[str, bool]:
    """Whether another run is this one, bit for bit."""
    logged = curves.read(workdir)
    return {
      "same_losses": logged == self.curves,
      "same_state": read_state(starter, workdir, self.last_step) == self.state,
      "each_step_once": curves.each_step_once(logged, self.last_step),
    }


# What `Reference.matches` says of a run that did not end.
NOTHING = dict.fromkeys(("same_losses", "same_state", "each_step_once"), False)

_one_at_a_time = threading.Lock()


def train(starter: Starter, iterations: int) -> Reference:
  """Trains without interruption for so many iterations of 20 updates.

  It also compiles what the other runs then find: JAX's cache is not written
  atomically, so one that is killed had better write nothing there.
  """
  with _one_at_a_time:
    return _train(starter, iterations)


@functools.cache
def _train(starter: Starter, iterations: int) -> Reference:
  flags = (f"epochs={8 * iterations}", "eval_interval=8", "max_to_keep=3")
  workdir = starter.scratch / f"reference-{iterations}"
  code = starter.train(workdir, *flags, "checkpoint_interval=3").wait()
  assert code == 0, code
  last_step = _STEPS_PER_ITERATION * iterations
  return Reference(
    flags,
    workdir,
    last_step,
    curves.read(workdir),
    read_state(starter, workdir, last_step),
  )


def read_state(
  starter: Starter, workdir: pathlib.Path, step: int
) -> dict[str, str]:
  """A digest of every array of a checkpoint."""
  reader = starter.module("tests.faults.final_state", workdir, step)
  assert reader.wait() == 0, reader.stderr[-3000:]
  return reader.result

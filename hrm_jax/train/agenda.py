"""What is due after which update."""

import itertools
from collections.abc import Iterator

import ml_collections

from hrm_jax.data import puzzle
from hrm_jax.data.train_batches import TrainData


def batches_from(
  data: TrainData, done: int, stop: int, rows: slice
) -> Iterator[puzzle.Batch]:
  """Some rows of the batches of updates done + 1 to `stop`."""
  iteration, start = data.locate(done)
  starts = itertools.chain([start], itertools.repeat(0))
  rest = zip(range(iteration, data.num_iterations), starts, strict=False)
  batches = (batch for i, at in rest for batch in data.iteration(i, at, rows))
  return itertools.islice(batches, max(stop - done, 0))


def dispatches(
  batches: Iterator[puzzle.Batch],
  data: TrainData,
  done: int,
  stop: int,
  config: ml_collections.ConfigDict,
) -> Iterator[tuple[puzzle.Batch, ...]]:
  """Groups batches for one command to the device each.

  Of `updates_per_dispatch`, or of one where something is due before: the end
  of an iteration, a checkpoint. So there are two programs at most.
  """
  interval = config.checkpoint_interval
  while done < stop:
    iteration, index = data.locate(done)
    if iteration == data.num_iterations:
      return
    due = min(stop, done - index + data.batches_in(iteration))
    if interval:
      due = min(due, done - done % interval + interval)
    fits = done + config.updates_per_dispatch <= due
    n = config.updates_per_dispatch if fits else 1
    yield tuple(itertools.islice(batches, n))
    done += n


def ends_iteration(data: TrainData, done: int) -> bool:
  """Whether update `done` was the last of an iteration."""
  return done > 0 and data.locate(done)[1] == 0


def is_due(done: int, interval: int) -> bool:
  """Whether something that happens every `interval` updates happens now."""
  return interval > 0 and done % interval == 0

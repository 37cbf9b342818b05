"""From a split to batches, each reachable by its number.

The order of training is a pure function of (seed, step): a generator keyed by
its place in the order replaces the state that a running generator would have.
So resuming is an integer, and any number of processes see the same order and
slice their rows out of it.

An element of the Grain pipelines is some whole batches, each read by one fancy
index into the memory map; one element per example would be 100 times slower.

Differs from the reference: it draws examples from NumPy's unseeded global
generator; here everything follows from the seed.
"""

import functools
from collections.abc import Iterator

import ml_collections
import numpy as np

from hrm_jax.config import check_schedule
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import Batch
from hrm_jax.data.reading import ALL_ROWS, collate, read_ahead
from hrm_jax.data.rewriting import Rewriting
from hrm_jax.data.rewriting import make as make_rewriting
from hrm_jax.data.split import ExampleSet, Split

# Bytes of batches that are handed over at a time: the hand-over from thread to
# thread costs as much as reading a small batch does.
_HANDED_OVER = 2**20

# The devices count updates in 32 bits.
_MOST_UPDATES = 2**31

# Visits drawn at once: small groups share the cost of making a generator.
_VISITS_PER_BLOCK = 8192

# Streams of random numbers that must not overlap under one seed.
_VISITS, _EXAMPLES, _REWRITING = range(3)


def too_few_examples(
  examples: float, global_batch_size: int, eval_interval: int, where: str
) -> InputError:
  """What to raise where an iteration does not fill a single batch.

  Args:
    examples: of the iteration.
    global_batch_size: rows of a batch, over all processes.
    eval_interval: epochs of the iteration.
    where: the data set's name.
  """
  return InputError(
    "config.global_batch_size: expected at most the examples of one "
    f"iteration, about {examples:g} in {eval_interval} epochs of {where}, got "
    f"{global_batch_size}; use smaller batches or a larger "
    "config.eval_interval."
  )


def of_config(
  config: ml_collections.ConfigDict, split: Split, kind: str | None
) -> "TrainData":
  """What a run trains on.

  Args:
    config: checked by `check_config`.
    split: the training split.
    kind: of its puzzles, one of `puzzle_kind.KINDS`; None: not known.

  Raises:
    InputError: the batches do not fit the data, or these puzzles cannot be
      rewritten as `config.data` says.
  """
  return TrainData(
    split,
    global_batch_size=config.global_batch_size,
    seed=config.seed,
    epochs=config.epochs,
    eval_interval=config.eval_interval,
    rewriting=make_rewriting(
      split,
      kind,
      augment=config.data.augment,
      hint_mix=config.data.hint_mix,
    ),
  )


class TrainData:
  """The batches of a training run.

  Training runs in `num_iterations` iterations of `eval_interval` epochs. An
  iteration takes the sets in turn. For each it visits every group once per
  epoch, in an order of its own; a visit draws one puzzle of the group and as
  many of its examples as the batch has room for. Batches straddle epochs and
  are always full: the incomplete one at the end of a set's epochs is dropped.

  Attributes:
    num_iterations: evaluations of the run, one after each iteration.
    eval_interval: epochs per iteration, with the default resolved.
    total_steps: updates that the learning rate schedule is stretched over; a
      little more than there are batches.
  """

  def __init__(
    self,
    split: Split,
    *,
    global_batch_size: int,
    seed: int,
    epochs: int,
    eval_interval: int | None = None,
    rewriting: Rewriting | None = None,
  ):
    """Plans the run; reads no examples.

    Args:
      split: what to train on.
      global_batch_size: rows of a batch, over all processes.
      seed: any integer; different seeds give unrelated orders.
      epochs: visits of each group in the whole run.
      eval_interval: epochs between evaluations; None or 0 means `epochs`.
      rewriting: what changes in the examples of each batch; None: nothing.

    Raises:
      InputError: `epochs` is not a multiple of `eval_interval`, or an
        iteration does not fill a single batch.
    """
    check_schedule(global_batch_size, epochs, eval_interval)
    self.eval_interval = eval_interval = eval_interval or epochs
    self.num_iterations = epochs // eval_interval
    metadata = split.metadata
    examples = epochs * metadata.total_groups * metadata.mean_puzzle_examples
    self.total_steps = int(examples / global_batch_size)
    if self.total_steps >= _MOST_UPDATES:
      raise InputError(
        f"config.epochs: {epochs:,} epochs of {split.path} are "
        f"{self.total_steps:,} updates; expected fewer than 2**31, which is "
        "how far they are counted."
      )
    self._split, self._size, self._seed = split, global_batch_size, seed
    self._rewriting = rewriting
    self._visits = [
      _Visits(example_set, seed, number, eval_interval, global_batch_size)
      for number, example_set in enumerate(split.sets)
    ]
    if min(self.total_steps, self.batches_in(0)) == 0:
      raise too_few_examples(
        examples / self.num_iterations,
        global_batch_size,
        eval_interval,
        str(split.path),
      )

  def batches_in(self, iteration: int) -> int:
    """Number of batches in an iteration."""
    return sum(visits.batches_in(iteration) for visits in self._visits)

  def locate(self, step: int) -> tuple[int, int]:
    """Iteration and place in it, both from 0, of the next batch.

    After the last batch that is (num_iterations, updates too many).

    Args:
      step: updates done before this batch.
    """
    for iteration in range(self.num_iterations):
      batches = self.batches_in(iteration)
      if step < batches:
        return iteration, step
      step -= batches
    return self.num_iterations, step

  def batch(self, step: int, rows: slice = ALL_ROWS) -> Batch:
    """The batch that comes after `step` updates: a function of (seed, step).

    Args:
      step: updates done before this batch.
      rows: which rows of the global batch to read.

    Raises:
      IndexError: the run has no such step.
      InputError: a token id is not below the vocabulary size.
    """
    iteration, index = self.locate(step)
    if step < 0 or iteration == self.num_iterations:
      raise IndexError(f"step {step} is beyond the run's {step - index}.")
    return self._read(iteration, rows, index)

  def iteration(
    self, iteration: int, start: int = 0, rows: slice = ALL_ROWS
  ) -> Iterator[Batch]:
    """Yields an iteration's batches from number `start` on, reading ahead.

    Args:
      iteration: from 0.
      start: the batch to begin with; `locate` says which one to resume at.
      rows: which rows of each global batch to read.
    """
    read = functools.partial(self._read, iteration, rows)
    cells = len(range(self._size)[rows]) * self._split.metadata.seq_len
    several = min(max(_HANDED_OVER // max(8 * cells, 1), 1), 16)
    return read_ahead(read, start, self.batches_in(iteration), several)

  def batches(
    self, done: int, stop: int, rows: slice = ALL_ROWS
  ) -> Iterator[Batch]:
    """Yields the batches of updates done + 1 to `stop`, reading ahead.

    They end sooner where the run has no more.

    Args:
      done: updates done before the first of them.
      stop: updates done after the last.
      rows: which rows of each global batch to read.
    """
    if done >= stop:
      return
    first, start = self.locate(done)
    for iteration in range(first, self.num_iterations):
      for batch in self.iteration(iteration, start, rows):
        yield batch
        done += 1
        if done == stop:
          return
      start = 0

  def examples(self, step: int) -> tuple[str, np.ndarray]:
    """Which examples a batch is made of: the set's name, and [B] int64.

    Args:
      step: updates done before this batch.
    """
    iteration, index = self.locate(step)
    example_set, examples, _ = self._choose(iteration, index)
    return example_set.name, examples

  def _read(self, iteration: int, rows: slice, index: int) -> Batch:
    example_set, examples, puzzles = self._choose(iteration, index)
    batch = collate(self._split, example_set, examples[rows], puzzles[rows])
    if self._rewriting is None:
      return batch
    # For all rows of the batch, whichever of them this process reads.
    rng = _generator(self._seed, _REWRITING, iteration, index)
    return self._rewriting(rng, batch, self._size, rows)

  def _choose(
    self, iteration: int, index: int
  ) -> tuple[ExampleSet, np.ndarray, np.ndarray]:
    """The set, the examples and their puzzles of a batch of an iteration."""
    number, place = 0, index
    while place >= self._visits[number].batches_in(iteration):
      place -= self._visits[number].batches_in(iteration)
      number += 1
    visits, example_set = self._visits[number], self._split.sets[number]
    puzzles = visits.of_batch(iteration, place)
    if visits.examples_each == 1:
      examples = example_set.puzzle_indices[puzzles]
    else:
      rng = _generator(self._seed, _EXAMPLES, number, iteration, place)
      examples, puzzles = _draw_examples(rng, example_set, puzzles)
      # Only the last puzzle can be cut: that leaves a random part of it.
      examples, puzzles = examples[: self._size], puzzles[: self._size]
    return example_set, examples, puzzles


class _Visits:
  """The order in which the puzzles of one set are visited, without end.

  Visits are numbered through the whole run: number n is in epoch n // groups.
  They are drawn in blocks of whole epochs, so that any can be had directly.
  """

  def __init__(
    self,
    example_set: ExampleSet,
    seed: int,
    set_number: int,
    epochs: int,
    batch_size: int,
  ):
    self._first_puzzle = example_set.group_indices
    self._sizes = np.diff(example_set.puzzle_indices)
    self._seed, self._set_number = seed, set_number
    self._batch_size = batch_size
    # Examples of every puzzle, or None if puzzles differ.
    uniform = self._sizes.min() == self._sizes.max()
    self.examples_each = int(self._sizes[0]) if uniform else None
    self._groups = len(self._first_puzzle) - 1
    self._per_iteration = epochs * self._groups
    self._block_epochs = max(1, _VISITS_PER_BLOCK // self._groups)
    self._block = functools.lru_cache(4)(self._draw_block)
    self._bounds = functools.lru_cache(2)(self._pack)
    self._batches: dict[int, int] = {}

  def batches_in(self, iteration: int) -> int:
    """Full batches of an iteration; the first call may have to plan it."""
    if iteration not in self._batches:
      self._batches[iteration] = len(self._bounds(iteration)) - 1
    return self._batches[iteration]

  def of_batch(self, iteration: int, place: int) -> np.ndarray:
    """Puzzles visited for one batch; their examples fill it or overflow it."""
    bounds = self._bounds(iteration)
    offset = iteration * self._per_iteration
    return self._between(offset + bounds[place], offset + bounds[place + 1])

  def _between(self, first: int, stop: int) -> np.ndarray:
    size = self._block_epochs * self._groups
    blocks = range(first // size, -(-stop // size))
    offset = blocks.start * size
    puzzles = [self._block(block) for block in blocks]
    joined = puzzles[0] if len(puzzles) == 1 else np.concatenate(puzzles)
    return joined[first - offset : stop - offset]

  def _draw_block(self, block: int) -> np.ndarray:
    rng = _generator(self._seed, _VISITS, self._set_number, block)
    epochs = np.tile(np.arange(self._groups), (self._block_epochs, 1))
    groups = rng.permuted(epochs, axis=1, out=epochs).ravel()
    return rng.integers(
      self._first_puzzle[groups], self._first_puzzle[groups + 1]
    )

  def _pack(self, iteration: int) -> np.ndarray:
    """Bounds [batches + 1] of the visits of each batch of an iteration."""
    if self.examples_each:
      visits = -(-self._batch_size // self.examples_each)
      return np.arange(0, self._per_iteration + 1, visits)
    first = iteration * self._per_iteration
    filled = np.cumsum(
      self._sizes[self._between(first, first + self._per_iteration)]
    )
    bounds, last = [0], int(np.searchsorted(filled, self._batch_size))
    while last < len(filled):
      bounds.append(int(last) + 1)
      # The next visit begins the next batch; what did not fit is dropped.
      last = int(np.searchsorted(filled, filled[last] + self._batch_size))
    return np.array(bounds)


def _draw_examples(
  rng: np.random.Generator, example_set: ExampleSet, puzzles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """All examples of some puzzles, each puzzle's own in random order.

  Returns:
    Examples and the puzzle of each, [n] int64; puzzle by puzzle as given.
  """
  starts = example_set.puzzle_indices[puzzles]
  sizes = example_set.puzzle_indices[puzzles + 1] - starts
  visit = np.repeat(np.arange(len(puzzles)), sizes)
  place = np.arange(len(visit)) - (np.cumsum(sizes) - sizes)[visit]
  examples = starts[visit] + place
  # Sorting by (visit, random number) shuffles within each visit at once.
  return examples[np.argsort(visit + rng.random(len(visit)))], puzzles[visit]


def _generator(seed: int, stream: int, *place: int) -> np.random.Generator:
  """A generator for one place (at most three numbers) in one stream."""
  counter = np.zeros(4, np.uint64)
  # Word 0 counts the draws; 2**64 of them fit before a neighbour's begin.
  counter[1 : len(place) + 1] = place
  key = np.array([seed % 2**64, stream], np.uint64)
  return np.random.Generator(np.random.Philox(key=key, counter=counter))

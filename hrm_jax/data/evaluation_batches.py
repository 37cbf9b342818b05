"""A split to the batches of an evaluation: every example once, in order."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import Batch, pad_batch
from hrm_jax.data.reading import ALL_ROWS, READ_FEW_AHEAD, collate, read_ahead
from hrm_jax.data.split import Split


class EvaluationBatch(NamedTuple):
  """Some rows of one batch of an evaluation.

  Attributes:
    set_name: of the set that they belong to.
    batch: the examples, and after them padding.
    rows: [n] int64, places of the n examples in their set.
  """

  set_name: str
  batch: Batch
  rows: np.ndarray


class EvaluationData:
  """Every example of a split once, in order, in batches of one size.

  With a limit it is a sample of them, which depends on nothing but the limit
  and the size of the set, and which a larger limit contains. The first examples
  would not do: a set may be sorted, and in ARC's thousands of them in a row are
  variants of one task.

  Attributes:
    split: what it reads.
    batch_size: rows of every batch, over all processes.
    num_batches: over all sets.
    num_examples: over all sets; the rows that are not padding.
    examples_by_set: the same by the set's name.
    rows_by_set: places of the examples in their set, in increasing order.
  """

  def __init__(
    self, split: Split, *, batch_size: int, limit: int | None = None
  ):
    """Plans the evaluation; reads no examples.

    Args:
      split: what to evaluate on.
      batch_size: rows of every batch; the last one of a set is padded.
      limit: at most this many examples of each set, drawn from all of it; None
        or 0 means all.

    Raises:
      InputError: an argument is out of range.
    """
    if batch_size < 1:
      raise InputError(f"batch_size: expected at least 1, got {batch_size}.")
    if limit is not None and limit < 0:
      raise InputError(f"limit: expected at least 0, got {limit}.")
    self.split, self.batch_size = split, batch_size
    self._limit = limit
    self.rows_by_set = {
      s.name: _sample(len(s.inputs), limit) for s in split.sets
    }
    self.examples_by_set = {k: len(v) for k, v in self.rows_by_set.items()}
    self._examples = list(self.examples_by_set.values())
    self._batches = [-(-n // batch_size) for n in self._examples]
    self.num_examples = sum(self._examples)
    self.num_batches = sum(self._batches)

  def chunked(self, batches: int) -> "EvaluationData":
    """The same examples in larger batches, of about the same size each.

    Args:
      batches: at most so many batches of this size become one.
    """
    largest = max(self._batches)  # At least 1: a split has no empty set.
    size = -(-largest // -(-largest // batches)) * self.batch_size
    return self.resized(size)

  def fitted(self, multiple: int) -> "EvaluationData":
    """The same examples in batches that are no larger than the largest set.

    Args:
      multiple: what the size of a batch must divide by, the devices.
    """
    largest = max(self._examples)
    size = min(self.batch_size, -(-largest // multiple) * multiple)
    return self.resized(size)

  def resized(self, batch_size: int) -> "EvaluationData":
    """The same examples in batches of another size."""
    return EvaluationData(self.split, batch_size=batch_size, limit=self._limit)

  def examples_in(self, rows: slice) -> dict[str, int]:
    """Examples that stand in some rows of the batches, by the set's name."""
    first, stop, _ = rows.indices(self.batch_size)
    counts = {}
    for name, examples in self.examples_by_set.items():
      whole, rest = divmod(examples, self.batch_size)
      counts[name] = whole * (stop - first) + max(min(rest, stop) - first, 0)
    return counts

  def batch(self, number: int, rows: slice = ALL_ROWS) -> EvaluationBatch:
    """One batch, reached by its number.

    Args:
      number: from 0, below `num_batches`.
      rows: which rows of the batch to read.
    """
    set_number = 0
    while number >= self._batches[set_number]:
      number -= self._batches[set_number]
      set_number += 1
    example_set = self.split.sets[set_number]
    first = number * self.batch_size
    wanted = np.arange(first, first + self.batch_size)[rows]
    places = wanted[wanted < self._examples[set_number]]
    examples = self.rows_by_set[example_set.name][places]
    puzzles = (
      np.searchsorted(example_set.puzzle_indices, examples, side="right") - 1
    )
    batch = collate(self.split, example_set, examples, puzzles)
    padded = pad_batch(batch, len(wanted), self.split.metadata)
    return EvaluationBatch(example_set.name, padded, examples)

  def batches(self, rows: slice = ALL_ROWS) -> Iterator[EvaluationBatch]:
    """Yields every batch in order, as `batch` returns it, reading ahead."""
    read = functools.partial(self.batch, rows=rows)
    return read_ahead(read, 0, self.num_batches, options=READ_FEW_AHEAD)


def _sample(count: int, limit: int | None) -> np.ndarray:
  """[n] int64, which of `count` examples are evaluated; all without a limit."""
  if not limit or limit >= count:
    return np.arange(count)
  order = np.random.default_rng(0).permutation(count)
  return np.sort(order[:limit])

"""Reads batches out of the memory maps of a split, ahead of their use."""

from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import puzzle
from hrm_jax.data.puzzle import Batch
from hrm_jax.data.split import ExampleSet, Split

# One thread keeps ahead of any device; more only contend for the interpreter
# lock. A batch of ARC is 5.5 MB, so a short queue.
READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)

# Evaluation takes long over a batch, and its batches may be large.
READ_FEW_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)

ALL_ROWS = slice(None)


def collate(
  split: Split,
  example_set: ExampleSet,
  examples: np.ndarray,
  puzzles: np.ndarray,
) -> Batch:
  """Reads examples [B], which belong to puzzles [B]."""
  tokens = {
    "inputs": example_set.inputs.take(examples, axis=0),
    "labels": example_set.labels.take(examples, axis=0),
  }
  for field, rows in tokens.items():
    _check_tokens(split, example_set, field, rows)
  labels = tokens["labels"].astype(np.int32)
  if split.metadata.ignore_label_id is not None:
    ignored = tokens["labels"] == split.metadata.ignore_label_id
    if ignored.any():  # In Sudokus and mazes none is; and that costs less.
      labels[ignored] = puzzle.IGNORE_LABEL_ID
  return Batch(
    inputs=tokens["inputs"].astype(np.int32),
    labels=labels,
    puzzle_identifiers=example_set.puzzle_identifiers[puzzles].astype(np.int32),
  )


def _check_tokens(
  split: Split, example_set: ExampleSet, field: str, tokens: np.ndarray
) -> None:
  """Refuses ids that, under jit, would silently read some other embedding."""
  vocab_size = split.metadata.vocab_size
  # As on disk, often bytes: two passes over them cost next to nothing.
  if not tokens.size or (tokens.min() >= 0 and tokens.max() < vocab_size):
    return
  good = (tokens >= 0) & (tokens < vocab_size)
  if field == "labels":
    good |= tokens == puzzle.IGNORE_LABEL_ID
    if split.metadata.ignore_label_id is not None:
      good |= tokens == split.metadata.ignore_label_id
  if not good.all():
    raise InputError(
      f"{split.path / example_set.name}__{field}.npy: expected token ids in "
      f"0..{vocab_size - 1} (vocab_size {vocab_size}), got {tokens[~good][0]}."
    )


def read_ahead(
  read: Callable[[int], Any],
  start: int,
  stop: int,
  several: int = 1,
  options: grain.ReadOptions = READ_AHEAD,
) -> Iterator[Any]:
  """Yields read(start) .. read(stop - 1) while a thread prepares the next.

  The thread hands over `several` at a time.
  """

  def read_several(first: int) -> list[Any]:
    return [read(i) for i in range(first, min(first + several, stop))]

  firsts = grain.MapDataset.range(start, stop, several)
  items = iter(firsts.map(read_several).to_iter_dataset(options))
  try:
    for item in items:
      yield from item
  finally:
    items.close()

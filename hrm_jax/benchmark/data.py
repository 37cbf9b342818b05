"""Measures the data pipeline alone: no network, no device."""

import dataclasses
import itertools
import json
import pathlib
import statistics
import tempfile
import time
from typing import Any

import ml_collections
import numpy as np

from hrm_jax.console import log
from hrm_jax.data import puzzle, puzzle_kind, train_batches
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.split import open_split
from hrm_jax.data.train_batches import TrainData

# How large a generated set is: Sudoku-1k with a tenth of its views.
GROUPS, VIEWS = 1000, 100


def benchmark_data(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  *,
  batches: int,
  rounds: int,
) -> dict[str, Any]:
  """Times reading training batches, as one process that has all rows does.

  Args:
    config: names the data set that is read; if there is none, one is generated.
    metadata: what the puzzles to generate look like.
    batches: read per round, if the run has as many.
    rounds: that are timed, after one that is not. Each begins with the run's
      first batch, so the system has the files in memory.

  Returns:
    `data`, the set's path or "generated"; `batches_per_s`, `examples_per_s`
    and `cpu_s_per_batch`, medians over the rounds, the last one of all threads
    together; `batches`, `rounds`, `global_batch_size` and `seq_len`.
  """
  path = config.data.path
  if path and puzzle.metadata_path(path, "train").exists():
    return {"data": path, **_measure(config, path, batches, rounds)}
  if path:
    log.warning(f"warning: {path}: no data set there; a generated one is read")
  with tempfile.TemporaryDirectory(prefix="hrm_jax_") as root:
    write_generated(root, metadata)
    return {"data": "generated", **_measure(config, root, batches, rounds)}


def write_generated(root: str, metadata: DatasetMetadata) -> None:
  """Writes a training split of random puzzles, GROUPS with VIEWS each.

  Args:
    root: where to.
    metadata: gives `seq_len`, `vocab_size` and `num_puzzle_identifiers`.
  """
  rng = np.random.default_rng(0)
  puzzles = GROUPS * VIEWS
  cells = (puzzles, metadata.seq_len)
  smallest = np.min_scalar_type(metadata.vocab_size - 1)
  fields = {
    "inputs": rng.integers(0, metadata.vocab_size, cells, smallest),
    # As in Sudokus, every cell has an answer: 0 is the label to ignore.
    "labels": rng.integers(1, metadata.vocab_size, cells, smallest),
    "puzzle_identifiers": rng.integers(
      0, metadata.num_puzzle_identifiers, puzzles
    ),
    "puzzle_indices": np.arange(puzzles + 1),
    "group_indices": np.arange(0, puzzles + 1, VIEWS),
  }
  metadata = dataclasses.replace(metadata, total_groups=GROUPS)
  path = puzzle.metadata_path(root, "train")
  path.parent.mkdir()
  path.write_text(json.dumps(metadata.to_json()), encoding="utf-8")
  (name,) = metadata.sets
  for field, values in fields.items():
    np.save(puzzle.field_path(root, "train", name, field), values)


def _measure(
  config: ml_collections.ConfigDict,
  root: str | pathlib.Path,
  batches: int,
  rounds: int,
) -> dict[str, Any]:
  split = open_split(root, "train")
  kind = puzzle_kind.kind_of(pathlib.Path(root), [split])
  data = train_batches.of_config(config, split, kind)
  _read(data, batches)  # Plans the iterations, and warms the caches.
  read, seconds, cpu_seconds = zip(
    *(_read(data, batches) for _ in range(rounds)), strict=True
  )
  batches_per_s = read[0] / statistics.median(seconds)
  return {
    "batches_per_s": batches_per_s,
    "examples_per_s": batches_per_s * config.global_batch_size,
    "cpu_s_per_batch": statistics.median(cpu_seconds) / read[0],
    "batches": read[0],
    "rounds": rounds,
    "global_batch_size": config.global_batch_size,
    "seq_len": split.metadata.seq_len,
  }


def _read(data: TrainData, batches: int) -> tuple[int, float, float]:
  """Reads a run's first batches: how many, seconds, seconds of processors."""
  began, cpu_began = time.perf_counter(), time.process_time()
  iterations = map(data.iteration, range(data.num_iterations))
  in_order = itertools.chain.from_iterable(iterations)
  read = sum(1 for _ in itertools.islice(in_order, batches))
  return read, time.perf_counter() - began, time.process_time() - cpu_began

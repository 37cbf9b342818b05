"""Times evaluating and solving with a trained network.

Each number is a median over rounds, ratios too: a round times every way once,
one after the other, so that what else the machine does falls on all alike.
"""

import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from hrm_jax.checkpoint import run_record
from hrm_jax.checkpoint.load import load
from hrm_jax.checkpoint.run_record import find_data
from hrm_jax.console import InputError, log
from hrm_jax.data import puzzle_kind
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.machines import sharding
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import Weights
from hrm_jax.solve.solver import Solver

# Halting, and whether a row that halts takes the next puzzle.
WAYS = {
  "full": {"halt": "full"},
  "act": {"halt": "act", "queued": False},
  "queued": {"halt": "act"},
}


def benchmark_eval(
  workdir: pathlib.Path,
  *,
  data: pathlib.Path | None = None,
  batch_size: int | None = None,
  limit: int | None = None,
  rounds: int = 5,
) -> dict[str, Any]:
  """Puzzles per second of evaluation, on the test split of a run.

  Args:
    workdir: the directory of a run.
    data: the data set; None: what the run was trained on.
    batch_size: rows over all devices; None or 0 takes the run's.
    limit: at most this many examples of each set; None or 0 means all.
    rounds: measurements of each way, after one that is not counted.

  Returns:
    `trained`, with the weights as they are, and `never_halting`, with a
    halting head that always wants to go on. Of each: `mean_segments` a puzzle
    took with halting, `exact_accuracy` by way, `puzzles_per_s` by way: "full",
    "act" (rows wait for the slowest of their batch) and "queued" (they take
    the next puzzle), and the ratios `queued_over_full`, `queued_over_act`.
    Beside them `puzzles`, `batch_size`, `halt_max_steps`, `rounds`, `step`,
    `device`.

  Raises:
    InputError: no such checkpoint, or a batch that does not divide.
  """
  trained = load(workdir, on_all_devices=True)
  mesh = trained.mesh
  root = data or find_data(trained.config.data.path, workdir)
  split = open_split(root, "test")
  run_record.check_fits_data(trained.run, split.metadata, str(split.path))
  size = batch_size or trained.config.global_batch_size
  sharding.check_batch_size(size, mesh, "batch size")
  puzzles = EvaluationData(split, batch_size=size, limit=limit)
  puzzles = puzzles.fitted(mesh.size)
  loss = Loss(**trained.config.loss)
  evaluators = {
    name: Evaluator(trained.model, loss, mesh, **way)
    for name, way in WAYS.items()
  }

  def measure(weights: Weights) -> dict[str, Any]:
    runs = _in_rounds(
      {
        name: lambda evaluator=evaluator: evaluator(
          weights, puzzles, step=trained.step
        )
        for name, evaluator in evaluators.items()
      },
      rounds,
    )
    return _summary(runs)

  return {
    "trained": measure(trained.weights),
    "never_halting": measure(_never_halting(trained.weights)),
    "puzzles": puzzles.num_examples,
    "batch_size": puzzles.batch_size,
    "halt_max_steps": trained.model.halt_max_steps,
    "rounds": rounds,
    "step": trained.step,
    "device": sharding.in_words(),
  }


def benchmark_solve(
  workdir: pathlib.Path,
  *,
  data: pathlib.Path | None = None,
  batch_size: int | None = None,
  limit: int | None = None,
  rounds: int = 5,
) -> dict[str, Any]:
  """Puzzles per second of `solve --file`, on the test puzzles of a run.

  Args:
    workdir: the directory of a Sudoku run.
    data: the data set; None: what the run was trained on.
    batch_size: rows; None or 0 takes the run's.
    limit: at most this many puzzles; None or 0 means all.
    rounds: measurements of each way, after one that is not counted. Every one
      compiles, or reads the compilation cache, as the command does.

  Returns:
    `seconds` and `puzzles_per_s` by way, "full" and "queued"; `puzzles`,
    `batch_size`, `rounds`, `step`, `device`.

  Raises:
    InputError: no such checkpoint, or not one of Sudokus.
  """
  trained = load(workdir)
  recorded = trained.run.get("puzzle")
  kind = puzzle_kind.kind_of_checkpoint(trained.metadata, recorded)
  if kind != puzzle_kind.SUDOKU:
    raise InputError(
      f"{workdir}: expected a run of Sudokus, got one of {kind}."
    )
  root = data or find_data(trained.config.data.path, workdir)
  inputs = [np.asarray(s.inputs) for s in open_split(root, "test").sets]
  puzzles = np.concatenate(inputs)[: limit or None]
  size = batch_size or trained.config.global_batch_size

  def run(halt: str) -> float:
    began = time.perf_counter()
    for _ in Solver(trained, halt=halt, batch_size=size)(puzzles):
      pass
    return time.perf_counter() - began

  ways = {"full": "full", "queued": "act"}
  runs = _in_rounds(
    {name: lambda halt=halt: run(halt) for name, halt in ways.items()}, rounds
  )
  seconds = {name: statistics.median(times) for name, times in runs.items()}
  return {
    "seconds": seconds,
    "puzzles_per_s": {name: len(puzzles) / s for name, s in seconds.items()},
    "puzzles": len(puzzles),
    "batch_size": size,
    "rounds": rounds,
    "step": trained.step,
    "device": sharding.in_words(),
  }


def _in_rounds(
  ways: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[Any]]:
  for run in ways.values():
    run()  # Compiles, and warms the caches.
  results = [{name: run() for name, run in ways.items()} for _ in range(rounds)]
  return {name: [result[name] for result in results] for name in ways}


def _summary(runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
  rate = {
    name: statistics.median(result["puzzles_per_s"] for result in results)
    for name, results in runs.items()
  }
  summary = {
    "mean_segments": _mean(runs["queued"][0], "steps"),
    "exact_accuracy": {
      name: _mean(results[0], "exact_accuracy")
      for name, results in runs.items()
    },
    "puzzles_per_s": rate,
    "queued_over_full": _ratio(runs["queued"], runs["full"]),
    "queued_over_act": _ratio(runs["queued"], runs["act"]),
  }
  log.info(
    f"{summary['mean_segments']:.2f} segments a puzzle; puzzles/s: "
    + ", ".join(f"{name} {value:,.1f}" for name, value in rate.items())
    + f"; queued over full {summary['queued_over_full']:.2f}"
  )
  return summary


def _ratio(results: list[dict], others: list[dict]) -> float:
  """The median over rounds of one way's rate over the other's."""
  return statistics.median(
    one["puzzles_per_s"] / other["puzzles_per_s"]
    for one, other in zip(results, others, strict=True)
  )


def _mean(result: dict[str, Any], name: str) -> float:
  """A metric over all sets."""
  sets = result["sets"].values()
  count = sum(means["count"] for means in sets)
  return sum(means[name] * means["count"] for means in sets) / max(count, 1)


def _never_halting(weights: Weights) -> Weights:
  q_head = {**weights.params["q_head"], "bias": jnp.asarray([-1e3, 1e3])}
  return weights._replace(params={**weights.params, "q_head": q_head})

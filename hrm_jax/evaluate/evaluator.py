"""Scores weights on a whole split, exactly.

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which with `halt="full"` sums over padding rows too, as in
the reference. With `halt="act"` padding is not thought about, and counts
nowhere.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from hrm_jax import console
from hrm_jax.console import log
from hrm_jax.data.evaluation_batches import EvaluationBatch, EvaluationData
from hrm_jax.data.puzzle import Batch
from hrm_jax.evaluate import metrics, scoring
from hrm_jax.evaluate.predictions import PredictionFiles
from hrm_jax.evaluate.scoring import eval_chunk, eval_step
from hrm_jax.machines import cluster, sharding
from hrm_jax.model.hrm import HRM
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import Weights
from hrm_jax.solve import continuous_batching
from hrm_jax.solve.solver import one_behind


class Evaluator:
  """Evaluates weights on one split, as often as asked; compiles once.

  Args:
    model: the network.
    loss: which loss.
    mesh: the devices.
    halt: "full" or "act", see `segments.run_segments`.
    queued: with "act", whether a row that halts takes the next puzzle;
      otherwise it waits for the slowest row of its batch, for the same answer.
  """

  def __init__(
    self,
    model: HRM,
    loss: Loss,
    mesh: Mesh,
    *,
    halt: str,
    queued: bool = True,
  ):
    self._mesh, self._halt = mesh, halt
    self._queued = queued and halt == "act"
    settings = {"model": model, "loss": loss, "mesh": mesh}
    everywhere, by_row = sharding.replicated(mesh), sharding.by_row(mesh)
    out_shardings = (everywhere, everywhere, by_row)
    if self._queued:
      self._step = jax.jit(
        functools.partial(eval_chunk, **settings),
        static_argnames=("batches", "with_logits"),
        out_shardings=out_shardings,
      )
    else:
      self._step = jax.jit(
        functools.partial(eval_step, **settings, halt=halt),
        out_shardings=out_shardings,
      )

  def in_chunks(self, data: EvaluationData) -> EvaluationData:
    """The same examples in the batches in which they go to the devices."""
    return (
      data.chunked(continuous_batching.PUZZLES_PER_ROW)
      if self._queued
      else data
    )

  def __call__(
    self,
    weights: Weights,
    data: EvaluationData,
    *,
    step: int,
    predictions: PredictionFiles | None = None,
    after_batch: Callable[[], None] = lambda: None,
  ) -> dict[str, Any]:
    """Evaluates every example of `data` once.

    Each process reads its rows of every batch; the result is the same in all.

    Args:
      weights: on the devices.
      data: the batches; their size divides over the devices.
      step: updates that the weights have seen, for the record.
      predictions: where to write the answers, if anywhere.
      after_batch: called after each; may raise to end the evaluation.

    Returns:
      `sets`: metrics by set name, for mazes with `path_accuracy`, the share of
      answers that are any shortest path; `exact_accuracy_by_segment`: share
      of right answers after 1, 2, ... segments, over all sets;
      `puzzles_by_segments`: how many halt by themselves after 1, 2, ...;
      `puzzles_by_halt_probability`: how many are that sure, in equal parts of
      0 to 1; `seconds`, `puzzles_per_s`: without compilation; `step`; `halt`;
      `puzzles`, how many were asked, and `puzzles_in_split`, how many there
      are.
    """
    totals: dict[str, dict[str, Any]] = {}
    counts: dict[str, Any] | None = None
    mazes = scoring.holds_mazes(data.split)
    right_paths = dict.fromkeys(data.examples_by_set, 0) if mazes else {}
    chunks = self.in_chunks(data)
    mine = sharding.local_rows(self._mesh, chunks.batch_size)
    todo = sum(chunks.examples_in(mine).values())
    settings = self._settings(
      chunks.batch_size // data.batch_size, predictions is not None
    )
    self._compile(weights, chunks, settings)
    began = time.perf_counter()
    what = "evaluate"
    if jax.process_count() > 1:
      what += f", share of process {jax.process_index()}"
    with console.Progress(what, todo, unit="puzzles") as bar:
      for asked, result in self._results(weights, chunks, mine, settings):
        name, n = asked.set_name, len(asked.rows)
        sums, counted, answers = result
        totals[name] = _add(totals.get(name), jax.device_get(sums))
        counts = _add(counts, jax.device_get(counted)._asdict())
        if mazes:
          right_paths[name] += scoring.right_paths(
            asked.batch["inputs"][:n],
            sharding.take_rows(answers["predictions"])[:n],
          )
        if predictions is not None:
          answers = {k: sharding.take_rows(v) for k, v in answers.items()}
          columns = {k: v[:n] for k, v in {**asked.batch, **answers}.items()}
          predictions.write(name, {"rows": asked.rows, **columns})
        bar.advance(n)
        after_batch()
    for name, right in cluster.sum_over_processes(right_paths).items():
      totals[name]["path_accuracy"] = right
    seconds = time.perf_counter() - began
    count = sum(int(sums["count"]) for sums in totals.values())
    assert counts is not None  # No set is empty.
    shares = counts["right_after"] / max(count, 1)
    return {
      "sets": {k: metrics.eval_means(sums) for k, sums in totals.items()},
      "exact_accuracy_by_segment": shares.tolist(),
      "puzzles_by_segments": counts["halts_after"].astype(int).tolist(),
      "puzzles_by_halt_probability": (
        counts["halt_probability"].astype(int).tolist()
      ),
      "seconds": seconds,
      "puzzles_per_s": data.num_examples / seconds,
      "step": step,
      "halt": self._halt,
      "puzzles": data.num_examples,
      "puzzles_in_split": sum(len(s.inputs) for s in data.split.sets),
    }

  def lower(
    self, weights: Weights, *, seq_len: int, batch_size: int
  ) -> jax.stages.Lowered:
    """The program of a long evaluation, traced; the devices need not be here.

    Args:
      weights: arrays, or shapes with shardings.
      seq_len: G.
      batch_size: puzzles that are thought about at a time, on all devices.
    """
    batches = continuous_batching.PUZZLES_PER_ROW if self._queued else 1
    return self._lower(
      weights, seq_len, batches * batch_size, self._settings(batches, False)
    )

  def _lower(
    self, weights: Weights, seq_len: int, size: int, settings: dict[str, Any]
  ) -> jax.stages.Lowered:
    by_row = sharding.by_row(self._mesh)

    def rows(*shape: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct((size, *shape), dtype, sharding=by_row)

    batch = Batch(
      inputs=rows(seq_len), labels=rows(seq_len), puzzle_identifiers=rows()
    )
    arguments = (batch, rows(dtype=np.bool_)) if self._queued else (batch,)
    return self._step.lower(weights, *arguments, **settings)

  def _compile(
    self, weights: Weights, chunks: EvaluationData, settings: dict[str, Any]
  ) -> None:
    # The program itself is dropped: `_step` finds it in JAX's cache. This keeps
    # the time of compiling out of `seconds`.
    seq_len = chunks.split.metadata.seq_len
    self._lower(weights, seq_len, chunks.batch_size, settings).compile()

  def _settings(self, batches: int, with_logits: bool) -> dict[str, Any]:
    """What `_step` must know before it is compiled."""
    if not self._queued:
      return {}
    return {"batches": batches, "with_logits": with_logits}

  def _put(self, asked: EvaluationBatch, chunks: EvaluationData):
    """A batch on the devices, as the arguments of `_step`."""
    arguments = (asked.batch,)
    if self._queued:
      waiting = np.arange(len(asked.batch["inputs"])) < len(asked.rows)
      arguments = (asked.batch, waiting)
    return sharding.put_rows(arguments, self._mesh, chunks.batch_size)

  def _results(
    self,
    weights: Weights,
    chunks: EvaluationData,
    mine: slice,
    settings: dict[str, Any],
  ):
    """Yields batches with their results, one batch behind the devices."""

    def run(asked: EvaluationBatch) -> Any:
      return self._step(weights, *self._put(asked, chunks), **settings)

    return one_behind(run, chunks.batches(mine))


def _add(total: dict | None, sums: dict) -> dict:
  # float64 on the host: a long split must not lose its last batches.
  sums = {k: v.astype(np.float64) for k, v in sums.items()}
  return sums if total is None else {k: total[k] + v for k, v in sums.items()}


def prediction_files(
  directory: pathlib.Path,
  data: EvaluationData,
  mesh: Mesh,
) -> contextlib.AbstractContextManager[PredictionFiles]:
  """`PredictionFiles.create` for the rows of this process.

  Args:
    directory: where they will lie.
    data: as `Evaluator.in_chunks` returns it: its batches say which rows are
      this process's.
    mesh: the devices.
  """
  mine = sharding.local_rows(mesh, data.batch_size)
  return PredictionFiles.create(
    directory,
    data.examples_in(mine),
    part=(jax.process_index(), jax.process_count()),
    sum_over_processes=cluster.sum_over_processes,
  )


def log_by_segment(result: dict[str, Any]) -> None:
  """Shows how the answers get better with thinking, as a bar per segment."""
  for segment, share in enumerate(result["exact_accuracy_by_segment"], 1):
    bar = "#" * round(40 * share)
    log.info(f"after segment {segment:2}: {share:7.2%} solved {bar}")

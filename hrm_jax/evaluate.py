"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which sums over padding rows too, as in the reference. The
last line of stdout is one JSON object.
"""

import argparse
import contextlib
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax import (
  act,
  checkpoint,
  cluster,
  console,
  losses,
  metrics,
  path_score,
  saved_steps,
  sharding,
)
from hrm_jax.console import InputError, log
from hrm_jax.data import EvaluationBatch, EvaluationData
from hrm_jax.dataset import open_split
from hrm_jax.model import HRM
from hrm_jax.predictions import PredictionFiles
from hrm_jax.step import Loss, Weights, solve


def eval_step(weights: Weights, batch, *, model: HRM, loss: Loss, halt: str):
  """Thinks about one batch to the end and scores it.

  Args:
    weights: trained weights.
    batch: B puzzles, padding included.
    model: the network.
    loss: which loss.
    halt: "full" or "act".

  Returns:
    Metric sums over the batch; the rows with a right answer after segment
    1, 2, ..., [halt_max_steps] int32; and the answers, for saving.
  """
  labels = batch["labels"]
  answer = solve(
    model,
    weights,
    batch,
    halt=halt,
    observe=lambda output: losses.sequence_correct(output.logits, labels),
  )
  output = answer.output
  _, sums = losses.loss_and_metrics(
    output.logits,
    output.q_halt_logits,
    output.q_continue_logits,
    None,
    labels=labels,
    halted=jnp.ones_like(answer.steps, bool),
    steps=answer.steps,
    loss_type=loss.loss_type,
    q_weight=loss.q_weight,
  )
  counted = jnp.any(labels >= 0, axis=-1)[None]
  by_segment = (answer.trace & counted).sum(-1, dtype=jnp.int32)
  answers = {
    "predictions": jnp.argmax(output.logits, -1).astype(jnp.int32),
    "logits": output.logits.astype(jnp.float32),
    "q_halt_logits": output.q_halt_logits,
    "q_continue_logits": output.q_continue_logits,
  }
  return sums, by_segment, answers


class Evaluator:
  """Evaluates weights on one split, as often as asked; compiles once.

  Args:
    model: the network.
    loss: which loss.
    mesh: the devices.
    halt: "full" or "act", see `act.run_segments`.
  """

  def __init__(self, model: HRM, loss: Loss, mesh: Mesh, *, halt: str):
    if halt not in act.HALT_MODES:
      raise InputError(
        f"config.eval.halt: expected one of {', '.join(act.HALT_MODES)}, got "
        f"'{halt}'."
      )
    self._mesh, self._halt = mesh, halt
    everywhere, by_row = sharding.replicated(mesh), sharding.by_row(mesh)
    self._step = jax.jit(
      functools.partial(eval_step, model=model, loss=loss, halt=halt),
      out_shardings=(everywhere, everywhere, by_row),
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
      step: of the weights, for the record.
      predictions: where to write the answers, if anywhere.
      after_batch: called after each; may raise to end the evaluation.

    Returns:
      `sets`: metrics by set name, for mazes with `path_accuracy`, the share of
      answers that are any shortest path; `exact_accuracy_by_segment`: share
      of right answers after 1, 2, ... segments, over all sets; `seconds`,
      `puzzles_per_s`: without compilation; `step`; `halt`.
    """
    totals: dict[str, dict[str, Any]] = {}
    by_segment = 0
    mazes = path_score.holds_mazes(data.split)
    right_paths = dict.fromkeys(data.examples_by_set, 0) if mazes else {}
    mine = sharding.local_rows(self._mesh, data.batch_size)
    todo = sum(data.examples_in(mine).values())
    self._compile(weights, data, mine)
    began = time.perf_counter()
    with console.Progress("evaluate", todo, unit="puzzles") as bar:
      for asked, result in self._results(weights, data, mine):
        name, n = asked.set_name, len(asked.rows)
        sums, right, answers = result
        totals[name] = _add(totals.get(name), jax.device_get(sums))
        by_segment = by_segment + np.asarray(right, np.int64)
        if mazes:
          right_paths[name] += path_score.right_paths(
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
    return {
      "sets": {k: metrics.eval_means(sums) for k, sums in totals.items()},
      "exact_accuracy_by_segment": (by_segment / max(count, 1)).tolist(),
      "seconds": seconds,
      "puzzles_per_s": data.num_examples / seconds,
      "step": step,
      "halt": self._halt,
    }

  def _compile(
    self, weights: Weights, data: EvaluationData, mine: slice
  ) -> None:
    batch = self._put(data.batch(0, mine), data)
    self._step.lower(weights, batch).compile()

  def _put(self, asked: EvaluationBatch, data: EvaluationData):
    return sharding.put_rows(asked.batch, self._mesh, data.batch_size)

  def _results(self, weights: Weights, data: EvaluationData, mine: slice):
    """Yields batches with their results, one step late.

    The device works on the next batch while the host reads the last.
    """
    pending = None
    for asked in data.batches(mine):
      result = self._step(weights, self._put(asked, data))
      if pending is not None:
        yield pending
      pending = asked, result
    if pending is not None:
      yield pending


def _add(total: dict | None, sums: dict) -> dict:
  # float64 on the host: a long split must not lose its last batches.
  sums = {k: v.astype(np.float64) for k, v in sums.items()}
  return sums if total is None else {k: total[k] + v for k, v in sums.items()}


def save_predictions(
  wanted: bool,
  workdir: pathlib.Path,
  step: int,
  split: str,
  data: EvaluationData,
  mesh: Mesh,
) -> contextlib.AbstractContextManager[PredictionFiles | None]:
  """`PredictionFiles.maybe` for the rows of this process."""
  mine = sharding.local_rows(mesh, data.batch_size)
  return PredictionFiles.maybe(
    wanted,
    workdir,
    step,
    split,
    data.examples_in(mine),
    part=(jax.process_index(), jax.process_count()),
    wait_for_all=cluster.wait_for_all,
  )


def log_by_segment(result: dict[str, Any]) -> None:
  """Shows how the answers get better with thinking, as a bar per segment."""
  for segment, share in enumerate(result["exact_accuracy_by_segment"], 1):
    bar = "#" * round(40 * share)
    log.info(f"after segment {segment:2}: {share:7.2%} solved {bar}")


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m hrm_jax.evaluate",
    description="Scores a checkpoint on a whole split.",
    epilog="example: python -m hrm_jax.evaluate --workdir=runs/sudoku-mini "
    "--halt=act --limit=512",
  )
  add = parser.add_argument
  add("--workdir", type=pathlib.Path, required=True, help="of the run")
  add(
    "--step",
    type=saved_steps.step_argument,
    help="which checkpoint, or 'best'; default: the newest",
  )
  add("--data", type=pathlib.Path, help="default: what it was trained on")
  add("--split", default="test", help="default: test")
  add("--halt", choices=act.HALT_MODES, help="default: the config's eval.halt")
  add("--limit", type=int, help="examples of each set; default and 0: all")
  add("--batch-size", type=int, help="default: the config's")
  add(
    "--save-predictions",
    action="store_true",
    help="write inputs, labels and answers to WORKDIR/predictions/STEP/SPLIT",
  )
  cluster.add_arguments(parser)
  args = parser.parse_args()

  cluster.join(args.coordinator, args.num_processes, args.process_id)
  console.quiet_unless(cluster.is_first())
  mesh = sharding.make_mesh()
  trained = checkpoint.load(
    args.workdir, args.step, functools.partial(sharding.of_weights, mesh)
  )
  config = trained.config
  root = args.data or checkpoint.data_directory(config, args.workdir)
  split = open_split(root, args.split)
  checkpoint.check_same_contract(trained.run, split.metadata, str(split.path))
  batch_size = args.batch_size
  if batch_size is None:
    batch_size = config.global_batch_size
  sharding.check_batch_size(batch_size, mesh, "batch size")
  data = EvaluationData(split, batch_size=batch_size, limit=args.limit)
  evaluator = Evaluator(
    trained.model,
    Loss(**config.loss),
    mesh,
    halt=args.halt or config.eval.halt,
  )
  log.info(
    f"step {trained.step}: {data.num_examples:,} puzzles of {split.path}"
  )
  with save_predictions(
    args.save_predictions, args.workdir, trained.step, args.split, data, mesh
  ) as predictions:
    result = evaluator(
      trained.weights, data, step=trained.step, predictions=predictions
    )
  log_by_segment(result)
  if cluster.is_first():
    console.print_json(result)


if __name__ == "__main__":
  console.run(main)

"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which sums over padding rows too, as in the reference. The
last line of stdout is one JSON object.
"""

import argparse
import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax import (
  act,
  checkpoint,
  console,
  losses,
  metrics,
  path_score,
  saved_steps,
  sharding,
)
from hrm_jax.console import InputError, log
from hrm_jax.data import EvaluationData
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
    self._step = jax.jit(
      functools.partial(eval_step, model=model, loss=loss, halt=halt)
    )

  def __call__(
    self,
    weights: Weights,
    data: EvaluationData,
    *,
    step: int,
    predictions: PredictionFiles | None = None,
  ) -> dict[str, Any]:
    """Evaluates every example of `data` once.

    Args:
      weights: on the devices.
      data: the batches; their size divides over the devices.
      step: of the weights, for the record.
      predictions: where to write the answers, if anywhere.

    Returns:
      `sets`: metrics by set name, for mazes with `path_accuracy`, the share of
      answers that are any shortest path; `exact_accuracy_by_segment`: share
      of right answers after 1, 2, ... segments, over all sets; `seconds`,
      `puzzles_per_s`: without compilation; `step`; `halt`.
    """
    totals: dict[str, dict[str, Any]] = {}
    by_segment = 0
    mazes = path_score.holds_mazes(data.split)
    self._compile(weights, data)
    began = time.perf_counter()
    with console.Progress("evaluate", data.num_examples, unit="puzzles") as bar:
      for (name, host_batch, rows), result in self._results(weights, data):
        sums, right, answers = result
        sums = jax.device_get(sums)
        if mazes:
          sums["path_accuracy"] = path_score.right_paths(
            host_batch["inputs"][:rows],
            jax.device_get(answers["predictions"])[:rows],
          )
        totals[name] = _add(totals.get(name), sums)
        by_segment = by_segment + np.asarray(right, np.int64)
        if predictions is not None:
          columns = {**host_batch, **jax.device_get(answers)}
          predictions.write(name, {k: v[:rows] for k, v in columns.items()})
        bar.advance(rows)
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

  def _compile(self, weights: Weights, data: EvaluationData) -> None:
    _, batch, _ = data.batch(0)
    batch = jax.device_put(batch, sharding.by_row(self._mesh))
    self._step.lower(weights, batch).compile()

  def _results(self, weights: Weights, data: EvaluationData):
    """Yields batches with their results, one step late.

    The device works on the next batch while the host reads the last.
    """
    pending = None
    rows = sharding.by_row(self._mesh)
    for entry in data.batches():
      batch = jax.device_put(entry[1], rows)
      result = self._step(weights, batch)
      if pending is not None:
        yield pending
      pending = entry, result
    if pending is not None:
      yield pending


def _add(total: dict | None, sums: dict) -> dict:
  # float64 on the host: a long split must not lose its last batches.
  sums = {k: v.astype(np.float64) for k, v in sums.items()}
  return sums if total is None else {k: total[k] + v for k, v in sums.items()}


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
  args = parser.parse_args()

  trained = checkpoint.load(args.workdir, args.step)
  config = trained.config
  root = args.data or checkpoint.data_directory(config, args.workdir)
  split = open_split(root, args.split)
  checkpoint.check_same_contract(trained.run, split.metadata, str(split.path))
  batch_size = args.batch_size
  if batch_size is None:
    batch_size = config.global_batch_size
  mesh = sharding.make_mesh()
  sharding.check_batch_size(batch_size, mesh, "batch size")
  data = EvaluationData(split, batch_size=batch_size, limit=args.limit)
  evaluator = Evaluator(
    trained.model,
    Loss(**config.loss),
    mesh,
    halt=args.halt or config.eval.halt,
  )
  weights = jax.device_put(trained.weights, sharding.replicated(mesh))
  log.info(
    f"step {trained.step}: {data.num_examples:,} puzzles of {split.path}"
  )
  with PredictionFiles.maybe(
    args.save_predictions, args.workdir, trained.step, args.split, data
  ) as predictions:
    result = evaluator(
      weights, data, step=trained.step, predictions=predictions
    )
  log_by_segment(result)
  console.print_json(result)


if __name__ == "__main__":
  console.run(main)

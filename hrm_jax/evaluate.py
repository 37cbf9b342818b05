"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which with `halt="full"` sums over padding rows too, as in
the reference. With `halt="act"` padding is not thought about, and counts
nowhere. The last line of stdout is one JSON object.
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
  refill,
  sharding,
)
from hrm_jax.console import InputError, log
from hrm_jax.data import EvaluationData
from hrm_jax.dataset import open_split
from hrm_jax.model import HRM
from hrm_jax.predictions import PredictionFiles
from hrm_jax.step import (
  Loss,
  Weights,
  gather_puzzle_rows,
  solve,
  solve_queue,
)


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
  sums = _score(answer.output, answer.steps, labels, loss)
  counted = _counted(labels)[None]
  by_segment = (answer.trace & counted).sum(-1, dtype=jnp.int32)
  return sums, by_segment, _to_save(answer.output, with_logits=True)


def eval_chunk(
  weights: Weights,
  chunk,
  waiting: jax.Array,
  *,
  model: HRM,
  loss: Loss,
  mesh: Mesh,
  batches: int,
  with_logits: bool,
):
  """Thinks about several batches, each row halting by itself, and scores them.

  Each device works through its share of the chunk as a queue, see `refill`.

  Args:
    weights: trained weights.
    chunk: `batches` times B puzzles, padding included.
    waiting: [batches * B] bool, which of them are puzzles; padding, which
      comes last, is not thought about and counts nowhere.
    model: the network.
    loss: which loss.
    mesh: the devices.
    batches: so many times more puzzles than rows to think about them.
    with_logits: whether the answers hold the logits, V numbers a cell.

  Returns:
    As `eval_step`, over the chunk.
  """

  def keep(output, steps, now):
    def of_row(*row):
      return _score(*jax.tree.map(lambda leaf: leaf[None], row), loss)

    sums = jax.vmap(of_row)(output, steps, now["labels"])
    return sums, _to_save(output, with_logits=with_logits)

  def work_through(weights, puzzles, waiting):
    return solve_queue(
      model,
      weights,
      puzzles,
      waiting.sum(dtype=jnp.int32),
      num_rows=len(waiting) // batches,
      keep=keep,
      observe=lambda output, now: losses.sequence_correct(
        output.logits, now["labels"]
      ),
    )

  # The table may be large, and lie in parts: devices get the rows they need.
  rows = gather_puzzle_rows(model, weights, chunk["puzzle_identifiers"])
  answers = sharding.on_each_device(work_through, mesh)(
    weights._replace(puzzle_table=None),
    {**chunk, "puzzle_rows": rows},
    waiting,
  )
  per_puzzle, to_save = answers.kept
  sums = jax.tree.map(lambda leaf: leaf.sum(0), per_puzzle)
  counted = _counted(chunk["labels"])[:, None]
  by_segment = (answers.trace & counted).sum(0, dtype=jnp.int32)
  return sums, by_segment, to_save


def _score(output, steps, labels, loss: Loss) -> dict[str, jax.Array]:
  """Metric sums over rows that have all come to their end."""
  _, sums = losses.loss_and_metrics(
    output.logits,
    output.q_halt_logits,
    output.q_continue_logits,
    None,
    labels=labels,
    halted=jnp.ones_like(steps, bool),
    steps=steps,
    loss_type=loss.loss_type,
    q_weight=loss.q_weight,
  )
  return sums


def _counted(labels: jax.Array) -> jax.Array:
  return jnp.any(labels >= 0, axis=-1)


def _to_save(output, *, with_logits: bool) -> dict[str, jax.Array]:
  answers = {
    "predictions": jnp.argmax(output.logits, -1).astype(jnp.int32),
    "q_halt_logits": output.q_halt_logits,
    "q_continue_logits": output.q_continue_logits,
  }
  if with_logits:
    answers["logits"] = output.logits.astype(jnp.float32)
  return answers


class Evaluator:
  """Evaluates weights on one split, as often as asked; compiles once.

  Args:
    model: the network.
    loss: which loss.
    mesh: the devices.
    halt: "full" or "act", see `act.run_segments`.
    refills: with "act", whether a row that halts takes the next puzzle;
      otherwise it waits for the slowest row of its batch, for the same answer.
  """

  def __init__(
    self,
    model: HRM,
    loss: Loss,
    mesh: Mesh,
    *,
    halt: str,
    refills: bool = True,
  ):
    if halt not in act.HALT_MODES:
      raise InputError(
        f"config.eval.halt: expected one of {', '.join(act.HALT_MODES)}, got "
        f"'{halt}'."
      )
    self._mesh, self._halt = mesh, halt
    self._refills = refills and halt == "act"
    settings = {"model": model, "loss": loss}
    if self._refills:
      self._step = jax.jit(
        functools.partial(eval_chunk, **settings, mesh=mesh),
        static_argnames=("batches", "with_logits"),
      )
    else:
      self._step = jax.jit(functools.partial(eval_step, **settings, halt=halt))

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
    saves = predictions is not None
    self._compile(weights, data, saves)
    began = time.perf_counter()
    with console.Progress("evaluate", data.num_examples, unit="puzzles") as bar:
      for (name, host_batch, rows), result in self._results(
        weights, data, saves
      ):
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

  def _compile(
    self, weights: Weights, data: EvaluationData, saves: bool
  ) -> None:
    chunks, settings = self._chunks(data, saves)
    arguments = self._put(chunks.batch(0))
    self._step.lower(weights, *arguments, **settings).compile()

  def _results(self, weights: Weights, data: EvaluationData, saves: bool):
    """Yields batches with their results, one step late.

    The device works on the next batch while the host reads the last.
    """
    pending = None
    chunks, settings = self._chunks(data, saves)
    for entry in chunks.batches():
      result = self._step(weights, *self._put(entry), **settings)
      if pending is not None:
        yield pending
      pending = entry, result
    if pending is not None:
      yield pending

  def _chunks(self, data: EvaluationData, saves: bool):
    """What goes to the devices at once, and how `_step` shall take it."""
    if not self._refills:
      return data, {}
    chunks = data.chunked(refill.PUZZLES_PER_ROW)
    batches = chunks.batch_size // data.batch_size
    return chunks, {"batches": batches, "with_logits": saves}

  def _put(self, entry):
    """One of `EvaluationData.batches` as arguments of `_step`."""
    _, batch, rows = entry
    waiting = np.arange(len(batch["inputs"])) < rows
    arguments = (batch, waiting) if self._refills else (batch,)
    return jax.device_put(arguments, sharding.by_row(self._mesh))


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
  add("--step", type=int, help="which checkpoint; default: the newest")
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

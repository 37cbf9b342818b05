"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which with `halt="full"` sums over padding rows too, as in
the reference. With `halt="act"` padding is not thought about, and counts
nowhere. The last line of stdout is one JSON object.
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

from hrm_jax import console
from hrm_jax.checkpoint import run_record, saved_steps, store
from hrm_jax.console import InputError, RunError, log
from hrm_jax.data.split import open_split
from hrm_jax.data.train_batches import EvaluationBatch, EvaluationData
from hrm_jax.evaluate import metrics, path_score
from hrm_jax.evaluate.predictions import PredictionFiles, directory_of
from hrm_jax.machines import cluster, compilation_cache, host_memory, sharding
from hrm_jax.model import halting, losses
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import continuous_batching
from hrm_jax.solve.inference import solve, solve_queue
from hrm_jax.train.update import Loss


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
    if halt not in halting.HALT_MODES:
      raise InputError(
        f"config.eval.halt: expected one of {', '.join(halting.HALT_MODES)}, got "
        f"'{halt}'."
      )
    self._mesh, self._halt = mesh, halt
    self._refills = refills and halt == "act"
    settings = {"model": model, "loss": loss}
    everywhere, by_row = sharding.replicated(mesh), sharding.by_row(mesh)
    out_shardings = (everywhere, everywhere, by_row)
    if self._refills:
      self._step = jax.jit(
        functools.partial(eval_chunk, **settings, mesh=mesh),
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
      if self._refills
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
    chunks = self.in_chunks(data)
    mine = sharding.local_rows(self._mesh, chunks.batch_size)
    todo = sum(chunks.examples_in(mine).values())
    settings = self._settings(
      chunks.batch_size // data.batch_size, predictions is not None
    )
    self._compile(weights, chunks, mine, settings)
    began = time.perf_counter()
    what = "evaluate"
    if jax.process_count() > 1:
      what += f", share of process {jax.process_index()}"
    with console.Progress(what, todo, unit="puzzles") as bar:
      for asked, result in self._results(weights, chunks, mine, settings):
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
    self,
    weights: Weights,
    chunks: EvaluationData,
    mine: slice,
    settings: dict[str, Any],
  ) -> None:
    arguments = self._put(chunks.batch(0, mine), chunks)
    self._step.lower(weights, *arguments, **settings).compile()

  def _settings(self, batches: int, with_logits: bool) -> dict[str, Any]:
    """What `_step` must know before it is compiled."""
    if not self._refills:
      return {}
    return {"batches": batches, "with_logits": with_logits}

  def _put(self, asked: EvaluationBatch, chunks: EvaluationData):
    """A batch on the devices, as the arguments of `_step`."""
    arguments = (asked.batch,)
    if self._refills:
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
    """Yields batches with their results, one step late.

    The device works on the next batch while the host reads the last.
    """
    pending = None
    for asked in chunks.batches(mine):
      result = self._step(weights, *self._put(asked, chunks), **settings)
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
  """`PredictionFiles.maybe` for the rows of this process.

  Args:
    wanted: whether to write at all; else yields None.
    workdir: of the run.
    step: of the weights.
    split: name of what will be evaluated.
    data: as `Evaluator.in_chunks` returns it: its batches say which rows are
      this process's.
    mesh: the devices.
  """
  mine = sharding.local_rows(mesh, data.batch_size)
  return PredictionFiles.maybe(
    wanted,
    workdir,
    step,
    split,
    data.examples_in(mine),
    part=(jax.process_index(), jax.process_count()),
    sum_over_processes=cluster.sum_over_processes,
  )


def log_by_segment(result: dict[str, Any]) -> None:
  """Shows how the answers get better with thinking, as a bar per segment."""
  for segment, share in enumerate(result["exact_accuracy_by_segment"], 1):
    bar = "#" * round(40 * share)
    log.info(f"after segment {segment:2}: {share:7.2%} solved {bar}")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
  """Does what `main`'s arguments say.

  Returns:
    What an `Evaluator` does; and `predictions`, where they are saved, or None
    if they could not be.
  """
  trained = store.load(args.workdir, args.step, on_all_devices=True)
  config, mesh = trained.config, trained.mesh
  root = args.data or store.data_directory(config, args.workdir)
  split = open_split(root, args.split)
  run_record.check_same_contract(trained.run, split.metadata, str(split.path))
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
    args.save_predictions,
    args.workdir,
    trained.step,
    args.split,
    evaluator.in_chunks(data),
    mesh,
  ) as predictions:
    result = evaluator(
      trained.weights, data, step=trained.step, predictions=predictions
    )
  if predictions is not None:
    directory = directory_of(args.workdir, trained.step, args.split)
    result["predictions"] = None if predictions.failed else str(directory)
  return result


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
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
  add(
    "--halt", choices=halting.HALT_MODES, help="default: the config's eval.halt"
  )
  add("--limit", type=int, help="examples of each set; default and 0: all")
  add("--batch-size", type=int, help="default: the config's")
  add(
    "--save-predictions",
    action="store_true",
    help="write inputs, labels and answers to WORKDIR/predictions/STEP/SPLIT",
  )
  cluster.add_arguments(parser)
  args = parser.parse_args()

  host_memory.keep_freed_blocks()
  cluster.join(
    args.coordinator,
    args.num_processes,
    args.process_id,
    heartbeat_timeout=args.heartbeat_timeout,
  )
  console.quiet_unless(cluster.is_first())
  compilation_cache.use(compilation_cache.of_user())
  with cluster.shared_fate():
    result = evaluate(args)
  log_by_segment(result)
  if cluster.is_first():
    console.print_json(result)
  if args.save_predictions and result["predictions"] is None:
    raise RunError("the predictions are not saved")


if __name__ == "__main__":
  console.run(main)

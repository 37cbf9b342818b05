"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which with `halt="full"` sums over padding rows too, as in
the reference. With `halt="act"` padding is not thought about, and counts
nowhere. The last line of stdout is one JSON object.
"""

import argparse
import contextlib
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import choice, run_record
from hrm_jax.checkpoint.load import load
from hrm_jax.checkpoint.run_record import find_data
from hrm_jax.console import RunError, log
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate.evaluator import (
  Evaluator,
  log_by_segment,
  prediction_files,
)
from hrm_jax.evaluate.predictions import directory_of
from hrm_jax.machines import (
  cluster,
  compilation_cache,
  host_memory,
  out_of_memory,
  sharding,
)
from hrm_jax.model.losses import Loss
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.segments import HALT_MODES

_EXAMPLE = (
  "example:\n  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini --halt=act"
)


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
  """Does what `main`'s arguments say.

  Returns:
    What an `Evaluator` does; `segments`, how many a puzzle got at most; and
    `predictions`, where they are saved, or None if they could not be.

  Raises:
    InputError: a flag is out of range, or there is no such checkpoint or data.
    OutOfMemoryError: names the flag that helps.
  """
  console.check_least("--segments", args.segments, 1)
  what_helps: list[str] = []  # Known once the batches are.
  with out_of_memory.told("evaluation", lambda: what_helps):
    return _evaluate(args, what_helps)


def _evaluate(
  args: argparse.Namespace, what_helps: list[str]
) -> dict[str, Any]:
  trained = load(args.workdir, args.step, on_all_devices=True)
  config, mesh = trained.config, trained.mesh
  root = args.data or find_data(config.data.path, args.workdir)
  split = open_split(root, args.split)
  run_record.check_fits_data(trained.run, split.metadata, str(split.path))
  batch_size = args.batch_size
  if batch_size is None:
    batch_size = config.global_batch_size
  sharding.check_batch_size(batch_size, mesh, "batch size")
  data = EvaluationData(split, batch_size=batch_size, limit=args.limit)
  # A few puzzles need no large batch. A whole split keeps the run's: what it
  # scores then is what the run's own evaluation says, padding rows included.
  if args.limit:
    data = data.fitted(mesh.size)
  what_helps += out_of_memory.smaller(
    "--batch-size", data.batch_size, mesh.size
  )
  model = with_segments(trained.model, args.segments)
  evaluator = Evaluator(
    model,
    Loss(**config.loss),
    mesh,
    halt=args.halt or config.eval.halt,
  )
  log.info(
    f"step {trained.step}: {data.num_examples:,} puzzles of {split.path}"
  )
  files = contextlib.nullcontext()
  if args.save_predictions:
    chunks = evaluator.in_chunks(data)
    files = prediction_files(
      args.workdir, trained.step, args.split, chunks, mesh
    )
  with files as predictions:
    result = evaluator(
      trained.weights, data, step=trained.step, predictions=predictions
    )
  result["segments"] = model.halt_max_steps
  if predictions is not None:
    directory = directory_of(args.workdir, trained.step, args.split)
    result["predictions"] = None if predictions.failed else str(directory)
  return result


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.evaluate",
    description="Scores a checkpoint on a whole split.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--workdir",
    type=console.path,
    required=True,
    metavar="DIR",
    help="the run's directory",
  )
  add(
    "--step",
    type=choice.step_argument,
    metavar="N",
    help="which checkpoint, or 'best'; default: the newest",
  )
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set; default: the run's",
  )
  add(
    "--split",
    default="test",
    metavar="NAME",
    help="which part of the data: train or test; default: test",
  )
  add(
    "--halt",
    choices=HALT_MODES,
    help="full: every puzzle gets all segments; act: each until it wants to "
    "halt; default: the config's eval.halt",
  )
  add(
    "--segments",
    type=int,
    metavar="N",
    help="most segments that a puzzle gets, whichever way it halts, more or "
    "fewer than in training; default: the config's model.halt_max_steps",
  )
  add(
    "--limit",
    type=int,
    metavar="N",
    help="examples of each set; default and 0: all",
  )
  add(
    "--batch-size",
    type=int,
    metavar="N",
    help="puzzles at a time, over all devices; never more than there are to "
    "evaluate; default: the config's",
  )
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

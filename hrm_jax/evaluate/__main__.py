"""Scores weights on a whole split, exactly.

  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini

Every example counts once; the last batch is padded and the padding masked, but
for `q_halt_loss`, which with `halt="full"` sums over padding rows too, as in
the reference. With `halt="act"` padding is not thought about, and counts
nowhere. The last line of stdout is one JSON object.
"""

import argparse
import contextlib
import itertools
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import flags, run_record
from hrm_jax.checkpoint.published import find_data
from hrm_jax.console import InputError, RunError, log
from hrm_jax.data import identifiers, puzzle_kind
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import by_ingredient
from hrm_jax.evaluate.evaluator import (
  Evaluator,
  log_by_segment,
  prediction_files,
)
from hrm_jax.evaluate.predictions import check_place, directory_of
from hrm_jax.machines import (
  cluster,
  compilation_cache,
  host_memory,
  out_of_memory,
  sharding,
)
from hrm_jax.model.losses import Loss
from hrm_jax.solve import by_votes, ensemble
from hrm_jax.solve.ensemble import Ensemble
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.segments import HALT_MODES

_EXAMPLE = """examples:
  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini --halt=act
  python -m hrm_jax.evaluate --workdir=runs/sudoku-mini --votes=8
  python -m hrm_jax.evaluate --model=hf://ORG/NAME@main --data=data/set"""

# `--save-predictions` without a directory.
_OF_THE_RUN = True


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
  """Does what `main`'s arguments say.

  Returns:
    What an `Evaluator` does; `segments`, how many a puzzle got at most; and
    `predictions`, where they are saved, or None if they could not be. With
    several attempts at a puzzle, what `by_ingredient.evaluate` does.

  Raises:
    InputError: a flag is out of range, or there is no such checkpoint or data.
    OutOfMemoryError: names the flag that helps.
  """
  console.check_least("--segments", args.segments, 1, below=10_001)
  console.check_least("--limit", args.limit, 0, below=2**63)
  flags.check_run(args)
  tried = ensemble.from_flags(args)
  _check_predictions(args)
  if tried is not None and args.save_predictions is not None:
    raise InputError(
      "--save-predictions: expected a single attempt at each puzzle, got "
      "--votes, --samples or --checkpoints."
    )
  what_helps: list[str] = []  # Known once the batches are.
  with out_of_memory.told("evaluation", lambda: what_helps):
    return _evaluate(args, tried, what_helps)


def _evaluate(
  args: argparse.Namespace, tried: Ensemble | None, what_helps: list[str]
) -> dict[str, Any]:
  networks = ensemble.networks(args, tried, on_all_devices=True)
  trained = next(networks)
  config, mesh = trained.config, trained.mesh
  root = find_data(args, trained)
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
  log.info(
    f"step {trained.step}: {data.num_examples:,} puzzles of {split.path}"
  )
  halt = args.halt or config.eval.halt
  if tried is not None:
    return by_ingredient.evaluate(
      itertools.chain([trained], networks),
      data,
      by_votes.settings_of(
        tried,
        puzzle_kind.kind_of(split.path.parent, [split]),
        split.metadata.seq_len,
        halt=halt,
        segments=args.segments,
        batch_size=batch_size,
        names=identifiers.names_in(root),
      ),
    )
  model = with_segments(trained.model, args.segments)
  evaluator = Evaluator(
    model,
    Loss(**config.loss),
    mesh,
    halt=halt,
  )
  files, directory = contextlib.nullcontext(), None
  if args.save_predictions:
    directory = args.save_predictions
    if directory is _OF_THE_RUN:
      directory = directory_of(args.workdir, trained.step, args.split)
      check_place(directory)
    files = prediction_files(directory, evaluator.in_chunks(data), mesh)
  with files as predictions:
    result = evaluator(
      trained.weights, data, step=trained.step, predictions=predictions
    )
  result["segments"] = model.halt_max_steps
  if predictions is not None:
    result["predictions"] = None if predictions.failed else str(directory)
  return result


def _check_predictions(args: argparse.Namespace) -> None:
  """Refuses a place for predictions before anything is evaluated."""
  if args.save_predictions is None:
    return
  if args.save_predictions is not _OF_THE_RUN:
    check_place(args.save_predictions)
  elif args.model is not None:
    raise InputError(
      "--save-predictions: a --model has no place for them; say where: "
      "--save-predictions=DIR."
    )


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.evaluate",
    description="Scores a checkpoint on a whole split.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  flags.add_run(parser, instead="model")
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
    help="examples of each set, the same sample that a run's eval.limit "
    "takes; default and 0: all",
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
    type=console.path,
    nargs="?",
    const=_OF_THE_RUN,
    metavar="DIR",
    help="write inputs, labels and answers to DIR; default: to "
    "WORKDIR/predictions/STEP/SPLIT",
  )
  ensemble.add_flags(parser)
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
  if "attempts" in result:
    by_ingredient.log_scores(result)
  else:
    log_by_segment(result)
  if cluster.is_first():
    console.print_json(result)
  if args.save_predictions and result["predictions"] is None:
    raise RunError("the predictions are not saved")


if __name__ == "__main__":
  console.run(main)

"""Trains an HRM.

example: python -m hrm_jax.train --config=configs/sudoku.py:mini \\
             --workdir=runs/sudoku-mini

A run resumes from its workdir by default: from the newest checkpoint whose
digests are right, and it names the bad file of each newer one. TensorBoard
reads WORKDIR/tensorboard. The last line of stdout is one JSON object.
"""

import argparse
import functools
import pathlib
import sys
import time

from hrm_jax import console
from hrm_jax.checkpoint import flags
from hrm_jax.console import InputError, RunError, log
from hrm_jax.machines import (
  cluster,
  compilation_cache,
  host_memory,
  preemption,
)
from hrm_jax.train import config_flags
from hrm_jax.train.init_from import InitFrom
from hrm_jax.train.loop import check_can_begin, train


def make_parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  parser = config_flags.make_parser("python -m hrm_jax.train", __doc__)
  add = parser.add_argument
  add(
    "--workdir",
    type=console.path,
    required=True,
    metavar="DIR",
    help="directory of the run: checkpoints, logs, results",
  )
  add(
    "--strict-restore",
    action="store_true",
    help="refuse to resume from an older checkpoint when the newest is damaged",
  )
  add(
    "--init-from",
    type=flags.model_argument,
    metavar="MODEL",
    help=f"begin a new run with these weights: {flags.FORMS}; a run that "
    "resumes does not read them again",
  )
  add(
    "--table",
    type=functools.partial(flags.table_argument, names_known=True),
    metavar="RULE",
    help="rows of its puzzle table: keep, reset, map (by name), or "
    "map=identifiers.json; default: keep where the names are the same",
  )
  add(
    "--max-seconds",
    type=int,
    metavar="N",
    help="save and stop at the first update after so many seconds, with exit "
    "code 75 as after a signal: the same command goes on",
  )
  cluster.add_arguments(parser)
  return parser


def init_from_of(args: argparse.Namespace) -> InitFrom | None:
  """The weights that the flags ask for; None: random ones.

  Raises:
    InputError: there is a rule for the table of no model.
  """
  if args.init_from is not None:
    return InitFrom(args.init_from, args.table)
  if args.table is not None:
    raise InputError(
      f"--table={args.table}: expected --init-from=MODEL too, whose table it "
      "is."
    )
  return None


def make_workdir(workdir: pathlib.Path) -> None:
  """Makes the directory of the run, if it is not there.

  Raises:
    InputError: it cannot be.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f"--workdir={workdir}: cannot be made ({error.strerror})."
    ) from None


def main() -> None:
  """The command line."""
  began = time.monotonic()
  args = config_flags.parse(make_parser())
  console.check_least("--max-seconds", args.max_seconds, 1)
  host_memory.keep_freed_blocks()
  cluster.join(
    args.coordinator,
    args.num_processes,
    args.process_id,
    heartbeat_timeout=args.heartbeat_timeout,
  )
  console.quiet_unless(cluster.is_first())
  if args.shipped:
    log.info(f"configuration: {args.shipped}, which comes with hrm_jax")
  with cluster.shared_fate():
    # A run that is refused leaves nothing behind.
    init_from = init_from_of(args)
    check_can_begin(args.config, args.workdir, init_from)
    make_workdir(args.workdir)
    compilation_cache.use(compilation_cache.of_run(args.workdir))
    result = train(
      args.config,
      args.workdir,
      strict_restore=args.strict_restore,
      init_from=init_from,
      stop_at=began + args.max_seconds if args.max_seconds else None,
    )
  if cluster.is_first():
    console.print_json(result)
  if result["saved_step"] != result["step"]:
    newest = result["saved_step"]
    raise RunError(
      f"update {result['step']} is not saved; "
      + (
        "there is no checkpoint"
        if newest is None
        else f"the newest checkpoint is of update {newest}"
      )
    )
  if result["ended"] == "preempted":
    log.warning(
      f"preempted; update {result['step']:,} is saved, and the same command "
      f"goes on with it (exit code {preemption.EXIT_CODE})"
    )
    sys.exit(preemption.EXIT_CODE)


if __name__ == "__main__":
  console.run(main)

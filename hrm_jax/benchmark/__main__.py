"""Measures speed, on the devices at hand.

example: python -m hrm_jax.benchmark train --config=sudoku.py \\
             --config.global_batch_size=8 --steps=5 --json

  train    one training update, over and over
  compile  how long the update takes to compile, and what it needs
  data     batches per second of the data pipeline alone: of config.data.path,
           or of a generated set if nothing is there
  comm     bytes that each device sends per update, on 8 CPU devices made up
           for it, or on a --target; reads the compiled program, runs nothing
  eval     puzzles per second of evaluating the run in --workdir: all segments,
           halting, and halting with rows that take the next puzzle
  solve    the same of solving its test puzzles as a file
  curves   what writing event files costs an update: with them and without, in
           interleaved pairs

train, compile, comm and curves run on generated batches. With --json the last
line of stdout is one JSON object.
"""

import argparse
from typing import Any

from hrm_jax import console
from hrm_jax.benchmark import curves, inference, update
from hrm_jax.benchmark import data as benchmark_data
from hrm_jax.console import InputError, log
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.machines import host_memory, out_of_memory, platform
from hrm_jax.plan import planning, targets
from hrm_jax.plan import program as plan_program
from hrm_jax.train import config_flags, less_memory

ON_A_RUN = {
  "eval": inference.benchmark_eval,
  "solve": inference.benchmark_solve,
}
COMMANDS = ("train", "compile", "data", "comm", "curves", *ON_A_RUN)

# With as many as one machine has GPUs.
CPU_DEVICES = 8

LEAST = {
  "--steps": 1,
  "--devices": 1,
  "--slices": 1,
  "--seq-len": 1,
  "--vocab-size": 2,
}
LEAST |= {"--num-identifiers": 1, "--batches": 1, "--rounds": 1}
LEAST |= {"--batch-size": 0, "--limit": 0}


def _show(result: dict[str, Any]) -> None:
  for key, value in result.items():
    if isinstance(value, list):
      print(f"{key}:")
      for row in value:
        print("  " + "  ".join(str(v)[:60] for v in row.values()))
    else:
      print(f"{key:20} {value}")


def make_parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  parser = config_flags.make_parser(
    "python -m hrm_jax.benchmark", __doc__, config="sudoku.py"
  )
  add = parser.add_argument
  add("command", choices=COMMANDS, help="what to measure")
  add("--json", action="store_true", help="print one JSON object")

  def number(flag: str, default: int, what: str) -> None:
    text = f"{what} (default: {default})"
    add(flag, type=int, default=default, metavar="N", help=text)

  number("--steps", 10, "train, curves: updates that are timed")
  add(
    "--profile",
    type=console.path,
    metavar="DIR",
    help="train: directory for a device trace of three more updates",
  )
  text = f"comm: CPU devices to make up (default: {CPU_DEVICES})"
  add("--devices", type=int, metavar="N", help=text)
  text = (
    "comm: devices to compile for instead, which need not be here; such as "
  )
  add("--target", metavar="CHIP:SIZE", help=text + targets.EXAMPLES)
  number("--slices", 1, "comm: TPU slices of the target's size")
  number("--seq-len", 81, "cells of a generated puzzle")
  number("--vocab-size", 11, "tokens that generated puzzles are made of")
  number("--num-identifiers", 1, "rows of the table of puzzle embeddings")
  add(
    "--workdir",
    type=console.path,
    metavar="DIR",
    help="eval, solve: directory of the run",
  )
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="eval, solve: the data set (default: what the run was trained on)",
  )
  number("--batches", 2000, "data: batches that are read in a round")
  number("--rounds", 5, "data, eval, solve, curves: rounds that are timed")
  number("--batch-size", 0, "eval, solve: puzzles at a time; 0: as in training")
  number("--limit", 0, "eval, solve: how many puzzles; 0: all")
  return parser


def main() -> None:
  """The command line."""
  args = config_flags.parse(make_parser())
  for flag, least in LEAST.items():
    name = flag.removeprefix("--").replace("-", "_")
    console.check_least(flag, getattr(args, name), least, below=2**31)
  if args.shipped:
    log.info(f"configuration: {args.shipped}, which comes with hrm_jax")
  host_memory.keep_freed_blocks()
  if args.command in ON_A_RUN:
    result = _on_a_run(args)
  else:
    result = _on_generated_batches(args)
  result = {"benchmark": args.command, **result}
  if args.json:
    console.print_json(result)
  else:
    _show(result)


def _on_a_run(args: argparse.Namespace) -> dict[str, Any]:
  if args.workdir is None:
    raise InputError(
      f"{args.command}: expected --workdir=DIR of a trained run."
    )
  platform.check()
  where = {"eval": "evaluation", "solve": "solving"}[args.command]
  with out_of_memory.told(where, lambda: ["a smaller --batch-size"]):
    return ON_A_RUN[args.command](
      args.workdir,
      data=args.data,
      rounds=args.rounds,
      limit=args.limit,
      batch_size=args.batch_size,
    )


def _on_generated_batches(args: argparse.Namespace) -> dict[str, Any]:
  puzzles = plan_program.generated_puzzles(
    args.seq_len, args.vocab_size, args.num_identifiers
  )
  if args.command == "data":
    return benchmark_data.benchmark_data(
      args.config, puzzles, batches=args.batches, rounds=args.rounds
    )
  if args.command == "comm":
    return _communication(args, puzzles)
  platform.check()
  program = plan_program.make_program(args.config, puzzles)
  with out_of_memory.told(
    "training", lambda: less_memory.keys_that_help(args.config, program.setup)
  ):
    if args.command == "train":
      return update.train(program, steps=args.steps, profile=args.profile)
    if args.command == "curves":
      return curves.curves(program, steps=args.steps, pairs=args.rounds)
    return update.compilation(program)


def _communication(
  args: argparse.Namespace, puzzles: DatasetMetadata
) -> dict[str, Any]:
  if args.target and args.devices:
    raise InputError("--devices: expected no --target beside it.")
  # A program for many devices can be read without having any of them.
  name = args.target or f"cpu:{args.devices or CPU_DEVICES}"
  target = targets.find(name, args.slices)
  program = plan_program.make_program(
    args.config,
    puzzles,
    devices=target.devices,
    timing=planning.TimingByCompiler(target),
  )
  with out_of_memory.told(
    "training", lambda: less_memory.keys_that_help(args.config, program.setup)
  ):
    return {"target": name, **update.communication(program)}


if __name__ == "__main__":
  console.run(main)

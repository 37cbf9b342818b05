"""Measures speed, on the devices at hand.

example: python -m hrm_jax.benchmark train --config=configs/sudoku.py \\
             --config.global_batch_size=8 --steps=5 --json

  train    one training update, over and over
  compile  how long the update takes to compile, and what it needs
  data     batches per second of the data pipeline alone: of config.data.path,
           or of a generated set if nothing is there
  comm     bytes that each device sends per update, on 8 CPU devices made up
           for it; reads the compiled program, runs nothing
  eval     puzzles per second of evaluating the run in --workdir: all segments,
           halting, and halting with rows that take the next puzzle
  solve    the same of solving its test puzzles as a file

train, compile and comm run on generated batches; any key of the configuration
can be overridden. With --json the last line of stdout is one JSON object.
"""

import pathlib
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags as ml_config_flags

from hrm_jax import console
from hrm_jax.benchmark import data as benchmark_data
from hrm_jax.benchmark import inference
from hrm_jax.benchmark import update as measure
from hrm_jax.console import InputError
from hrm_jax.machines import host_memory
from hrm_jax.train import config_flags

CONFIG = ml_config_flags.DEFINE_config_file(
  "config",
  "configs/sudoku.py",
  "Configuration, FILE or FILE:VARIANT.",
  lock_config=True,
)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
STEPS = flags.DEFINE_integer("steps", 10, "Updates that are timed.", 1)
PROFILE = flags.DEFINE_string(
  "profile", None, "Directory for a device trace of three more updates."
)
DEVICES = flags.DEFINE_integer("devices", 8, "comm: CPU devices to make.", 1)
SEQ_LEN = flags.DEFINE_integer("seq-len", 81, "Of generated puzzles.", 1)
VOCAB_SIZE = flags.DEFINE_integer("vocab-size", 11, "Of their tokens.", 2)
IDENTIFIERS = flags.DEFINE_integer(
  "num-identifiers", 1, "Of puzzles: rows of the puzzle table.", 1
)
WORKDIR = flags.DEFINE_string("workdir", None, "eval, solve: of the run.")
BATCHES = flags.DEFINE_integer("batches", 2000, "data: read per round.", 1)
ROUNDS = flags.DEFINE_integer(
  "rounds", 5, "data, eval, solve: that are timed.", 1
)
BATCH_SIZE = flags.DEFINE_integer(
  "batch-size", 0, "eval, solve: puzzles at a time; 0: as in training.", 0
)
LIMIT = flags.DEFINE_integer("limit", 0, "eval, solve: puzzles; 0: all.", 0)

ON_A_RUN = {
  "eval": inference.benchmark_eval,
  "solve": inference.benchmark_solve,
}
COMMANDS = ("train", "compile", "data", "comm", *ON_A_RUN)


def _show(result: dict[str, Any]) -> None:
  for key, value in result.items():
    if isinstance(value, list):
      print(f"{key}:")
      for row in value:
        print("  " + "  ".join(str(v)[:60] for v in row.values()))
    else:
      print(f"{key:20} {value}")


def main(argv: list[str]) -> None:
  """The command line."""
  host_memory.keep_freed_blocks()
  command = " ".join(argv[1:])
  if command not in COMMANDS:
    raise InputError(
      f"expected one of {', '.join(COMMANDS)}, got '{command}'; see --help."
    )
  if command in ON_A_RUN:
    result = _on_a_run(command)
  else:
    result = _on_generated_batches(command)
  result = {"benchmark": command, **result}
  if JSON.value:
    console.print_json(result)
  else:
    _show(result)


def _on_a_run(command: str) -> dict[str, Any]:
  if WORKDIR.value is None:
    raise InputError(f"{command}: expected --workdir=DIR of a trained run.")
  return ON_A_RUN[command](
    pathlib.Path(WORKDIR.value),
    rounds=ROUNDS.value,
    limit=LIMIT.value,
    batch_size=BATCH_SIZE.value,
  )


def _on_generated_batches(command: str) -> dict[str, Any]:
  if command == "comm":
    # A program for eight devices can be read without having any of them.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES.value)
    # They stand for accelerators, where blocks run in a loop.
    if CONFIG.value.model.unroll is None:
      CONFIG.value.model.unroll = False
  puzzles = measure.generated_puzzles(
    SEQ_LEN.value, VOCAB_SIZE.value, IDENTIFIERS.value
  )
  if command == "data":
    return benchmark_data.benchmark_data(
      CONFIG.value, puzzles, batches=BATCHES.value, rounds=ROUNDS.value
    )
  program = measure.make_program(CONFIG.value, puzzles)
  if command == "train":
    return measure.train(program, steps=STEPS.value, profile=PROFILE.value)
  if command == "compile":
    return measure.compilation(program)
  return measure.communication(program)


if __name__ == "__main__":
  console.run(lambda: config_flags.run(main, __doc__, CONFIG))

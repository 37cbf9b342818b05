"""Measures how fast things are: one JSON object on the last line of stdout.

python -m hrm_jax.benchmark eval --workdir=runs/sudoku-mini
"""

import argparse
import pathlib

from hrm_jax import benchmark_eval, console


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m hrm_jax.benchmark",
    description="Measures how fast things are.",
    epilog="example: python -m hrm_jax.benchmark eval "
    "--workdir=runs/sudoku-mini --rounds=3",
  )
  what = parser.add_subparsers(dest="what", required=True)
  for name, function, does in (
    ("eval", benchmark_eval.benchmark_eval, "evaluation by its ways to halt"),
    ("solve", benchmark_eval.benchmark_solve, "solving a file of puzzles"),
  ):
    one = what.add_parser(name, help=does, description=f"Times {does}.")
    one.set_defaults(function=function)
    one.add_argument("--workdir", type=pathlib.Path, required=True)
    one.add_argument("--step", type=int, help="default: the newest checkpoint")
    one.add_argument("--batch-size", type=int, help="default: the run's")
    one.add_argument("--limit", type=int, help="puzzles; default and 0: all")
    one.add_argument("--rounds", type=int, default=5, help="default: 5")
  arguments = vars(parser.parse_args())
  del arguments["what"]
  function = arguments.pop("function")
  if arguments["rounds"] < 1:
    got = arguments["rounds"]
    raise console.InputError(f"--rounds: expected at least 1, got {got}.")
  console.print_json(function(**arguments))


if __name__ == "__main__":
  console.run(main)

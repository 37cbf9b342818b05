"""Plans a run by compiling it for devices that are not here.

example: python -m hrm_jax.plan --config=sudoku.py --target=v5e:4x4 \\
             --config.global_batch_size=768

XLA compiles the training update and the evaluation for the target, as it would
there, and runs nothing. Said is whether they fit, what they need of a device's
memory, what they send and how long they may take: estimates, not measurements.

targets: v4, v5p (v4:2x2x2), v5e, v6e (v5e:4x4) for TPU slices, with --slices=N
         for several; a100, h100, h200 (h100:8) for NVIDIA GPUs; cpu:8.

Exit code 2 and one line where it does not fit. With --json the last line of
stdout is one JSON object.
"""

import argparse
import pathlib
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.plan import fit, hlo, planning, report, sizes, targets
from hrm_jax.train import config_flags

ONLY = ("update", "evaluate")


def make_parser() -> argparse.ArgumentParser:
  """The flags of the command."""
  parser = config_flags.make_parser(
    "python -m hrm_jax.plan", __doc__, config="sudoku.py"
  )
  add = parser.add_argument
  add(
    "--target",
    required=True,
    metavar="CHIP:SIZE",
    help=f"what to compile for, such as {targets.EXAMPLES}",
  )

  def number(flag: str, what: str, default: int | None = None) -> None:
    add(flag, type=int, default=default, metavar="N", help=what)

  number("--slices", "TPU slices of that size (default: 1)", 1)
  of_data = "(default: as the data set of the configuration has them)"
  number("--seq-len", f"cells of a puzzle {of_data}")
  number("--vocab-size", f"tokens that puzzles are made of {of_data}")
  number("--num-identifiers", f"rows of the puzzle table {of_data}")
  add("--only", choices=ONLY, help="leave the other program out")
  add(
    "--fit",
    action="store_true",
    help="find the largest batch whose update fits, with and without remat, by "
    "compiling some of them",
  )
  add("--json", action="store_true", help="print one JSON object")
  add(
    "--hlo",
    type=console.path,
    metavar="FILE",
    help="where to write the optimised HLO of the update",
  )
  return parser


# Tokens, cells and identifiers are counted in 32 bits on the devices.
BELOW = 2**31
LEAST = {"slices": 1, "seq_len": 1, "vocab_size": 2, "num_identifiers": 1}


def main() -> None:
  """The command line."""
  args = config_flags.parse(make_parser())
  for name, least in LEAST.items():
    flag = "--" + name.replace("_", "-")
    console.check_least(flag, getattr(args, name), least, BELOW)
  if args.hlo and args.only == "evaluate":
    raise InputError("--hlo: expected no --only=evaluate beside it.")
  if args.fit and (args.hlo or args.only):
    raise InputError("--fit: expected no --hlo and no --only beside it.")
  if args.hlo:
    _check_can_write(args.hlo)
  metadata, sizes_from = sizes.of_run(
    args.config, args.seq_len, args.vocab_size, args.num_identifiers
  )
  target = targets.find(args.target, args.slices)
  if args.fit:
    _fit(args, metadata, sizes_from, target)
    return
  timing = planning.TimingByCompiler(target)
  program = planning.program_for(args.config, metadata, target, timing)
  result = report.of_target(program, target, timing, sizes_from)
  if args.only != "evaluate":
    plan = planning.plan_update(program, target)
    result["update"] = report.of_program(plan, target.chip)
    if args.hlo:
      _write(args.hlo, "\n".join(hlo.one_line_each(plan.text)) + "\n")
  if args.only != "update":
    for halt in ("full", "act"):
      plan = planning.plan_evaluation(program, target, halt)
      result[f"evaluate_{halt}"] = report.of_program(plan, target.chip)
  _show(result, target, as_json=args.json)


def _fit(
  args: argparse.Namespace,
  metadata: DatasetMetadata,
  sizes_from: str,
  target: targets.Target,
) -> None:
  found = {
    remat: fit.largest_batch(args.config, metadata, target, remat=remat)
    for remat in (False, True)
  }
  result = report.of_fits(found, metadata, sizes_from, target)
  if args.json:
    console.print_json(result)
  else:
    for line in report.lines_of_fits(result):
      print(line)
  if not any(each.largest for each in found.values()):
    raise InputError(
      f"--fit: not even one row a device fits {target.name}; more devices with "
      "config.mesh.table split the puzzle table, a smaller network helps."
    )


def _show(
  result: dict[str, Any], target: targets.Target, *, as_json: bool
) -> None:
  if as_json:
    console.print_json(result)
    return
  for line in report.lines(result, target.chip):
    print(line)


def _check_can_write(file: pathlib.Path) -> None:
  """Refuses a place for the HLO before minutes of compiling."""
  if file.exists() and not file.is_file():
    raise InputError(f"--hlo={file}: cannot be written (it is no file).")
  if not file.absolute().parent.is_dir():
    raise InputError(
      f"--hlo={file}: cannot be written ({file.parent} is no directory)."
    )


def _write(file: pathlib.Path, text: str) -> None:
  try:
    atomic_file.write_text(file, text)
  except OSError as error:
    raise InputError(f"--hlo={file}: cannot be written ({error}).") from None


if __name__ == "__main__":
  console.run(main)

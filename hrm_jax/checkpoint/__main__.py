"""Lists, verifies, prunes, imports, exports and publishes checkpoints.

Run as python -m hrm_jax.checkpoint.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import sys
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import choice, manifest, model_commands, saved_steps
from hrm_jax.checkpoint.errors import no_access, not_accessible
from hrm_jax.console import InputError

_EXAMPLE = f"""examples:
  python -m hrm_jax.checkpoint list runs/sudoku-mini
  python -m hrm_jax.checkpoint verify runs/sudoku-mini --step=best
  python -m hrm_jax.checkpoint prune runs/sudoku-mini --keep=2 --dry-run
{model_commands.EXAMPLES}

DIR is the workdir of a run, or its directory of checkpoints. The last line of
stdout is one JSON object."""


def describe(directory: pathlib.Path) -> list[dict[str, Any]]:
  """Describes every step, as far as names and sizes tell.

  Returns:
    In order: `step`; `bytes`; `saved`, when its manifest was written, in UTC;
    `complete`; `problems`, a line per bad file, and one if the step has
    another format; `score`, see `saved_steps.score`; whether it is the `best`
    or the `newest` of the complete ones.
  """
  scores = saved_steps.scores(directory)
  best = saved_steps.best_step(scores)
  newest = max(saved_steps.complete_steps(directory), default=None)
  rows = []
  for step in saved_steps.all_steps(directory):
    path = directory / str(step)
    problems = saved_steps.problems(directory, step, digests=False)
    rows.append(
      {
        "step": step,
        "bytes": _num_bytes(path),
        "saved": _time_of(path / manifest.FILE_NAME),
        "complete": not problems,
        "problems": problems + _format_problems(directory, step),
        "score": scores.get(step),
        "best": step == best,
        "newest": step == newest,
      }
    )
  return rows


def list_steps(directory: pathlib.Path) -> dict[str, Any]:
  """Prints a table; returns `steps` and `half_written`."""
  rows = describe(directory)
  print(f"{'step':>10} {'MiB':>9}  {'saved (UTC)':19}  {'score':>7}")
  for row in rows:
    score = "" if row["score"] is None else f"{row['score']:.2%}"
    notes = [name for name in ("best", "newest") if row[name]]
    notes += [console.printable(line) for line in row["problems"][:1]]
    print(
      f"{row['step']:10} {row['bytes'] / 2**20:9,.1f}  {row['saved'] or '':19}"
      f"  {score:>7}  {', '.join(notes)}".rstrip()
    )
  half_written = saved_steps.leftovers(directory)
  for name in half_written:
    print(f"half-written, or being written: {console.printable(name)}")
  return {"steps": rows, "half_written": half_written}


def verify(directory: pathlib.Path, step: int | str | None) -> dict[str, Any]:
  """Reads every file of one step, or of all; a line on stderr per bad one.

  A step of another format gets a line too, since this version cannot read it.

  Returns:
    `steps`: from each step to its lines; `ok`, whether there are none.
  """
  steps = saved_steps.all_steps(directory)
  if step is not None:
    steps = [choice.number_of(directory, step)]
  found = {}
  for each in console.progress(steps, "verify", unit="checkpoints"):
    found[each] = saved_steps.problems(directory, each)
    found[each] += _format_problems(directory, each)
  for lines in found.values():
    for line in lines:
      print(console.printable(line), file=sys.stderr)
  return {"ok": not any(found.values()), "steps": found}


def prune(
  directory: pathlib.Path, *, keep: int | None, dry_run: bool
) -> dict[str, Any]:
  """Deletes what is damaged or half-written, and old steps if asked to.

  What cannot be read, or was written by another version, may be good: it
  stays, and a line on stderr says why.

  Args:
    directory: where the checkpoints lie; no run may be saving there.
    keep: so many of the newest whole steps stay, and the best; None: all.
    dry_run: delete nothing.

  Returns:
    `damaged`, `old`: the steps; `half_written`: names; `kept`: steps;
    `dry_run`.

  Raises:
    InputError: no step is whole, so nothing would be left; or one cannot be
      deleted.
  """
  whole, bad, unknown = [], [], []
  for step in saved_steps.all_steps(directory):
    try:
      if saved_steps.damage(directory, step):
        bad.append(step)
        continue
      saved_steps.read_run(directory, step)
      whole.append(step)
    except InputError as error:
      print(console.printable(str(error)), file=sys.stderr)
      unknown.append(step)
  if not whole:
    raise InputError(
      f"{directory}: no step is whole, as far as can be told here, so nothing "
      "is deleted; python -m hrm_jax.checkpoint verify tells what is wrong."
    )
  scores = saved_steps.scores(directory)
  good = {step: score for step, score in scores.items() if step in whole}
  old = saved_steps.expendable(good, max_to_keep=keep)
  half_written = saved_steps.leftovers(directory)
  if not dry_run:
    try:
      for step in (*bad, *old):
        saved_steps.remove(directory, str(step))
      saved_steps.remove_leftovers(directory)
    except OSError as error:
      raise InputError(
        f"{error.filename}: cannot be deleted ({error.strerror})."
      ) from None
  return {
    "damaged": bad,
    "old": old,
    "half_written": half_written,
    "kept": sorted({*whole, *unknown} - set(old)),
    "dry_run": dry_run,
  }


def _format_problems(directory: pathlib.Path, step: int) -> list[str]:
  line = saved_steps.format_problem(directory, step)
  return [line] if line else []


def _num_bytes(path: pathlib.Path) -> int:
  """Adds up the files below; what a run deletes meanwhile counts nothing."""
  total = 0
  for root, _, files in os.walk(path):
    for name in files:
      with contextlib.suppress(OSError):
        total += os.stat(os.path.join(root, name)).st_size
  return total


def _time_of(path: pathlib.Path) -> str | None:
  try:
    seconds = path.stat().st_mtime
  except OSError:
    return None
  when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
  return when.strftime("%Y-%m-%d %H:%M:%S")


def _checkpoints_of(path: pathlib.Path) -> pathlib.Path:
  """Finds the directory of checkpoints that a person means.

  Raises:
    InputError: it is not there, or there is nothing in it.
    NoAccessError: it cannot be read.
  """
  try:
    names = os.listdir(path)
  except OSError as error:
    if number := no_access(error):
      raise not_accessible(path, number) from None
    raise InputError(f"{path}: no such directory.") from None
  inside = saved_steps.directory_of(path)
  directory = inside if inside.name in names else path
  if not saved_steps.all_steps(directory):
    raise InputError(
      f"{path}: expected a workdir or its directory of checkpoints, got one "
      "without any checkpoint."
    )
  return directory


def _positive(text: str) -> int:
  if not text.isdecimal() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"expected at least 1, got '{text}'")
  return int(text)


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.checkpoint",
    description="Lists, verifies, prunes, imports, exports and publishes "
    "checkpoints.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="command", required=True)

  def command(name: str, what: str) -> argparse.ArgumentParser:
    return commands.add_parser(
      name,
      help=what,
      description=f"{what[0].upper()}{what[1:]}.",
      epilog=_EXAMPLE,
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )

  def of_directory(name: str, what: str) -> argparse.ArgumentParser:
    sub = command(name, what)
    sub.add_argument(
      "directory",
      metavar="DIR",
      type=console.path,
      help="workdir of a run, or its directory of checkpoints",
    )
    return sub

  of_directory(
    "list", "show steps, sizes, times, and which have all their files"
  )
  verifying = of_directory(
    "verify", "check every digest; exit 1 if one is wrong"
  )
  verifying.add_argument(
    "--step",
    type=choice.step_argument,
    help="a number, or 'best'; default: all",
  )
  pruning = of_directory(
    "prune", "delete damaged and half-written steps; not while a run trains"
  )
  pruning.add_argument(
    "--keep",
    type=_positive,
    metavar="N",
    help="also delete whole steps but the N newest and the best",
  )
  pruning.add_argument("--dry-run", action="store_true", help="delete nothing")
  model_commands.add(command)
  args = parser.parse_args()

  if "call" in args:
    console.print_json(args.call(args))
    return
  directory = _checkpoints_of(args.directory)
  if args.command == "list":
    console.print_json(list_steps(directory))
  elif args.command == "prune":
    result = prune(directory, keep=args.keep, dry_run=args.dry_run)
    console.print_json(result)
  else:
    result = verify(directory, args.step)
    console.print_json(result)
    if not result["ok"]:
      sys.exit(1)


if __name__ == "__main__":
  console.run(main)

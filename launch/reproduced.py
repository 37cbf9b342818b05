"""What reproduce.sh keeps of its calls, and the row that it adds to a table.

example: python launch/reproduced.py row --workdir=runs/sudoku-1k \\
             --results=docs/results.md --command="bash launch/reproduce.sh ..."

  WORKDIR/reproduce/calls.jsonl  a line for each call that has trained
  WORKDIR/reproduce/*.json       the results of the other commands
  WORKDIR/model/                 the best weights, as `checkpoint export` leaves
                                 them

reproduce.sh calls it; the other subcommands are of no use by hand.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file, choice, model_folder, saved_steps
from hrm_jax.console import InputError

TITLE = "## Runs of `launch/reproduce.sh`"
_COLUMNS = (
  "Ended",
  "Recipe",
  "Data",
  "Updates",
  "Exact accuracy",
  "Devices",
  "Versions",
  "Weights",
  "Command",
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
_ABOUT = f"""{TITLE}

The script adds these rows. The accuracy is that of one checkpoint on all test
puzzles, +- its standard error over puzzles. The checkpoint is the best of the
run's evaluations, which ask a sample of the same puzzles (`eval.limit`), or the
newest where it made none. A run with fewer updates than its recipe says so in
bold.

{_HEAD}"""


def add_call(workdir: pathlib.Path, result: Mapping[str, Any]) -> str:
  """Adds what a training command has returned to the calls of its run.

  Args:
    workdir: of the run.
    result: of `hrm_jax.train`.

  Returns:
    "advanced" if an update or an evaluation was made, else "still".
  """
  calls = read_calls(workdir)
  evaluation = result["evaluation"]
  call = {
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "step": result["step"],
    "total_steps": result["total_steps"],
    "evaluated": evaluation["step"] if evaluation else None,
    "ended": result["ended"],
    "devices": result["devices"],
    "seconds": result["seconds"],
  }
  before = calls[-1] if calls else {"step": 0, "evaluated": None}
  advanced = any(call[key] != before[key] for key in ("step", "evaluated"))
  if advanced or not calls:
    calls.append(call)
  else:
    before["ended"] = call["ended"]
    if call["ended"] == "preempted":  # An evaluation that came to nothing.
      before["seconds"] += call["seconds"]
  _write_calls(workdir, calls)
  return "advanced" if advanced else "still"


def _write_calls(
  workdir: pathlib.Path, calls: Sequence[Mapping[str, Any]]
) -> None:
  path = _calls_path(workdir)
  path.parent.mkdir(exist_ok=True)
  atomic_file.write_text(path, "".join(json.dumps(c) + "\n" for c in calls))


def read_calls(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The calls of a run that trained, in order."""
  try:
    text = _calls_path(workdir).read_text(encoding="utf-8")
  except FileNotFoundError:
    return []
  return [json.loads(line) for line in text.splitlines()]


def _calls_path(workdir: pathlib.Path) -> pathlib.Path:
  return workdir / "reproduce" / "calls.jsonl"


def step_to_evaluate(workdir: pathlib.Path) -> int:
  """The best checkpoint, or the newest where the run has evaluated none."""
  directory = saved_steps.directory_of(workdir)
  best = saved_steps.best_step(saved_steps.scores(directory))
  return choice.find_step(workdir, best)


def standard_error(share: float, count: int) -> float:
  """That of a share of so many independent puzzles."""
  return math.sqrt(share * (1 - share) / count)


def percent(share: float, count: int) -> str:
  """A share with its standard error, as `12.3 +- 0.5 %`."""
  error = standard_error(share, count)
  return f"{100 * share:.2f} +- {100 * error:.2f} %"


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  """Whether the exact accuracies of two evaluations differ by 0.1 points."""
  difference = _accuracy(one)[0] - _accuracy(other)[0]
  return abs(difference) <= 0.001 + 1e-9


def _accuracy(evaluation: Mapping[str, Any]) -> tuple[float, int]:
  """Exact accuracy over all puzzles of all sets, and how many these are."""
  sets = evaluation["sets"].values()
  count = sum(means["count"] for means in sets)
  right = sum(means["exact_accuracy"] * means["count"] for means in sets)
  return right / count, count


def row(workdir: pathlib.Path, *, task: str, command: str) -> str:
  """The row of a run, whose best weights are evaluated and exported.

  Raises:
    InputError: something of that is missing.
  """
  kept = workdir / "reproduce"
  model = model_folder.describe(workdir / "model")
  evaluation = _read(kept / f"evaluation-{model.step}.json")
  share, count = _accuracy(evaluation)
  score = f"{percent(share, count)} of {count:,}"
  if "path_accuracy" in (means := next(iter(evaluation["sets"].values()))):
    score += f"; any shortest path {percent(means['path_accuracy'], count)}"
  votes = kept / f"votes-{model.step}.json"
  if votes.exists():
    # The images of a task are no independent puzzles; tasks are.
    score = f"{100 * share:.2f} % of {count:,} images; "
    score += _pass_at_k(_read(votes))
  calls = read_calls(workdir)
  if not calls:
    raise InputError(f"{_calls_path(workdir)}: expected a call that trained.")
  columns = (
    calls[-1]["date"],
    f"`{task}`",
    _data(workdir),
    _updates(calls[-1], model),
    score,
    _devices(calls),
    _versions(model.run),
    _weights(model, kept),
    f"`{command}`",
  )
  return "| " + " | ".join(c.replace("|", r"\|") for c in columns) + " |"


def _updates(call: Mapping[str, Any], model: model_folder.Description) -> str:
  # The batches of a whole schedule may run out before its last update.
  text = f"all {call['step']:,}"
  if call["ended"] != "finished":
    reason = "stopped early" if call["ended"] == "early_stop" else "cut short"
    text = f"**{call['step']:,} of {call['total_steps']:,}, {reason}**"
  evaluation = model.run["evaluation"]
  is_best = evaluation is not None and evaluation.get("step") == model.step
  return f"{text}; {'best' if is_best else 'newest'} after {model.step:,}"


def _pass_at_k(votes: Mapping[str, Any]) -> str:
  tasks = votes["scored_tasks"]
  ways = [key for key in votes if key.startswith("pass@")]
  shown = ", ".join(f"{key} {percent(votes[key], tasks)}" for key in ways[:2])
  return f"by votes {shown} of {tasks:,} tasks"


def _data(workdir: pathlib.Path) -> str:
  build = _read(workdir / "data" / "build.json")
  source: Any = build["source"]
  counts = build["counts"]
  if isinstance(source, dict) and "repo" in source:
    origin = f"{source['repo']} at {source['revision'][:7]}"
  else:
    origin = "other tables" if build["puzzle"] != "arc" else "task files"
  return (
    f"{origin}; {counts['train']['groups']:,} groups, "
    f"{counts['test']['examples']:,} test puzzles; seed {build['seed']}"
  )


def _devices(calls: list[dict[str, Any]]) -> str:
  names = list(dict.fromkeys(call["devices"] for call in calls))
  if any(name.endswith("x cpu") for name in names):
    names.append(f"{os.cpu_count()} cores, {platform.machine()}")
  minutes = sum(call["seconds"] for call in calls) / 60
  times = f" in {len(calls)} calls" if len(calls) > 1 else ""
  return f"{', '.join(names)}; {minutes:,.0f} min{times}"


def _versions(run: Mapping[str, Any]) -> str:
  have = run["versions"]
  shown = [f"{name} {have[name]}" for name in ("jax", "flax") if have.get(name)]
  commit = run["git_commit"]
  shown.append(f"commit {commit[:9]}" if commit else "no commit")
  return ", ".join(shown)


def _weights(model: model_folder.Description, kept: pathlib.Path) -> str:
  file = model.files[model_folder.WEIGHTS]
  rounded = kept / f"rounded-{model.step}.json"
  dtype = "float32"
  if rounded.exists():
    after = _read(rounded)
    if agree(_read(kept / f"evaluation-{model.step}.json"), after):
      dtype = f"bfloat16 ({100 * _accuracy(after)[0]:.2f} %)"
  return f"{dtype}, {file['bytes'] / 1e6:,.1f} MB, SHA-256 `{file['sha256']}`"


def with_row(text: str, line: str, digest: str) -> str:
  """A page with the row of a run; one of the same weights is replaced.

  Args:
    text: the page; where it has no table of such rows it gets one at its end.
    line: the row.
    digest: of the weights, which stands in it.
  """
  if _HEAD not in text:
    text = f"{text.rstrip()}\n\n{_ABOUT}".lstrip()
  before, after = text.split(_HEAD, 1)
  rows = []
  lines = after.splitlines(keepends=True)
  while lines and lines[0].startswith("|"):
    rows.append(lines.pop(0))
  same = [i for i, old in enumerate(rows) if digest in old]
  if same:
    rows[same[0]] = line + "\n"
  else:
    rows.append(line + "\n")
  return before + _HEAD + "".join(rows) + "".join(lines)


def _add_row(args: argparse.Namespace) -> None:
  line = row(args.workdir, task=args.task, command=args.command_line)
  model = model_folder.describe(args.workdir / "model")
  digest = model.files[model_folder.WEIGHTS]["sha256"]
  path = args.results
  try:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    atomic_file.write_text(path, with_row(text, line, digest))
  except OSError as error:
    raise InputError(f"{path}: cannot be written ({error.strerror}).") from None
  console.log.info(f"{path}: {line}")
  evaluation = _read(
    args.workdir / "reproduce" / f"evaluation-{model.step}.json"
  )
  share, count = _accuracy(evaluation)
  console.print_json(
    {
      "step": model.step,
      "exact_accuracy": share,
      "standard_error": standard_error(share, count),
      "puzzles": count,
      "model": str(model.path),
      "sha256": digest,
      "results": str(path),
    }
  )


def _read(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object, alone in its file or on its last line."""
  try:
    text = path.read_text(encoding="utf-8").strip()
    try:
      return json.loads(text)
    except ValueError:
      return json.loads(text.splitlines()[-1])
  except (OSError, ValueError, IndexError) as error:
    raise InputError(
      f"{path}: expected a result of an earlier step ({error})."
    ) from None


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python launch/reproduced.py",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="subcommand", required=True)

  def command(name: str, what: str) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=what, description=what)
    made.add_argument(
      "--workdir",
      type=console.path,
      required=True,
      metavar="DIR",
      help="directory of the run",
    )
    return made

  add = command(
    "call", "note what a training command has returned"
  ).add_argument
  add("result", type=console.path, metavar="FILE", help="what it has printed")
  command("step", "say which checkpoint is to be evaluated")
  add = command("agree", "say whether rounding changes a score").add_argument
  add("evaluations", type=console.path, nargs=2, metavar="FILE", help="scores")
  add = command("row", "add the row of the run to a page").add_argument
  add("--task", required=True, metavar="NAME", help="the recipe")
  add(
    "--results",
    type=console.path,
    required=True,
    metavar="FILE",
    help="the page, in Markdown",
  )
  add(
    "--command",
    dest="command_line",
    required=True,
    metavar="LINE",
    help="the command that repeats the run",
  )
  args = parser.parse_args()
  if args.subcommand == "call":
    print(add_call(args.workdir, _read(args.result)))
  elif args.subcommand == "step":
    print(step_to_evaluate(args.workdir))
  elif args.subcommand == "agree":
    print("yes" if agree(*map(_read, args.evaluations)) else "no")
  else:
    _add_row(args)


if __name__ == "__main__":
  console.run(main)

"""Draws figures of runs, for papers: PNG and SVG, the numbers beside as CSV.

  python -m hrm_jax.plot --workdir runs/mini-0 runs/mini-1 --out=figures

Runs whose configurations differ in the seed alone are one line: their mean, and
a band from the lowest to the highest. The last line of stdout is one JSON
object.
"""

import argparse
import importlib.util
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file
from hrm_jax.console import InputError, RunError, log
from hrm_jax.plot import beside, run
from hrm_jax.plot.charts import FIGURES, Group, to_csv
from hrm_jax.plot.lines import common_name

_EXAMPLE = """examples:
  python -m hrm_jax.plot --workdir runs/mini-0 runs/mini-1 --out=figures
  python -m hrm_jax.plot --workdir runs/mini --beside reference=curve.jsonl \\
    --out=figures --only learning-exact_accuracy"""


def plot(args: argparse.Namespace) -> dict[str, Any]:
  """Draws what `main`'s arguments say.

  Returns:
    `out`; `figures`, the files of each that was drawn; `left_out`, why the
    others were not; `lines`, how many runs are in each line.

  Raises:
    InputError: a run or a log is not as it should be; or no figure can be
      drawn. Nothing is written then.
    RunError: a figure cannot be written.
  """
  _check(args)
  groups = _groups(args.workdir or [], args.beside or [])
  drawn, left_out = {}, {}
  for name in args.only or FIGURES:
    try:
      drawn[name] = FIGURES[name](groups)
    except run.LeftOutError as error:
      left_out[name] = str(error)
      log.info(f"{name}: left out: {error}")
  if not drawn:
    raise InputError(
      "no figure can be drawn: "
      + "; ".join(f"{name}: {why}" for name, why in left_out.items())
    )
  # Only here: it is an extra, and drawing the numbers up needs none of it.
  from hrm_jax.plot import figure

  files = {}
  for name, chart in drawn.items():
    made = figure.draw(chart)
    files[name] = {
      f"{name}.csv": to_csv(chart).encode("utf-8"),
      **{f"{name}.{f}": figure.to_bytes(made, f) for f in figure.FORMATS},
    }
  _write(args.out, files)
  return {
    "out": str(args.out),
    "figures": {name: list(each) for name, each in files.items()},
    "left_out": left_out,
    "lines": {group.label: len(group.curves) for group in groups},
  }


def _groups(
  workdirs: Sequence[pathlib.Path], logs: Sequence[tuple[str, pathlib.Path]]
) -> list[Group]:
  """A group for each configuration, then one for each name of a log."""
  alike: dict[str, list[run.Run]] = {}
  for workdir in dict.fromkeys(workdirs):
    found = run.read(workdir)
    alike.setdefault(run.alike(found), []).append(found)
  names = [common_name([r.name for r in runs]) for runs in alike.values()]
  groups = [
    Group(label, runs, [r.curves for r in runs])
    for label, runs in zip(
      _told_apart(names, list(alike.values())), alike.values(), strict=True
    )
  ]
  others: dict[str, list[run.Curves]] = {}
  for name, path in logs:
    others.setdefault(name, []).append(beside.read(path))
  taken = {group.label for group in groups} & set(others)
  if taken:
    name = min(taken)
    raise InputError(
      f"--beside {name}=FILE: expected a name of its own, got that of a line "
      "of the runs."
    )
  return groups + [Group(name, [], each) for name, each in others.items()]


def _told_apart(
  names: list[str], groups: Sequence[Sequence[run.Run]]
) -> list[str]:
  """The names; equal ones with a key or two that differ between them."""
  labels = list(names)
  for name in {name for name in names if names.count(name) > 1}:
    same = [i for i, other in enumerate(names) if other == name]
    settings = [groups[i][0].settings for i in same]
    keys = sorted(
      key
      for key in set(itertools.chain(*settings))
      if len({str(each.get(key)) for each in settings}) > 1
    )
    for i, each in zip(same, settings, strict=True):
      told = ", ".join(f"{key}={each.get(key)}" for key in keys[:2])
      labels[i] = f"{name}, {told:.60}"
  return labels


def _write(out: pathlib.Path, figures: dict[str, dict[str, bytes]]) -> None:
  files = dict(itertools.chain(*(f.items() for f in figures.values())))
  for name in files:
    if (out / name).exists() and not (out / name).is_file():
      raise InputError(
        f"{out / name}: expected a file, which a figure may replace, or "
        "nothing; got something else."
      )
  try:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
      atomic_file.write_bytes(out / name, content)
  except OSError as error:
    path = error.filename or out
    raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def _check(args: argparse.Namespace) -> None:
  """Refuses what cannot work before anything is read."""
  if importlib.util.find_spec("matplotlib") is None:
    raise InputError(
      "drawing needs matplotlib, which is not installed: pip install "
      "'hrm_jax[plot]'"
    )
  if not args.workdir and not args.beside:
    raise InputError("expected --workdir or --beside; see --help.")
  if args.out.exists() and not args.out.is_dir():
    raise InputError(f"--out={args.out}: expected a directory, got a file.")


def _log_argument(text: str) -> tuple[str, pathlib.Path]:
  name, equals, file = text.partition("=")
  if not (name and equals):
    raise argparse.ArgumentTypeError(f"expected NAME=FILE, got '{text}'")
  if not name.isprintable():
    raise argparse.ArgumentTypeError(
      f"expected a name that can be printed before '=', got {name!r}"
    )
  return name, console.path(file)


def _parser() -> console.ArgumentParser:
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.plot",
    description="Draws figures of runs for papers, as PNG and SVG, with the "
    "numbers beside them as CSV.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--workdir",
    type=console.path,
    nargs="+",
    action="extend",
    metavar="DIR",
    help="the directories of runs; those that differ in their seed alone are "
    "one line",
  )
  add(
    "--beside",
    type=_log_argument,
    action="append",
    metavar="NAME=FILE",
    help="another program's evaluations, JSON lines or CSV (docs/plot.md); "
    "files of one NAME are one line",
  )
  add(
    "--out",
    type=console.path,
    required=True,
    metavar="DIR",
    help="where the figures go; files of their names are replaced",
  )
  add(
    "--only",
    nargs="+",
    action="extend",
    choices=FIGURES,
    metavar="FIGURE",
    help=f"which figures; default: all of {', '.join(FIGURES)}",
  )
  return parser


def main() -> None:
  """The command line."""
  console.print_json(plot(_parser().parse_args()))


if __name__ == "__main__":
  console.run(main)

"""Scores ARC predictions: variants of a task vote for its answer.

Undoes the augmentation of every saved prediction, counts equal answers to
each test input, and reports pass@1, 2, 10, 100 and 1000 over whole tasks.
`tally` counts the answers, `vote` ranks them.
"""

import argparse
import collections
import json
import os
import pathlib

from hrm_jax import console
from hrm_jax.arc_vote.tally import merge, read_questions, tally_file
from hrm_jax.arc_vote.vote import score, submission
from hrm_jax.checkpoint import atomic_file, choice, flags, saved_steps
from hrm_jax.checkpoint.run_record import find_data
from hrm_jax.console import InputError, log

_EXAMPLE = """example, from the tasks to the submission:
  python -m data_tools.build_arc --output-dir data/arc-1-aug-1000 \\
    --dataset-dirs ARC-AGI/data ConceptARC/corpus
  python -m hrm_jax.train --config=configs/arc.py --workdir=runs/arc-1
  python -m hrm_jax.evaluate --workdir=runs/arc-1 --save-predictions
  python -m hrm_jax.arc_vote --workdir=runs/arc-1 --output=submission.json"""


def _data_directory(workdir: pathlib.Path) -> pathlib.Path:
  """Where the run's configuration says that its data set lies."""
  path = workdir / "config.json"
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
    recorded = os.fspath(config["data"]["path"])
  except (OSError, ValueError, TypeError, KeyError):
    raise InputError(
      f"{path}: expected the configuration of a run, which names its data set; "
      "without it pass --data."
    ) from None
  return find_data(recorded, workdir)


def _names_in(directory: pathlib.Path) -> list[str]:
  """The names of what lies in a directory; none if there is no such directory.

  Raises:
    InputError: it cannot be read.
  """
  try:
    return os.listdir(directory)
  except (FileNotFoundError, NotADirectoryError):
    return []
  except OSError as error:
    raise InputError(
      f"{directory}: cannot be read ({error.strerror})."
    ) from None


def _predictions_directory(
  workdir: pathlib.Path, step: int | str | None
) -> pathlib.Path:
  if step == "best":
    step = choice.number_of(saved_steps.directory_of(workdir), step)
  root = workdir / "predictions"
  steps = [int(name) for name in _names_in(root) if name.isdecimal()]
  if not steps or step not in (None, *steps):
    got = ", ".join(map(str, sorted(steps))) or "none"
    wanted = "" if step is None else f" of step {step}"
    raise InputError(
      f"{root}: expected predictions{wanted}, got {got}; make them by python "
      f"-m hrm_jax.evaluate --workdir={workdir} --save-predictions."
    )
  return root / str(max(steps) if step is None else step) / "test"


def main() -> None:
  """The command line."""
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.arc_vote",
    description="Scores saved ARC predictions by voting over augmentations.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  flags.add_run(parser, instead="predictions")
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set; default: what the run was trained on",
  )
  add(
    "--output",
    type=console.path,
    metavar="FILE",
    help="file to write; default: submission.json beside the predictions",
  )
  args = parser.parse_args()

  flags.check_run(args)
  if args.predictions is not None:
    directory, step = args.predictions, None
    if not directory.is_dir():
      raise InputError(f"--predictions={directory}: no such directory.")
  else:
    directory = _predictions_directory(args.workdir, args.step)
    step = int(directory.parent.name)
  names = sorted(
    name.removesuffix("__predictions.npy")
    for name in _names_in(directory)
    if name.endswith("__predictions.npy")
  )
  if not names:
    raise InputError(f"{directory}: expected *__predictions.npy, got none.")
  if args.data is None and args.workdir is None:
    raise InputError(
      "--predictions: expected --data=DIR too, the set that was evaluated."
    )
  questions = read_questions(args.data or _data_directory(args.workdir))
  tally = merge([tally_file(directory, name, questions) for name in names])
  asked = collections.Counter(
    bool(tally.get((task, digest)))
    for task, digests in questions.inputs.items()
    for digest in digests
  )
  if asked[False]:
    log.warning(
      f"warning: {asked[False]} of {asked.total()} test inputs have no "
      "prediction; they count as wrong."
    )
  output = args.output or directory / "submission.json"
  answers = submission(tally, questions, directory)
  try:
    output.parent.mkdir(parents=True, exist_ok=True)
    atomic_file.write_json(output, answers, indent=None)
  except OSError as error:
    raise InputError(
      f"{output}: cannot be written ({error.strerror})."
    ) from None
  console.print_json(
    {
      **score(tally, questions),
      "tasks": len(questions.inputs),
      "test_inputs": asked.total(),
      "unanswered": asked[False],
      "votes": sum(a.votes for t in tally.values() for a in t.values()),
      "step": step,
      "submission": str(output),
    }
  )


if __name__ == "__main__":
  console.run(main)

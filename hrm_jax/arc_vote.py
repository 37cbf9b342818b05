"""Scores ARC predictions: variants of a task vote for its answer.

Undoes the augmentation of every saved prediction, counts equal answers to
each test input, and reports pass@1, 2, 10, 100 and 1000 over whole tasks.
Numbers are exact: an answer's confidence is summed as an integer, so no tie
depends on the order of the rows. Memory grows with the distinct answers only,
by some hundred bytes each; grids are read again for the submission.
"""

import argparse
import collections
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hrm_jax import arc, console
from hrm_jax.console import InputError, log

KS = (1, 2, 10, 100, 1000)
COLUMNS = ("inputs", "puzzle_identifiers", "predictions", "q_halt_logits")
ATTEMPTS = 2
BLANK_IDENTIFIER_ID = 0

# Binary digits behind the point of a confidence: a sigmoid of -50 still counts.
_FRACTION = 80
_ROWS_AT_ONCE = 4096
_EXAMPLE = """example, from the tasks to the submission:
  python -m data_tools.build_arc --output-dir data/arc-1-aug-1000 \\
    --dataset-dirs ARC-AGI/data ConceptARC/corpus
  python -m hrm_jax.train --config=configs/arc.py --workdir=runs/arc-1
  python -m hrm_jax.evaluate --workdir=runs/arc-1 --save-predictions
  python -m hrm_jax.arc_vote --workdir=runs/arc-1 --output=submission.json"""


class Answer(NamedTuple):
  """What stands behind one answer to one test input."""

  votes: int
  confidence: int  # sum of sigmoid(q_halt) over the votes, times 2**80
  file: str  # of the first vote: the set's name
  row: int  # of the first vote


# Per (task, digest of the input): answers by digest, in first-seen order.
Tally = dict[tuple[str, str], dict[str, Answer]]


class Questions(NamedTuple):
  """What is asked: the test pairs of each task, as in test_puzzles.json."""

  identifiers: list[str]  # by number
  inputs: dict[str, list[str]]  # digests of a task's test inputs
  outputs: dict[str, list[str | None]]  # their answers' digests, if known
  digest: str  # of the files that say so


def grid_digest(grid: np.ndarray) -> str:
  """Names a [h, w] grid by its content; 32 hexadecimal digits."""
  shape = bytes(grid.shape)
  content = shape + grid.astype(np.uint8).tobytes()
  return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_questions(data: pathlib.Path) -> Questions:
  """Reads what the builder left at the root of a data set.

  Raises:
    InputError: a file is missing or holds something else.
  """
  contents = []
  for name in ("identifiers.json", "test_puzzles.json"):
    try:
      contents.append((data / name).read_bytes())
    except FileNotFoundError:
      raise InputError(
        f"{data / name}: no such file; expected a data set of "
        "data_tools.build_arc (--data)."
      ) from None
  digest = hashlib.sha256(b"\0".join(contents)).hexdigest()
  try:
    identifiers, puzzles = map(json.loads, contents)
    inputs, outputs = {}, {}
    for task, pairs in puzzles.items():
      inputs[task] = [_json_digest(pair["input"]) for pair in pairs]
      outputs[task] = [_json_digest(pair["output"]) for pair in pairs]
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise InputError(
      f"{data}: expected identifiers.json and test_puzzles.json as "
      f"data_tools.build_arc writes them, got others ({error!r:.80})."
    ) from None
  return Questions(identifiers, inputs, outputs, digest)


def tally_file(
  directory: pathlib.Path, name: str, questions: Questions
) -> Tally:
  """Counts the votes of one set of prediction files.

  The tally is kept beside them, and used again while they stay as they are.

  Args:
    directory: WORKDIR/predictions/<step>.
    name: of the set; its files are <name>__<column>.npy.
    questions: of the data set that was evaluated.

  Raises:
    InputError: a file is missing or damaged, or answers another question.
  """
  paths = {c: directory / f"{name}__{c}.npy" for c in COLUMNS}
  columns = {column: _map(path) for column, path in paths.items()}
  rows = len(columns["inputs"])
  for column, values in columns.items():
    wide = column in ("inputs", "predictions")
    expected = (rows, arc.CELLS) if wide else (rows,)
    if values.shape != expected:
      raise InputError(
        f"{paths[column]}: expected shape {expected}, got {values.shape}."
      )
  stats = [path.stat() for path in paths.values()]
  made_from = {
    "version": 1,
    "data": questions.digest,
    "files": [[stat.st_size, stat.st_mtime_ns] for stat in stats],
  }
  kept = directory / f"{name}__votes.json"
  tally = _read_tally(kept, made_from)
  if tally is not None:
    log.info(f"{kept}: votes counted before")
    return tally
  tally = {}
  with console.Progress(f"counting {name}", rows, unit="answers") as bar:
    for start in range(0, rows, _ROWS_AT_ONCE):
      part = {k: v[start : start + _ROWS_AT_ONCE] for k, v in columns.items()}
      _count(tally, part, questions, name, start, paths["inputs"])
      bar.advance(len(part["inputs"]))
  items = [[*key, answers] for key, answers in tally.items()]
  _write_json(kept, {"made_from": made_from, "tally": items})
  return tally


def merge(tallies: Sequence[Tally]) -> Tally:
  """Adds up tallies; the earlier file's answers count as seen first."""
  total: Tally = {}
  for tally in tallies:
    for key, answers in tally.items():
      known = total.setdefault(key, {})
      for digest, more in answers.items():
        answer = known.get(digest, more._replace(votes=0, confidence=0))
        known[digest] = answer._replace(
          votes=answer.votes + more.votes,
          confidence=answer.confidence + more.confidence,
        )
  return total


def rank(answers: dict[str, Answer]) -> list[str]:
  """Orders answers by votes, then mean confidence; ties as first seen."""
  # With equal votes the sums of the confidences compare as their means do.
  return sorted(
    answers, key=lambda d: (-answers[d].votes, -answers[d].confidence)
  )


def score(tally: Tally, questions: Questions) -> dict[str, Any]:
  """Returns pass@k: the share of tasks with all test inputs right.

  A test input is right if its answer is among the k first. Tasks of which an
  answer is unknown are left out; those without any prediction are wrong.
  """
  worst = []
  for task, outputs in questions.outputs.items():
    if None in outputs:
      continue
    places = []
    for digest, output in zip(questions.inputs[task], outputs, strict=True):
      ranked = rank(tally.get((task, digest), {}))
      places.append(ranked.index(output) if output in ranked else max(KS))
    worst.append(max(places))
  scores = {}
  if worst:
    scores = {f"pass@{k}": sum(w < k for w in worst) / len(worst) for k in KS}
  return {**scores, "scored_tasks": len(worst)}


def submission(
  tally: Tally, questions: Questions, directory: pathlib.Path
) -> dict[str, list[dict[str, list]]]:
  """Returns the competition's object: two attempts per test input.

  An empty answer is no grid, so the next one takes its place; the first is
  repeated if there is only one, and [[0]] stands where there is none.
  """
  result = {}
  for task, inputs in questions.inputs.items():
    result[task] = []
    for digest in inputs:
      answers = tally.get((task, digest), {})
      empty = grid_digest(np.zeros((0, 0), np.uint8))
      best = [d for d in rank(answers) if d != empty][:ATTEMPTS]
      grids = [_first_grid(answers[d], questions, directory) for d in best]
      grids = (grids or [[[0]]]) * ATTEMPTS
      result[task].append({"attempt_1": grids[0], "attempt_2": grids[1]})
  return result


def _count(
  tally: Tally,
  part: dict[str, np.ndarray],
  questions: Questions,
  name: str,
  start: int,
  path: pathlib.Path,
) -> None:
  """Adds rows `start`, `start + 1`, ... of the set `name` to the tally."""
  q = part["q_halt_logits"].astype(np.float64)
  confidences = np.ldexp(np.exp(-np.logaddexp(0, -np.nan_to_num(q))), _FRACTION)
  inputs, predictions = (
    zip(part[column], *arc.crop_shapes(part[column]), strict=True)
    for column in ("inputs", "predictions")
  )
  for i, (identifier, confidence, board, answer) in enumerate(
    zip(
      part["puzzle_identifiers"].tolist(),
      confidences.tolist(),
      inputs,
      predictions,
      strict=True,
    )
  ):
    if identifier == BLANK_IDENTIFIER_ID:
      continue
    row = start + i
    if not 0 <= identifier < len(questions.identifiers):
      raise InputError(
        f"{path}: row {row}: expected identifiers below "
        f"{len(questions.identifiers)}, got {identifier}; was another data set "
        "evaluated? (--data)"
      )
    text = questions.identifiers[identifier]
    augmentation = arc.parse_identifier(text)
    key = augmentation.name, grid_digest(_grid(*board, augmentation))
    if key[1] not in questions.inputs.get(augmentation.name, ()):
      raise InputError(
        f"{path}: row {row}: expected a test input of task "
        f"{augmentation.name!r} ({text}), got another grid; was another data "
        "set or split evaluated? (--data)"
      )
    answers = tally.setdefault(key, {})
    digest = grid_digest(_grid(*answer, augmentation))
    known = answers.get(digest, Answer(0, 0, name, row))
    answers[digest] = known._replace(
      votes=known.votes + 1, confidence=known.confidence + int(confidence)
    )


def _grid(
  tokens: np.ndarray, height: int, width: int, augmentation: arc.Augmentation
) -> np.ndarray:
  """The task's own grid behind a board whose grid has this shape."""
  board = tokens.reshape(arc.SIDE, arc.SIDE)[:height, :width]
  return arc.undo(board - arc.FIRST_COLOR_ID, augmentation)


def _first_grid(
  answer: Answer, questions: Questions, directory: pathlib.Path
) -> list[list[int]]:
  """Reads an answer's grid again, where its first vote stands."""
  identifiers, boards = (
    _map(directory / f"{answer.file}__{column}.npy")
    for column in ("puzzle_identifiers", "predictions")
  )
  board = boards[answer.row]
  shape = (int(n[0]) for n in arc.crop_shapes(board[None]))
  text = questions.identifiers[identifiers[answer.row]]
  return _grid(board, *shape, arc.parse_identifier(text)).tolist()


def _json_digest(grid: list | None) -> str | None:
  return None if grid is None else grid_digest(np.array(grid, np.uint8))


def _map(path: pathlib.Path) -> np.ndarray:
  try:
    return np.lib.format.open_memmap(path, mode="r")
  except FileNotFoundError:
    raise InputError(f"{path}: no such file.") from None
  except (OSError, ValueError) as error:
    raise InputError(
      f"{path}: expected a complete .npy file of numbers, got one that does "
      f"not open ({error})."
    ) from None


def _read_tally(path: pathlib.Path, made_from: dict) -> Tally | None:
  """Reads a kept tally; None if there is none of these very files."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (FileNotFoundError, ValueError):
    return None
  if not isinstance(value, dict) or value.get("made_from") != made_from:
    return None
  return {
    (task, digest): {d: Answer(*a) for d, a in answers.items()}
    for task, digest, answers in value["tally"]
  }


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f".{path.name}.partial")
  partial.write_text(json.dumps(value) + "\n", encoding="utf-8")
  partial.replace(path)


def _data_directory(workdir: pathlib.Path) -> pathlib.Path:
  """Where the run's configuration says that its data set lies."""
  path = workdir / "config.json"
  try:
    config = json.loads(path.read_text(encoding="utf-8"))
    return pathlib.Path(config["data"]["path"] or workdir / "data")
  except (OSError, ValueError, TypeError, KeyError):
    raise InputError(
      f"{path}: expected the configuration of a run, which names its data set; "
      "without it pass --data."
    ) from None


def _predictions_directory(
  workdir: pathlib.Path, step: int | None
) -> pathlib.Path:
  root = workdir / "predictions"
  steps = [int(p.name) for p in root.glob("*") if p.name.isdecimal()]
  if not steps or step not in (None, *steps):
    got = ", ".join(map(str, sorted(steps))) or "none"
    wanted = "" if step is None else f" of step {step}"
    raise InputError(
      f"{root}: expected predictions{wanted}, got {got}; make them by python "
      f"-m hrm_jax.evaluate --workdir={workdir} --save-predictions."
    )
  return root / str(max(steps) if step is None else step)


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m hrm_jax.arc_vote",
    description="Scores saved ARC predictions by voting over augmentations.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--workdir", type=pathlib.Path, required=True, help="of the run")
  add("--step", type=int, help="of the weights; default: the newest")
  add("--data", type=pathlib.Path, help="default: what it was trained on")
  add(
    "--output",
    type=pathlib.Path,
    help="default: submission.json beside the predictions",
  )
  args = parser.parse_args()

  directory = _predictions_directory(args.workdir, args.step)
  questions = read_questions(args.data or _data_directory(args.workdir))
  names = sorted(
    path.name.removesuffix("__predictions.npy")
    for path in directory.glob("*__predictions.npy")
  )
  if not names:
    raise InputError(f"{directory}: expected *__predictions.npy, got none.")
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
  _write_json(output, submission(tally, questions, directory))
  console.print_json(
    {
      **score(tally, questions),
      "tasks": len(questions.inputs),
      "test_inputs": asked.total(),
      "unanswered": asked[False],
      "votes": sum(a.votes for t in tally.values() for a in t.values()),
      "step": int(directory.name),
      "submission": str(output),
    }
  )


if __name__ == "__main__":
  console.run(main)

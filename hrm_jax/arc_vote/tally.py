"""Counts equal answers of saved ARC predictions, whatever their augmentation.

Numbers are exact: an answer's confidence is summed as an integer. What comes
first is told by the examples' places in their set, so nothing depends on which
process wrote which row. Memory grows with the distinct answers only, by some
hundred bytes each; a grid can be read again where it first stood.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file
from hrm_jax.console import InputError, log
from hrm_jax.data import arc
from hrm_jax.data.number_file import open_numbers

# What reading JSON of another make can raise.
_FOREIGN = (
  ValueError,
  TypeError,
  KeyError,
  AttributeError,
  OverflowError,
  RecursionError,
)

COLUMNS = (
  "rows",
  "inputs",
  "puzzle_identifiers",
  "predictions",
  "q_halt_logits",
)
BLANK_IDENTIFIER_ID = 0

# Binary digits behind the point of a confidence: a sigmoid of -50 still counts.
_FRACTION = 80
_ROWS_AT_ONCE = 4096


class Answer(NamedTuple):
  """What stands behind one answer to one test input."""

  votes: int
  confidence: int  # sum of sigmoid(q_halt) over the votes, times 2**80
  file: str  # where its first vote is: the set's name and which process's part
  row: int  # of that file, where its first vote is
  place: int  # of the first vote among the examples of the set

  def first(self) -> tuple[str, int]:
    """Set and place: orders answers as one process would come across them."""
    return _PART.sub("", self.file), self.place


# The end of a file's name where several processes have written a set.
_PART = re.compile(r"\.\d+of\d+$")

# Per (task, digest of the input): answers by digest.
Tally = dict[tuple[str, str], dict[str, Answer]]


class Questions(NamedTuple):
  """What is asked: the test pairs of each task, as in test_puzzles.json."""

  identifiers: list[str]  # by number
  inputs: dict[str, list[str]]  # digests of a task's test inputs
  outputs: dict[str, list[str | None]]  # their answers' digests, if known
  digest: str  # names the content of the files that say so


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
    except OSError as error:
      raise InputError(
        f"{data / name}: cannot be read ({error.strerror}); expected a data "
        "set of data_tools.build_arc (--data)."
      ) from None
  digest = hashlib.sha256(b"\0".join(contents)).hexdigest()
  names, puzzles = (data / "identifiers.json", data / "test_puzzles.json")
  identifiers = _parse(names, contents[0])
  if not isinstance(identifiers, list):
    raise InputError(
      f"{names}: expected a list of names, got {identifiers!r:.40}."
    )
  inputs, outputs = {}, {}
  for task, pairs in _test_pairs(puzzles, _parse(puzzles, contents[1])).items():
    inputs[task] = [digest for digest, _ in pairs]
    outputs[task] = [digest for _, digest in pairs]
  return Questions(identifiers, inputs, outputs, digest)


def _parse(path: pathlib.Path, content: bytes) -> Any:
  try:
    return json.loads(content)
  except (ValueError, RecursionError) as error:
    raise InputError(f"{path}: expected JSON ({error!s:.80}).") from None


def _test_pairs(
  path: pathlib.Path, tasks: Any
) -> dict[str, list[tuple[str, str | None]]]:
  """Returns the digests of each task's test pairs, from either form.

  Our builder writes `{task: [pair, ...]}`. TRM's writes whole tasks, `{task:
  {"train": [...], "test": [pair, ...]}}`, with [[0]] for every answer where
  it knows none.
  """
  if not isinstance(tasks, dict):
    raise InputError(
      f"{path}: expected an object with tasks by name, got {tasks!r:.40}."
    )
  digests, answers = {}, []
  for task, value in tasks.items():
    whole = isinstance(value, dict)
    try:
      pairs = value["test"] if whole else value
      digests[task] = [
        (_json_digest(pair["input"]), _json_digest(pair["output"]))
        for pair in pairs
      ]
    except _FOREIGN:
      raise InputError(
        f"{path}: task {task!r:.60}: expected a list of pairs of grids, or an "
        f"object with such a list as 'test', got {value!r:.60}."
      ) from None
    answers += [pair["output"] if whole else None for pair in pairs]
  if all(answer == [[0]] for answer in answers):
    return {
      task: [(asked, None) for asked, _ in pairs]
      for task, pairs in digests.items()
    }
  return digests


def tally_file(
  directory: pathlib.Path, name: str, questions: Questions
) -> Tally:
  """Counts the votes of one set of prediction files.

  The tally is kept beside them, and used again while they stay as they are.

  Args:
    directory: WORKDIR/predictions/<step>/test.
    name: the set's; its files are <name>__<column>.npy.
    questions: what the data set that was evaluated asks.

  Raises:
    InputError: a file is missing or damaged, or answers another question.
  """
  paths = {c: directory / f"{name}__{c}.npy" for c in COLUMNS}
  columns = {column: open_numbers(path) for column, path in paths.items()}
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
    "version": 2,
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
      # Mapped anew each time: pages of an open map count as ours.
      stop = start + _ROWS_AT_ONCE
      part = {
        c: np.array(open_numbers(p)[start:stop]) for c, p in paths.items()
      }
      _count(tally, part, questions, name, start, paths["inputs"])
      bar.advance(len(part["inputs"]))
  items = [[*key, answers] for key, answers in tally.items()]
  try:
    atomic_file.write_json(
      kept, {"made_from": made_from, "tally": items}, indent=None
    )
  except OSError as error:  # Counting again costs only time.
    log.warning(f"warning: {kept}: cannot be written ({error.strerror})")
  return tally


def merge(tallies: Sequence[Tally]) -> Tally:
  """Adds up tallies."""
  total: Tally = {}
  for tally in tallies:
    for key, answers in tally.items():
      known = total.setdefault(key, {})
      for digest, more in answers.items():
        known[digest] = _add(known.get(digest), more)
  return total


def _add(one: Answer | None, more: Answer) -> Answer:
  if one is None:
    return more
  return min(one, more, key=Answer.first)._replace(
    votes=one.votes + more.votes, confidence=one.confidence + more.confidence
  )


def first_grid(
  answer: Answer, questions: Questions, directory: pathlib.Path
) -> list[list[int]]:
  """Reads an answer's grid again, where its first vote stands: rows."""
  identifiers, boards = (
    open_numbers(directory / f"{answer.file}__{column}.npy")
    for column in ("puzzle_identifiers", "predictions")
  )
  board = boards[answer.row]
  height, width = (int(n[0]) for n in arc.crop_shapes(board[None]))
  text = questions.identifiers[identifiers[answer.row]]
  return _grid(board, height, width, arc.parse_identifier(text)).tolist()


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
  for i, (place, identifier, confidence, board, answer) in enumerate(
    zip(
      part["rows"].tolist(),
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
    vote = Answer(1, int(confidence), name, row, place)
    answers[digest] = _add(answers.get(digest), vote)


def _grid(
  tokens: np.ndarray, height: int, width: int, augmentation: arc.Augmentation
) -> np.ndarray:
  """The task's own grid behind a board whose grid has this shape."""
  board = tokens.reshape(arc.SIDE, arc.SIDE)[:height, :width]
  return arc.undo(board - arc.FIRST_COLOR_ID, augmentation)


def _json_digest(grid: list | None) -> str | None:
  return None if grid is None else grid_digest(np.array(grid, np.uint8))


def _read_tally(path: pathlib.Path, made_from: dict) -> Tally | None:
  """Reads a kept tally; None if there is none of these very files."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
    if value["made_from"] != made_from:
      return None
    # Not the name inside the file: it becomes a path.
    name = path.name.removesuffix("__votes.json")
    return {
      (task, digest): {
        d: Answer(*a)._replace(file=name) for d, a in answers.items()
      }
      for task, digest, answers in value["tally"]
    }
  except (OSError, *_FOREIGN):  # Counting again costs only time.
    return None

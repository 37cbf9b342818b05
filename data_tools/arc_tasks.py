"""Reads ARC tasks from directories of JSON, and refuses what is not right.

A file holds one task, `{"train": [pair, ...], "test": [pair, ...]}`, or is one
of the competition's, `*_challenges.json` with many tasks by name and
`*_solutions.json` with their test outputs. Tasks below a folder `evaluation`,
in files of that name, and those whose answers are unknown, are evaluated on;
all others train.

A file may also hold a bare list of pairs, as those of RE-ARC do. Such a list
has no test: all its pairs train, together with those of another training task
of that name. Below `evaluation` the last pair of the list is its test.
"""

import collections
import hashlib
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from hrm_jax.console import InputError, log
from hrm_jax.data import arc_task
from hrm_jax.data.arc_task import Pair, Task

EVALUATION = "evaluation"
_CHALLENGES, _SOLUTIONS = "_challenges.json", "_solutions.json"


def read_tasks(
  directories: Sequence[str | os.PathLike],
) -> tuple[list[Task], list[dict[str, Any]]]:
  """Reads all tasks, in the order of the directories and of their files.

  Returns:
    The tasks; and per directory what build.json says of it.

  Raises:
    InputError: names the file and the key, what was expected and what came.
  """
  tasks, sources = [], []
  for directory in directories:
    found, digest = _read_directory(pathlib.Path(directory))
    tasks += found
    sources.append({"tasks": len(found), "sha256": digest})
  _check_names([task for task in tasks if task.test])
  tasks = _merge_lists(tasks)
  if not any(task.evaluated for task in tasks):
    raise InputError(
      f"{', '.join(map(str, directories))}: expected tasks in a folder named "
      f"'{EVALUATION}', from which the test split is made, got none."
    )
  return tasks, sources


def warn_of_answers_in_training(tasks: Sequence[Task]) -> None:
  """Logs how many test pairs stand, with their answers, in training data."""
  seen = {}
  for task in tasks:
    for part, pairs in (("train", task.train), ("test", task.test)):
      if part == "test" and task.evaluated:
        continue
      for i, pair in enumerate(pairs):
        seen.setdefault(_content(pair), task.place(part, i))
  asked = [
    (_content(pair), task.place("test", i))
    for task in tasks
    if task.evaluated
    for i, pair in enumerate(task.test)
    if pair[1] is not None
  ]
  known = [(place, seen[pair]) for pair, place in asked if pair in seen]
  if known:
    log.warning(
      f"warning: {len(known)} of {len(asked)} test pairs stand in the training "
      "data with their answers, and count for nothing in a score; such as "
      f"{known[0][0]}, which is {known[0][1]}."
    )


def _read_directory(directory: pathlib.Path) -> tuple[list[Task], str]:
  paths = _find_files(directory)
  tasks, digest = [], hashlib.sha256()
  for path in paths:
    name = path.relative_to(directory).as_posix()
    content = _read_bytes(path)
    digest.update(f"{name}\0{len(content)}\0".encode() + content)
    if path.name.endswith(_SOLUTIONS):
      challenges = _beside(path, _SOLUTIONS, _CHALLENGES)
      if challenges not in paths:
        raise InputError(f"{path}: expected {challenges} beside it, got none.")
      continue
    folders = (directory.name, *name.split("/")[:-1])
    evaluated = EVALUATION in folders
    value = arc_task.parse_json(path, content)
    if path.name.endswith(_CHALLENGES):
      tasks += _combined(path, value, evaluated)
    elif isinstance(value, list):
      tasks.append(_list(value, path, evaluated))
    else:
      tasks.append(
        arc_task.check_task(value, path.stem, str(path), evaluated=evaluated)
      )
  if not tasks:
    raise InputError(
      f"{directory}: expected folders of ARC tasks (*.json), got no task."
    )
  return tasks, digest.hexdigest()


def _find_files(directory: pathlib.Path) -> list[pathlib.Path]:
  """Finds the task files below a directory, in order; hidden ones are none.

  Raises:
    InputError: there is no such directory, or a folder cannot be read: what
      lies in it would be missing from the data set.
  """

  def refuse(error: OSError) -> None:
    raise InputError(
      f"{error.filename}: cannot be read ({error.strerror})."
    ) from None

  try:
    if not directory.is_dir():
      raise InputError(f"{directory}: no such directory.")
  except OSError as error:
    refuse(error)
  paths = []
  for root, folders, files in os.walk(directory, onerror=refuse):
    folders[:] = [name for name in folders if not name.startswith(".")]
    paths += [
      pathlib.Path(root, name)
      for name in files
      if name.endswith(".json")
      and not name.startswith(".")
      # The competition's data come with a submission to imitate.
      and name != "sample_submission.json"
    ]
  return sorted(paths)


def _list(value: list, path: pathlib.Path, evaluated: bool) -> Task:
  """Checks a parsed list of pairs, which is called as its file is."""
  least = 2 if evaluated else 1
  if len(value) < least:
    why = f", the last for the test, below '{EVALUATION}'" if evaluated else ""
    raise InputError(
      f"{path}: expected a task, or a list of at least {least} pairs{why}, got "
      f"{len(value)}."
    )
  arc_task.check_name(path.stem, str(path))
  pairs = [
    arc_task.check_pair(str(path), f"[{i}]", pair, output=True)
    for i, pair in enumerate(value)
  ]
  test = pairs[-1:] if evaluated else []
  train = pairs[: len(pairs) - len(test)]
  return Task(path.stem, str(path), train, test, evaluated)


def _merge_lists(tasks: list[Task]) -> list[Task]:
  """Adds lists of pairs to the training task of their name, if there is one."""
  of_name, merged = {}, []
  for task in tasks:
    known = None if task.evaluated else of_name.get(task.name)
    if known is None or (task.test and merged[known].test):
      if not task.evaluated:
        of_name.setdefault(task.name, len(merged))
      merged.append(task)
      continue
    first = merged[known]
    # The task's own pairs come before those of lists, whatever was read first.
    whole, more = (task, first) if task.test else (first, task)
    have = set(map(_content, (*whole.train, *whole.test)))
    new = [pair for pair in more.train if _content(pair) not in have]
    merged[known] = whole._replace(train=[*whole.train, *new])
  return merged


def _combined(path: pathlib.Path, value: Any, evaluated: bool) -> list[Task]:
  """Reads the tasks of a challenges file, with its solutions if there."""
  arc_task.expect_object(path, "", value)
  words = re.split(r"[^a-z]+", path.name)
  evaluated |= not {EVALUATION, "test"}.isdisjoint(words)
  beside = _beside(path, _CHALLENGES, _SOLUTIONS)
  if not beside.exists():
    return [
      arc_task.check_task(
        task, name, str(path), f"{name}.", evaluated=True, outputs=False
      )
      for name, task in sorted(value.items())
    ]
  solutions = arc_task.parse_json(beside, _read_bytes(beside))
  arc_task.expect_object(beside, "", solutions)
  tasks = []
  for name, item in sorted(value.items()):
    task = arc_task.check_task(
      item, name, str(path), f"{name}.", evaluated=evaluated, outputs=False
    )
    outputs = solutions.get(name)
    got = len(outputs) if isinstance(outputs, list) else "none"
    if got != len(task.test):
      raise InputError(
        f"{beside}: {name}: expected {len(task.test)} outputs, as many as "
        f"{path} has test inputs, got {got}."
      )
    test = [
      (pair[0], arc_task.check_grid(str(beside), f"{name}[{i}]", grid))
      for i, (pair, grid) in enumerate(zip(task.test, outputs, strict=True))
    ]
    tasks.append(task._replace(test=test))
  more = sorted(solutions.keys() - value.keys())
  if more:
    raise InputError(
      f"{beside}: {more[0]}: expected only tasks of {path}, got one more."
    )
  return tasks


def _beside(path: pathlib.Path, old: str, new: str) -> pathlib.Path:
  return path.with_name(path.name.removesuffix(old) + new)


def _read_bytes(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error}.") from None


def _content(pair: Pair) -> tuple:
  """What makes two pairs the same; to be compared and hashed."""
  return tuple(
    (grid.shape, grid.tobytes()) if grid is not None else None for grid in pair
  )


def _check_names(tasks: Sequence[Task]) -> None:
  """Refuses two tasks of one name, unless they are the same task."""
  known = {}
  for task in tasks:
    # A task may train in one collection and be evaluated on in another.
    first = known.setdefault((task.name, task.evaluated), task)
    if first is task:
      continue
    same = collections.Counter(map(_content, first.train)) == (
      collections.Counter(map(_content, task.train))
    )
    answers = {
      _content(pair)
      for pair in (*first.test, *task.test)
      if pair[1] is not None
    }
    inputs = [
      {_content((pair[0], None)) for pair in each.test}
      for each in (first, task)
    ]
    if not same or inputs[0] != inputs[1] or len(answers) > len(inputs[0]):
      raise InputError(
        f"{task.where}: task {task.name!r}: expected a name of its own, or the "
        f"same task as in {first.where}, got other pairs under that name."
      )

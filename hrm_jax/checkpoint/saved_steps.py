"""The checkpoints of a run on disk: which are whole, which is best, which go.

  WORKDIR/checkpoints/<step>/manifest.json  written last; see `manifest`
  WORKDIR/checkpoints/evaluations/<step>.json  made after the step was saved

A step counts only if its manifest agrees with its files. Everything else
there is left from a run that was killed, or was damaged since: it is told
about, never read. What this process is not allowed to read may be good: it
is an error of its own, and never deleted.

Orbax's `CheckpointManager` has policies for what is kept, but it knows no
digests: it would count a damaged step among those that stay, and delete the
good one before it. So this file does it by hand.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from hrm_jax.checkpoint import atomic_file, format_number, manifest
from hrm_jax.checkpoint.errors import (
  FormatError,
  NoAccessError,
  no_access,
  not_accessible,
)
from hrm_jax.config import with_later_keys
from hrm_jax.console import InputError

# Orbax writes to <step>.orbax-checkpoint-tmp, and renames it when it is done.
_UNFINISHED = ".orbax-checkpoint-tmp"
_REMOVED = ".removed"


class Identity(NamedTuple):
  """What tells one manifest from another: its device, inode and time."""

  device: int
  inode: int
  written_ns: int


def directory_of(workdir: pathlib.Path) -> pathlib.Path:
  """Where the checkpoints of a run lie."""
  return pathlib.Path(workdir) / "checkpoints"


def all_steps(directory: pathlib.Path) -> list[int]:
  """Every step that has a directory, whole or not, in increasing order.

  Raises:
    NoAccessError: the directory is there, but cannot be read. Taken for an
      empty one, a run would start over what may be saved.
  """
  try:
    names = os.listdir(directory)
  except OSError as error:
    if number := no_access(error):
      raise not_accessible(directory, number) from None
    return []
  return sorted(int(n) for n in names if n.isdecimal() and str(int(n)) == n)


def is_there(directory: pathlib.Path, step: int) -> bool:
  """Whether a step has not been deleted; whole or not."""
  return _is_there(directory / str(step))


def _is_there(path: pathlib.Path) -> bool:
  try:
    path.lstat()
  except (FileNotFoundError, NotADirectoryError):
    return False
  except OSError:
    pass  # `lexists` would say no, and what is not there may be replaced.
  return True


def identity(directory: pathlib.Path, step: int) -> Identity | None:
  """Tells a step from one that is saved later in its place; None: deleted."""
  try:
    stat = (directory / str(step) / manifest.FILE_NAME).lstat()
  except OSError:
    return None
  return Identity(stat.st_dev, stat.st_ino, stat.st_mtime_ns)


def problems(
  directory: pathlib.Path, step: int, *, digests: bool = True
) -> list[str]:
  """What is wrong with a step: a line for each bad file, with its path."""
  path = directory / str(step)
  found = manifest.problems(path, step, digests=digests)
  return [_line(path, problem) for problem in found]


def damage(directory: pathlib.Path, step: int) -> list[str]:
  """Like `problems`, all digests included, for who may delete or pass over.

  Raises:
    NoAccessError: a file cannot be read, so the step may be good.
    FormatError: another version of hrm_jax wrote it, with another manifest.
  """
  path = directory / str(step)
  found = manifest.problems(path, step)
  for problem in found:
    if problem.no_access is not None:
      raise not_accessible(path / problem.file, problem.no_access)
  # Another version's manifest may have another form, too.
  if any(problem.file == manifest.FILE_NAME for problem in found) and (
    line := format_problem(directory, step)
  ):
    raise FormatError(line)
  return [_line(path, problem) for problem in found]


def _line(path: pathlib.Path, problem: manifest.Problem) -> str:
  return f"{path / problem.file}: {problem.what}"


def format_problem(directory: pathlib.Path, step: int) -> str | None:
  """The line that says which version wrote a step, if it was not this one."""
  try:
    read_run(directory, step)
  except FormatError as error:
    return str(error)
  except InputError:
    pass  # It is damaged, which the manifest tells.
  return None


def complete_steps(directory: pathlib.Path) -> list[int]:
  """The steps that are whole as far as names and sizes tell."""
  steps = all_steps(directory)
  return [s for s in steps if not problems(directory, s, digests=False)]


def is_finished(directory: pathlib.Path, step: int) -> bool:
  """Whether a step has its manifest, which is written last."""
  return _is_there(directory / str(step) / manifest.FILE_NAME)


def read_run(directory: pathlib.Path, step: int) -> dict[str, Any]:
  """Reads the run record of a checkpoint, with an evaluation added since.

  Keys of the configuration that are younger than it have their defaults.

  Raises:
    FormatError: another version of hrm_jax wrote it.
    NoAccessError: this process is not allowed to read it, say.
    InputError: it cannot be read for another reason; names the file.
  """
  path = directory / str(step) / "run" / "metadata"
  try:
    run = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    if number := no_access(error):
      raise not_accessible(path, number) from None
    raise InputError(f"{path}: cannot be read ({error}).") from None
  # A later format may have other keys, so its number comes first.
  if isinstance(run, dict) and (
    format_number.KEY in run or "evaluation" in run
  ):
    format_number.check(run, directory / str(step))
  if not isinstance(run, dict) or "evaluation" not in run:
    raise InputError(f"{path}: expected the description of a run.")
  if isinstance(run.get("config"), dict):
    run["config"] = with_later_keys(run["config"])
  # An evaluation that cannot be read is dropped: it can be made again.
  with contextlib.suppress(
    OSError, ValueError, TypeError, KeyError, RecursionError
  ):
    text = _evaluation_path(directory, step).read_text(encoding="utf-8")
    added = json.loads(text)
    evaluation = added["evaluation"]
    if evaluation["step"] == step and added == _with_digest(evaluation):
      run["evaluation"] = evaluation
  return run


def add_evaluation(
  directory: pathlib.Path, step: int, evaluation: dict[str, Any]
) -> None:
  """Keeps an evaluation that was made after its step had been saved.

  It lies beside the step, whose files do not change any more. This happens
  when a run was told to end during the evaluation, saved, and makes up for the
  evaluation when it goes on.

  Raises:
    OSError: it cannot be written.
  """
  path = _evaluation_path(directory, step)
  path.parent.mkdir(exist_ok=True)
  atomic_file.write_json(path, _with_digest(evaluation))


def _with_digest(evaluation: dict[str, Any]) -> dict[str, Any]:
  # No manifest covers this file, and it decides which step is best.
  text = json.dumps(evaluation, sort_keys=True)
  digest = hashlib.sha256(text.encode()).hexdigest()
  return {"evaluation": evaluation, "sha256": digest}


def _evaluation_path(directory: pathlib.Path, step: int | str) -> pathlib.Path:
  return directory / "evaluations" / f"{step}.json"


def scores(directory: pathlib.Path) -> dict[int, float | None]:
  """The score of each complete step, see `score`; unreadable ones have none.

  Steps that are not accessible, or have another format, are left out: they
  are neither compared with others nor deleted in favour of them.
  """
  found: dict[int, float | None] = {}
  for step in complete_steps(directory):
    try:
      found[step] = score(read_run(directory, step), step)
    except (FormatError, NoAccessError):
      continue
    except (InputError, TypeError, KeyError, AttributeError, ZeroDivisionError):
      found[step] = None
  return found


def score(run: Mapping[str, Any], step: int) -> float | None:
  """What "best" goes by: the mean of `exact_accuracy` over the sets.

  Args:
    run: the run record of a checkpoint.
    step: the number of that checkpoint. If the record holds an evaluation of
      an earlier one, it does not count.

  Returns:
    A share; None without an evaluation of these very weights.
  """
  evaluation = run["evaluation"]
  if evaluation is None or evaluation["step"] != step:
    return None
  sets = evaluation["sets"].values()
  return sum(means["exact_accuracy"] for means in sets) / len(sets)


def best_step(scores: Mapping[int, float | None]) -> int | None:
  """The step with the highest score, and the newest of equals; or None."""
  known = [(s, step) for step, s in scores.items() if s is not None]
  return max(known)[1] if known else None


def expendable(
  scores: Mapping[int, float | None],
  *,
  max_to_keep: int | None,
  keep_period: int = 0,
) -> list[int]:
  """Chooses the steps that need not be kept.

  Args:
    scores: each complete step, with its score if it has one.
    max_to_keep: so many of the newest stay; None keeps all.
    keep_period: the multiples of it stay too; 0: none do.

  Returns:
    The others, except for the best step.
  """
  if max_to_keep is None:
    return []
  best = best_step(scores)
  return [
    step
    for step in sorted(scores)[:-max_to_keep]
    if step != best and not (keep_period and step % keep_period == 0)
  ]


def remove(directory: pathlib.Path, name: str) -> None:
  """Deletes an entry of the directory; a deletion cut short is no half step."""
  removed = directory / f".{name}{_REMOVED}"
  if removed.exists():
    _delete(removed)
  (directory / name).rename(removed)
  _evaluation_path(directory, name).unlink(missing_ok=True)
  _delete(removed)


def discard(directory: pathlib.Path, step: int) -> None:
  """Deletes what a failed save of a step left, as far as that is possible."""
  for path in directory.glob(f"{step}*"):
    if path.name == str(step) or path.name.startswith(f"{step}{_UNFINISHED}"):
      shutil.rmtree(path, ignore_errors=True)
  with contextlib.suppress(OSError):
    _evaluation_path(directory, step).unlink(missing_ok=True)


def unfinished(directory: pathlib.Path, before: int) -> list[int]:
  """Steps before a whole one that a kill has left without their manifest."""
  return [
    step
    for step in all_steps(directory)
    if step < before and not is_finished(directory, step)
  ]


def leftovers(directory: pathlib.Path) -> list[str]:
  """Names of what saves and deletions left that were cut short."""
  names = (path.name for path in directory.glob("*"))
  return sorted(n for n in names if _UNFINISHED in n or n.endswith(_REMOVED))


def remove_leftovers(directory: pathlib.Path) -> list[str]:
  """Deletes the `leftovers`, and returns their names.

  No run may be saving there: its half-written step would be one of them.
  """
  names = leftovers(directory)
  for name in names:
    _delete(directory / name)
  return names


def _delete(path: pathlib.Path) -> None:
  if path.is_symlink() or not path.is_dir():
    path.unlink()
  else:
    shutil.rmtree(path)

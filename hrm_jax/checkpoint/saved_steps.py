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

A run may be saving and deleting while others read here. `remove` renames
before it deletes, so a step that is listed no more after it was read in part
was deleted, not damaged; the choice is then made again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from hrm_jax.checkpoint import atomic_file, format_number, manifest
from hrm_jax.checkpoint.errors import (
  DeletedError,
  FormatError,
  NoAccessError,
  no_access,
  not_accessible,
)
from hrm_jax.console import InputError, log

# Orbax writes to <step>.orbax-checkpoint-tmp, and renames it when it is done.
_UNFINISHED = ".orbax-checkpoint-tmp"
_REMOVED = ".removed"

# How often a reader chooses again when its step was deleted meanwhile. A run
# that saves every update of a tiny network deletes several a second.
TRIES = 100


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


def identity(directory: pathlib.Path, step: int) -> tuple[int, int, int] | None:
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


def choose_step(
  directory: pathlib.Path,
  *,
  strict: bool = False,
  passed_over: Collection[int] = (),
) -> int | None:
  """Chooses the checkpoint to go on from: the newest whose digests are right.

  A warning names the bad file of each newer one. Where a run is saving, the
  choice is made again if a step was deleted while it was looked at.

  Args:
    directory: where the checkpoints of a run lie.
    strict: refuse instead of passing over a bad one.
    passed_over: steps that do not count.

  Returns:
    The step; None if there is none.

  Raises:
    InputError: with `strict`, a step is damaged or incomplete.
    NoAccessError: a step that may be the one cannot be read.
    FormatError: such a step was written by another version.
    DeletedError: a step was deleted at each of many tries.
  """
  for _ in range(TRIES):
    passed: dict[int, str] = {}
    for step in reversed(all_steps(directory)):
      if step in passed_over:
        continue
      try:
        found = damage(directory, step)
      except NoAccessError:
        if is_there(directory, step):
          raise
        break  # What is deleted on a file server may still have its handle.
      if found and not is_there(directory, step):
        break
      if not found:
        _tell(passed)
        return step
      if strict:
        raise InputError(
          f"{_summary(found)}; --strict-restore goes on from no older step."
        )
      passed[step] = _summary(found)
    else:
      _tell(passed)
      return None
  raise deleted_too_fast(directory)


def _tell(passed: Mapping[int, str]) -> None:
  for step, line in passed.items():
    log.warning(f"warning: {line}; passing over step {step}")


def deleted_too_fast(directory: pathlib.Path) -> DeletedError:
  """What to raise where `TRIES` choices were deleted while being read."""
  return DeletedError(
    f"{directory}: its run deletes each checkpoint before it is read, at "
    f"{TRIES} tries; try --step=best, or wait for the end of the run."
  )


def deleted(directory: pathlib.Path, step: int) -> DeletedError:
  """What to raise where the step that a person named is deleted meanwhile."""
  have = ", ".join(map(str, all_steps(directory)))
  return DeletedError(
    f"{directory / str(step)}: it was deleted while it was being read, because "
    f"its run keeps others; leave --step out, or choose another one of {have}."
  )


def step_to_resume(
  directory: pathlib.Path, *, strict: bool, passed_over: Collection[int]
) -> int | None:
  """`choose_step`, for a run that would start anew if it got None.

  Raises:
    InputError: as that; or there are checkpoints, but all of them are damaged.
      Those without a manifest were never finished, and do not count.
  """
  step = choose_step(directory, strict=strict, passed_over=passed_over)
  if step is not None:
    return step
  if any(_is_finished(directory, s) for s in all_steps(directory)):
    raise InputError(
      f"{directory}: none of its checkpoints is whole, and a run does not "
      "start over what may be saved; move that directory away, or choose "
      "another --workdir."
    )
  if all_steps(directory):
    log.warning(
      f"warning: {directory}: no save there was ever finished; the run starts "
      "from the beginning"
    )
  return None


def _is_finished(directory: pathlib.Path, step: int) -> bool:
  """Whether a step has its manifest, which is written last."""
  return _is_there(directory / str(step) / manifest.FILE_NAME)


def find_step(workdir: pathlib.Path, step: int | str | None) -> int:
  """Finds the checkpoint that a person asks for, and checks its digests.

  Args:
    workdir: the run's directory.
    step: a step, "best", or None for the newest that is whole.

  Raises:
    InputError: it is not there, or is damaged.
    NoAccessError, FormatError: see `damage`.
    DeletedError: it was deleted meanwhile.
  """
  directory = directory_of(workdir)
  if not all_steps(directory):
    raise InputError(
      f"{directory}: no checkpoint there; train one with python -m "
      f"hrm_jax.train --config=FILE --workdir={workdir}."
    )
  if step is None:
    step = choose_step(directory)
    if step is None:
      raise InputError(
        f"{directory}: none of its checkpoints is whole; python -m "
        f"hrm_jax.checkpoint verify {workdir} tells what is wrong."
      )
    return step
  step = number_of(directory, step)
  try:
    found = damage(directory, step)
  except NoAccessError:
    if is_there(directory, step):
      raise
    raise deleted(directory, step) from None
  if found:
    if not is_there(directory, step):
      raise deleted(directory, step)
    raise InputError(f"{_summary(found)}; choose another --step.")
  return step


def number_of(directory: pathlib.Path, step: int | str) -> int:
  """The number of a step, where "best" is one too.

  Raises:
    InputError: it is not there.
    FormatError: none is best, and another version wrote one of them.
  """
  if step == "best":
    step = _best_there(directory)
    if step is None:
      for each in complete_steps(directory):
        if line := format_problem(directory, each):
          raise FormatError(line)
      raise InputError(
        f"{directory}: no checkpoint with an evaluation of its own, so none "
        "is best; choose --step=NUMBER."
      )
  steps = all_steps(directory)
  if step not in steps:
    have = ", ".join(map(str, steps))
    raise InputError(f"{directory}: no step {step} there; it has {have}.")
  return step


def _best_there(directory: pathlib.Path) -> int | None:
  for _ in range(TRIES):
    before = all_steps(directory)
    best = best_step(scores(directory))
    if best is not None or before == all_steps(directory):
      return best
  raise deleted_too_fast(directory)


def step_argument(text: str) -> int | str:
  """The value of a `--step` flag: a number, or "best"."""
  if text == "best":
    return text
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(
      f"expected a number or 'best', got '{text}'"
    )
  return int(text)


def read_run(directory: pathlib.Path, step: int) -> dict[str, Any]:
  """Reads the run record of a checkpoint, with an evaluation added since.

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
    if step < before and not _is_finished(directory, step)
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


def _summary(problems: list[str]) -> str:
  more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
  return problems[0] + more

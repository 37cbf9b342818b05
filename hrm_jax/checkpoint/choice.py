"""Which checkpoint to go on from, or to read for a person.

A run may be saving and deleting while others read. `saved_steps.remove`
renames before it deletes, so a step that is not listed any more after it was
read in part was deleted, not damaged; the choice is then made again.
"""

import argparse
import pathlib
from collections.abc import Collection, Mapping

from hrm_jax.checkpoint import saved_steps
from hrm_jax.checkpoint.errors import DeletedError, FormatError, NoAccessError
from hrm_jax.console import InputError, log

# How often a reader chooses again when its step was deleted meanwhile. A run
# that saves every update of a tiny network deletes several a second.
TRIES = 100


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
    for step in reversed(saved_steps.all_steps(directory)):
      if step in passed_over:
        continue
      try:
        found = saved_steps.damage(directory, step)
      except NoAccessError:
        if saved_steps.is_there(directory, step):
          raise
        break  # What is deleted on a file server may still have its handle.
      if found and not saved_steps.is_there(directory, step):
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
  have = ", ".join(map(str, saved_steps.all_steps(directory)))
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
  steps = saved_steps.all_steps(directory)
  if any(saved_steps.is_finished(directory, s) for s in steps):
    raise InputError(
      f"{directory}: none of its checkpoints is whole, and a run does not "
      "start over what may be saved; move that directory away, or choose "
      "another --workdir."
    )
  if steps:
    log.warning(
      f"warning: {directory}: no save there was ever finished; the run starts "
      "from the beginning"
    )
  return None


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
  directory = saved_steps.directory_of(workdir)
  if not saved_steps.all_steps(directory):
    _refuse_what_is_inside_a_workdir(workdir)
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
    found = saved_steps.damage(directory, step)
  except NoAccessError:
    if saved_steps.is_there(directory, step):
      raise
    raise deleted(directory, step) from None
  if found:
    if not saved_steps.is_there(directory, step):
      raise deleted(directory, step)
    raise InputError(f"{_summary(found)}; choose another --step.")
  return step


def _refuse_what_is_inside_a_workdir(path: pathlib.Path) -> None:
  """Refuses the checkpoints of a run, or one of them, as a workdir.

  Raises:
    InputError: says what the path is, and which flags were meant.
  """
  path = path.absolute()
  for directory, step in ((path, ""), (path.parent, path.name)):
    workdir = directory.parent
    if directory != saved_steps.directory_of(workdir):
      continue
    steps = [str(each) for each in saved_steps.all_steps(directory)]
    if step in steps:
      raise InputError(
        f"--workdir={path}: expected the directory of a run, got one of its "
        f"steps; choose --workdir={workdir} --step={step}."
      )
    if steps and not step:
      raise InputError(
        f"--workdir={path}: expected the directory of a run, got that of its "
        f"checkpoints; choose --workdir={workdir}."
      )


def number_of(directory: pathlib.Path, step: int | str) -> int:
  """The number of a step, where "best" is one too.

  Raises:
    InputError: it is not there.
    FormatError: none is best, and another version wrote one of them.
  """
  if step == "best":
    best = _best_there(directory)
    if best is None:
      for each in saved_steps.complete_steps(directory):
        if line := saved_steps.format_problem(directory, each):
          raise FormatError(line)
      raise InputError(
        f"{directory}: training has evaluated none of these steps (`evaluate` "
        "does not count), so none is best; choose --step=N."
      )
    step = best
  steps = saved_steps.all_steps(directory)
  if step not in steps:
    have = ", ".join(map(str, steps))
    raise InputError(f"{directory}: no step {step} there; it has {have}.")
  return step


def _best_there(directory: pathlib.Path) -> int | None:
  for _ in range(TRIES):
    before = saved_steps.all_steps(directory)
    best = saved_steps.best_step(saved_steps.scores(directory))
    if best is not None or before == saved_steps.all_steps(directory):
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


def _summary(problems: list[str]) -> str:
  more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
  return problems[0] + more

"""Saves and restores everything a run needs to go on.

  WORKDIR/checkpoints/<step>/state  all arrays: weights, optimiser, carry, key
  WORKDIR/checkpoints/<step>/run    JSON: configuration, data set, versions
  WORKDIR/checkpoints/<step>/manifest.json  a digest per file, written last

Orbax writes each step to a temporary directory and renames it; the manifest
follows. A step without one, or at odds with it, is never read. The run record
makes a checkpoint self-contained: evaluation and solving need nothing else.
`python -m hrm_jax.checkpoint --help` lists, verifies and prunes.
"""

import contextlib
import logging
import math
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from hrm_jax.checkpoint import choice, format_number, manifest, saved_steps
from hrm_jax.checkpoint.errors import (
  FormatError,
  NoAccessError,
  UnreadableError,
)
from hrm_jax.checkpoint.restore_errors import explained
from hrm_jax.console import InputError, log, one_line
from hrm_jax.machines import cluster

_MIB = 2**20

# More errors than one failed save can leave: it writes fewer files than this.
_MOST_ERRORS = 100


# Any pytree of arrays: what a run's state is made of is the trainer's affair.
State = Any


class Resumed(NamedTuple):
  """What a run goes on from: a step, its run record and its state."""

  step: int
  run: dict[str, Any]
  state: State


class Checkpoints:
  """The checkpoints of one run; saving happens in the background.

  A save that fails is logged and the training goes on; `saved_step` tells.
  Old steps go only once a newer one has its manifest. With several processes
  the first one alone writes manifests and deletes.

  Args:
    workdir: the run's directory.
    max_to_keep: newest steps that are kept, besides the best one (see
      `saved_steps.score`); None keeps all.
    keep_period: multiples of it are kept too; 0: none are.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    max_to_keep: int | None = None,
    keep_period: int = 0,
  ):
    self.saved_step: int | None = None  # The newest that is known to be whole.
    self._directory = saved_steps.directory_of(workdir).absolute()
    self._policy = {"max_to_keep": max_to_keep, "keep_period": keep_period}
    self._finishing: threading.Thread | None = None
    # Steps whose digests match but that Orbax could not restore.
    self._unreadable: set[int] = set()
    if cluster.is_first():
      try:
        self._directory.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise InputError(
          f"{self._directory}: cannot be made ({error.strerror})."
        ) from None
    for name in ("absl", "asyncio"):
      logging.getLogger(name).addFilter(_not_of_a_failed_save)
    self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.wait()
    self._writer.close()
    if cluster.is_first():
      self._remove_leftovers()

  def wait(self) -> None:
    """Waits for the save that is under way, its manifest included."""
    if self._finishing is not None:
      self._finishing.join()
      self._finishing = None

  def save(self, step: int, state: State, run: dict[str, Any]) -> None:
    """Saves a step, unless it is there; returns before it is on disk.

    If the step is there, only an evaluation made since is added to it.

    Args:
      step: updates done.
      state: a pytree of arrays; they may be donated afterwards.
      run: the run record.
    """
    self.wait()
    if not cluster.decided_by_first(lambda: self._make_way(step, state, run)):
      return
    record = {**run, format_number.KEY: format_number.CURRENT}
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(record)
    )
    try:
      self._writer.save(self._directory / str(step), args=items)
    except Exception as error:  # Whatever it is, the training is worth more.
      self._failed(step, error)
      return
    self._finishing = threading.Thread(target=self._finish, args=(step,))
    self._finishing.start()

  def resume(
    self,
    shapes: State,
    *,
    fits: Callable[[dict[str, Any]], None] = lambda run: None,
    part: Callable[[dict[str, Any], State], Any] = lambda run, shapes: shapes,
    strict: bool = False,
  ) -> Resumed | None:
    """Restores the newest step that is whole, telling which ones are not.

    Args:
      shapes: a pytree like the state, of `ShapeDtypeStruct`s with shardings.
      fits: raises an InputError if a run record belongs to another experiment.
      part: from a run record and `shapes` to that of them which its checkpoint
        holds; by default all.
      strict: refuse instead of passing over a bad step.

    Returns:
      None if there is no step to go on from.

    Raises:
      InputError: `fits` raised it; or, with `strict`, the newest step is bad;
        or every step that was ever finished is.
      NoAccessError, FormatError: the newest step may be good, but cannot be
        read here; going on from an older one would lose what it holds.
    """
    while True:
      step = cluster.decided_by_first(
        lambda: choice.step_to_resume(
          self._directory, strict=strict, passed_over=self._unreadable
        )
      )
      if step is None:
        return None
      path = self._directory / str(step)
      try:
        with explained(path):
          run = saved_steps.read_run(self._directory, step)
        fits(run)
        with explained(path):
          state = self.restore(step, part(run, shapes))
      except UnreadableError as error:
        # Other processes may have read it: then all must stop.
        if strict or jax.process_count() > 1:
          raise
        log.warning(f"warning: {error} passing over step {step}")
        self._unreadable.add(step)
        continue
      self.saved_step = step
      return Resumed(step, run, state)

  def restore(self, step: int, shapes: State) -> State:
    """Reads a step without looking at its digests; `shapes` as in `resume`."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
    return self._writer.restore(self._directory / str(step), args=items)[
      "state"
    ]

  def _make_way(self, step: int, state: State, run: dict[str, Any]) -> bool:
    """Makes room for a step, on process 0; returns whether to save it now.

    A step that is saved already gets the evaluation that its record lacks. What
    the disk refuses is logged, and the step is not saved.
    """
    if step == self.saved_step:
      self._add_evaluation(step, run)
      return False
    try:
      return self._remove_damaged(step) and self._has_room(step, state)
    except OSError as error:
      self._failed(step, error)
      return False

  def _remove_damaged(self, step: int) -> bool:
    """Deletes half-written steps, and this one if it is damaged.

    Returns:
      Whether its place is free now; otherwise a good one has it, or one that
      cannot be judged here.
    """
    self._remove_leftovers()
    path = self._directory / str(step)
    if not saved_steps.is_there(self._directory, step):
      return True
    try:
      bad = saved_steps.damage(self._directory, step)
    except (NoAccessError, FormatError) as error:
      log.warning(f"warning: step {step} is not saved, one is there: {error}")
      return False
    if step in self._unreadable:
      bad.append(f"{path}: it could not be read")
      self._unreadable.remove(step)
    if not bad:
      self.saved_step = step
      return False
    log.warning(f"warning: {bad[0]}; step {step} is saved anew")
    saved_steps.remove(self._directory, path.name)
    return True

  def _has_room(self, step: int, state: State) -> bool:
    """Whether the disk has room for a step; logs it if not."""
    # A tenth more, for Orbax's metadata and temporary files.
    needed = int(1.1 * _num_bytes(state)) + _MIB
    free = shutil.disk_usage(self._directory).free
    if free < needed:
      log.warning(
        f"warning: {self._directory}: step {step} is not saved: it needs "
        f"{needed / _MIB:,.1f} MiB, and {free / _MIB:,.1f} MiB are free"
      )
    return free >= needed

  def _add_evaluation(self, step: int, run: dict[str, Any]) -> None:
    try:
      there = saved_steps.read_run(self._directory, step)["evaluation"]
      if run["evaluation"] != there:
        saved_steps.add_evaluation(self._directory, step, run["evaluation"])
    except (OSError, InputError) as error:
      log.warning(
        f"warning: step {step}: evaluation not saved: {one_line(error)}"
      )

  def _finish(self, step: int) -> None:
    """Waits for Orbax, writes the manifest, deletes what is not kept."""
    try:
      with cluster.undisturbed():
        self._writer.wait_until_finished()
        if cluster.is_first():
          manifest.write(self._directory / str(step), step)
    except Exception as error:
      self._failed(step, error)
      return
    self.saved_step = step
    try:
      if cluster.is_first():
        self._delete_old(step)
    except Exception as error:
      log.warning(
        f"warning: old checkpoints are not deleted: {one_line(error)}"
      )

  def _delete_old(self, newest: int) -> None:
    # Steps newer than this one were damaged and skipped; they do not count
    # towards max_to_keep.
    scores = {
      step: score
      for step, score in saved_steps.scores(self._directory).items()
      if step <= newest
    }
    for step in (
      *saved_steps.expendable(scores, **self._policy),
      *saved_steps.unfinished(self._directory, before=newest),
    ):
      saved_steps.remove(self._directory, str(step))

  def _remove_leftovers(self) -> None:
    try:
      for name in saved_steps.remove_leftovers(self._directory):
        log.info(f"{self._directory / name}: deleted, it was half-written")
    except OSError as error:
      log.warning(f"warning: {self._directory}: {one_line(error)}")

  def _failed(self, step: int, error: Exception) -> None:
    log.error(
      f"error: {self._directory / str(step)}: not saved: {one_line(error)}; "
      "training goes on"
    )
    self._forget_errors()
    if cluster.is_first():
      saved_steps.discard(self._directory, step)

  def _forget_errors(self) -> None:
    """Lets a failed save spoil no later one.

    Orbax writes several files at once. It keeps the error of each, and raises
    one whenever it is asked to wait: at the next save, or when it is closed.
    """
    for _ in range(_MOST_ERRORS):
      with contextlib.suppress(Exception):
        self._writer.wait_until_finished()
        return


def read_run(workdir: pathlib.Path, step: int) -> dict[str, Any]:
  """The run record of a checkpoint."""
  return saved_steps.read_run(saved_steps.directory_of(workdir), step)


def _num_bytes(state: State) -> int:
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state)
  )


def _not_of_a_failed_save(record: logging.LogRecord) -> bool:
  # `Checkpoints` says the same in one line, without the tracebacks.
  source = record.pathname + record.getMessage()
  return not (record.exc_info and "orbax" in source)

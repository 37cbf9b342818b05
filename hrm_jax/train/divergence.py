"""What happens when an update is not finite: stop, roll back, or skip it.

The update itself leaves the weights alone if its loss or gradients are not
finite (see `update.train_step`), so nothing is lost while the news travels to
the host, two dispatches late.
"""

import collections
import functools
import json
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax

from hrm_jax.checkpoint import atomic_file
from hrm_jax.console import RunError, as_json, log
from hrm_jax.data.puzzle import Batch
from hrm_jax.data.train_batches import TrainData
from hrm_jax.train import finite
from hrm_jax.train.state import TrainState
from hrm_jax.train.update import Health, compute_update

# How many later dispatches may be under way when the health of one is read. By
# then it is there, so that reading it does not wait for the device.
_LAG = 2

# So many bad updates in a row cannot be bad luck, even where each is skipped.
_MOST_SKIPPED = 10


class DivergedError(RunError):
  """The run cannot go on: `step` is the update, `name` what is not finite."""

  exit_code = 70

  def __init__(self, step: int, name: str, why: str = ""):
    super().__init__(f"update {step}: {name} is not finite{why}")
    self.step, self.name = step, name


class RollBackError(Exception):
  """The run goes on from its newest checkpoint, because of update `step`."""

  def __init__(self, step: int):
    super().__init__(step)
    self.step = step


def report(
  workdir: pathlib.Path,
  error: DivergedError,
  data: TrainData,
  latest: Mapping[str, float],
  *,
  halt_max_steps: int,
) -> None:
  """Writes WORKDIR/diverged.json, for finding out why, and says so.

  A row takes the example that its batch has for it only once it has halted: it
  may still think about that of any of the `halt_max_steps` - 1 batches before.

  Args:
    workdir: where the file goes.
    error: what happened.
    data: tells which examples a batch was made of, row by row.
    latest: the metrics that were logged last.
    halt_max_steps: how many segments a puzzle gets at most.
  """
  batch, *before = (
    {"step": step, "set": set_name, "examples": examples.tolist()}
    for step in range(error.step, max(error.step - halt_max_steps, 0), -1)
    for set_name, examples in [data.examples(step - 1)]
  )
  content = {
    "step": error.step,
    "not_finite": error.name,
    "batch": batch,
    "batches_before": before,
    "metrics": as_json(latest),
  }
  path = workdir / "diverged.json"
  try:
    atomic_file.write_json(path, content)
  except OSError as cause:
    log.error(f"error: {path}: cannot be written ({cause.strerror})")
    log.error(f"error: it would say: {json.dumps(content)}")
  else:
    log.error(f"{path} says more")


# From the newest state and `nonfinite` of an update to the name of the first
# tensor that was not finite in it.
Namer = Callable[[TrainState, int], str]


class Guard:
  """Reads whether updates were finite, and obeys the policy if not.

  Args:
    policy: "stop" raises a `DivergedError`, "rollback" a `RollBackError`,
      "skip" logs a warning.
    name_of: finds the name for the message.
    forgiven: updates that are skipped whatever the policy.
  """

  def __init__(
    self,
    policy: str,
    name_of: Namer,
    forgiven: Collection[int] = (),
  ):
    self._policy, self._name_of, self._forgiven = policy, name_of, forgiven
    self._under_way: collections.deque = collections.deque()
    self._skipped = 0  # How many bad updates there were in a row.
    self._state: TrainState | None = None

  def watch(self, last: int, health: Health, state: TrainState) -> None:
    """Takes the health of some updates; judges those of two calls before.

    Args:
      last: the last of the n updates.
      health: from `update.train_steps`, [n].
      state: after them. Older ones were donated, so names are looked up in
        this one, also for the updates before.
    """
    self._state = state
    self._under_way.append((last, health))
    if len(self._under_way) > _LAG:
      self._judge_all(*self._under_way.popleft())

  def flush(self) -> None:
    """Judges all updates so far, waiting for them."""
    while self._under_way:
      self._judge_all(*self._under_way.popleft())

  def _judge_all(self, last: int, health: Health) -> None:
    each = list(zip(*jax.device_get(health), strict=True))
    for step, (is_good, number) in enumerate(each, last - len(each) + 1):
      self._judge(step, is_good, number)

  def _judge(self, step: int, is_good: bool, number: int) -> None:
    if is_good:
      self._skipped = 0
      return
    assert self._state is not None  # Watched before it is judged.
    name = self._name_of(self._state, int(number))
    self._skipped += 1
    if self._policy == "rollback" and step not in self._forgiven:
      log.warning(
        f"warning: update {step}: {name} is not finite; going back to the "
        "newest checkpoint"
      )
      raise RollBackError(step)
    if self._policy == "stop":
      raise DivergedError(step, name)
    if self._skipped == _MOST_SKIPPED:
      raise DivergedError(step, name, f", for {_MOST_SKIPPED} updates")
    log.warning(f"warning: update {step}: {name} is not finite; left out")


def examined_names(
  state: TrainState, batch: Batch, **settings: Any
) -> list[str]:
  """The names that `Health.nonfinite` counts; arguments as for `train_step`."""
  update = functools.partial(compute_update, **settings)
  _, _, examined, _ = jax.eval_shape(update, state, batch)
  return finite.names(examined)


def name_nonfinite(
  state: TrainState, batch: Batch, number: int, **settings: Any
) -> str:
  """The name of what was not finite first in an update.

  Args:
    state: after the update, or after a few later ones that failed as well.
    batch: any batch; only its shapes count.
    number: `Health.nonfinite` of the update.
    **settings: as for `train_step`.
  """
  # In the order of the names, so moments come first: where they are not finite,
  # they spoil the weights.
  kept = {"opt_state": state.opt_state, "weights": state.weights}
  found = int(jax.jit(finite.first_nonfinite)(kept))
  if found >= 0:
    return finite.names(kept)[found]
  if number < 0:
    # Every number is finite, but too large for the sum of their squares.
    return "a norm"
  # Last, because it traces the whole update.
  return examined_names(state, batch, **settings)[number]

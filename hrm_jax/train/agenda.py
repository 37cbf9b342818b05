"""What is due after which update: plain numbers, so no run is needed to try it.

Update numbers count from 1: "after update `done`" means that so many are done,
and after 0 of them nothing has begun. Training runs in iterations of some
epochs each, and an evaluation stands at the end of every iteration.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import ml_collections


class Schedule(Protocol):
  """The part of `TrainData` that says how many updates there are."""

  num_iterations: int
  total_steps: int

  def batches_in(self, iteration: int) -> int:
    """Number of updates in an iteration."""
    ...

  def locate(self, step: int) -> tuple[int, int]:
    """Iteration and place in it of the update after update `step`."""
    ...


class Due(NamedTuple):
  """What is to be done between two updates."""

  evaluation: bool
  save: bool


@dataclasses.dataclass(frozen=True)
class Agenda:
  """When to evaluate, to save and to end.

  Attributes:
    schedule: how many updates there are, and where iterations end.
    stop: the update that this call trains up to. The batches may run out a
      little earlier.
    num_steps: ends the run before its schedule does; 0: never.
    checkpoint_interval: saves after every multiple of it; 0: never.
    checkpoint_every_eval: saves after an evaluation.
    updates_per_dispatch: updates that the device does at one command.
  """

  schedule: Schedule
  stop: int
  num_steps: int = 0
  checkpoint_interval: int = 0
  checkpoint_every_eval: bool = True
  updates_per_dispatch: int = 1

  def groups(self, done: int) -> Iterator[range]:
    """The updates still to come, as groups of one dispatch each.

    A group never reaches past an update after which something is due. It has
    `updates_per_dispatch` updates, or one where that many do not fit, so that
    no more than two programs are compiled.
    """
    while done < self.stop:
      iteration, place = self.schedule.locate(done)
      if iteration == self.schedule.num_iterations:
        return
      end = done - place + self.schedule.batches_in(iteration)
      end = min(end, self.stop)
      if interval := self.checkpoint_interval:
        end = min(end, (done // interval + 1) * interval)
      n = self.updates_per_dispatch
      n = n if done + n <= end else 1
      yield range(done + 1, done + n + 1)
      done += n

  def after(self, done: int) -> Due:
    """What is due after update `done`."""
    evaluation = self.ends_iteration(done) and not self.ends_early(done)
    interval = self.checkpoint_interval
    save = interval > 0 and done % interval == 0
    return Due(evaluation, save or (evaluation and self.checkpoint_every_eval))

  def ends_iteration(self, done: int) -> bool:
    """Whether update `done` is the last one of an iteration."""
    return done > 0 and self.schedule.locate(done)[1] == 0

  def is_over(self, done: int) -> bool:
    """Whether no update of the whole schedule is left."""
    is_last = self.schedule.locate(done)[0] == self.schedule.num_iterations
    return is_last or done == self.schedule.total_steps

  def ends_early(self, done: int) -> bool:
    """Whether `num_steps` ends the run here, and the schedule does not.

    No evaluation is due then: a later run that goes on makes up for it.
    """
    return 0 < self.num_steps <= done and not self.is_over(done)

  def owes_evaluation(self, done: int, record: Mapping[str, Any]) -> bool:
    """Whether an evaluation is due here before the next update.

    An earlier run ended before it; or the run begins with weights of a model,
    and nobody knows yet how good these are on its data.

    Args:
      done: updates done by the earlier run.
      record: run record of its checkpoint.
    """
    begins = done == 0 and record.get("init_from") is not None
    return (
      (begins or self.ends_iteration(done))
      and done < self.stop
      and not is_evaluated(record, done)
    )


def make_agenda(
  config: ml_collections.ConfigDict,
  schedule: Schedule,
  *,
  done: int,
  is_ended: bool,
) -> Agenda:
  """The agenda of a run that goes on from update `done`.

  Args:
    config: says how often to save, and where to end.
    schedule: of the run.
    done: updates done so far. They can be more than `num_steps`, if that was
      larger before; then nothing is left to do.
    is_ended: the run has ended for good, so nothing is left to do either.
  """
  stop = min(config.num_steps or schedule.total_steps, schedule.total_steps)
  return Agenda(
    schedule,
    stop=done if is_ended else max(stop, done),
    num_steps=config.num_steps,
    checkpoint_interval=config.checkpoint_interval,
    checkpoint_every_eval=config.checkpoint_every_eval,
    updates_per_dispatch=config.updates_per_dispatch,
  )


def is_evaluated(record: Mapping[str, Any], done: int) -> bool:
  """Whether the newest evaluation in a run record is of update `done`."""
  evaluation = record["evaluation"]
  return evaluation is not None and evaluation["step"] == done

"""What one run works with, and what its loop asks of it."""

import contextlib
import dataclasses
import functools
import itertools
import pathlib
import platform
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.config import by_dotted_key
from hrm_jax.data import puzzle
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.train_batches import TrainData
from hrm_jax.evaluate.evaluator import (
  Evaluator,
  log_by_segment,
  prediction_files,
)
from hrm_jax.evaluate.predictions import directory_of
from hrm_jax.machines import cluster, out_of_memory, sharding
from hrm_jax.machines.preemption import Preemption
from hrm_jax.machines.watchdog import Watchdog
from hrm_jax.train import agenda, divergence, less_memory
from hrm_jax.train.agenda import Agenda
from hrm_jax.train.divergence import DivergedError, Guard
from hrm_jax.train.meter import Meter
from hrm_jax.train.samples import Samples
from hrm_jax.train.setup import Setup
from hrm_jax.train.state import TrainState, to_save


@dataclasses.dataclass(frozen=True)
class Run:
  """The collaborators of a run.

  What changes from update to update, the state and how many updates are done,
  is not kept here: the loop passes it, so that every line shows which one it
  works on.

  Attributes:
    config: all keys of `hrm_jax.config`.
    workdir: its directory.
    data: the batches to train on.
    test: the batches to evaluate.
    setup: the network, its optimisers and the mesh.
    train_steps: `update.train_steps`, jitted; it donates the state.
    evaluator: scores all of `test`.
    samples: a few puzzles of `test` to look at; None: none.
    checkpoints: saves in the background.
    record: the run record, which goes into every checkpoint; it changes.
    agenda: what is due after which update.
    guard: reads whether updates were finite.
    meter: times and logs them.
    watchdog: tells if they no longer come.
    preemption: hears the signals that ask for a stop.
  """

  config: ml_collections.ConfigDict
  workdir: pathlib.Path
  data: TrainData
  test: EvaluationData
  setup: Setup
  train_steps: Callable[[TrainState, tuple[puzzle.Batch, ...]], Any]
  evaluator: Evaluator
  samples: Samples | None
  checkpoints: Checkpoints
  record: dict[str, Any]
  agenda: Agenda
  guard: Guard
  meter: Meter
  watchdog: Watchdog
  preemption: Preemption

  def dispatches(self, done: int) -> Iterator[tuple[puzzle.Batch, ...]]:
    """The batches still to come, on the devices, a tuple for each dispatch.

    Those of the next dispatch are read and sent while one is in use.
    """
    mesh, batch_size = self.setup.mesh, self.config.global_batch_size
    batches = sharding.prefetch(
      self.data.batches(
        done, self.agenda.stop, sharding.local_rows(mesh, batch_size)
      ),
      mesh,
      batch_size,
      num_ahead=self.config.updates_per_dispatch,
    )
    for group in self.agenda.groups(done):
      yield tuple(itertools.islice(batches, len(group)))

  def write_start(self) -> None:
    """Writes beside the curves what the run is, and on what it runs."""
    mesh = self.setup.mesh
    self.meter.write_start(
      by_dotted_key(self.record["config"]),
      {
        "python": platform.python_version(),
        "system": platform.platform(),
        **self.record["versions"],
        "git_commit": self.record["git_commit"],
        "devices": f"{mesh.size} x {mesh.devices.flat[0].device_kind}",
        "mesh": ", ".join(f"{k} {n}" for k, n in mesh.shape.items()),
        "processes": jax.process_count(),
        # What the configuration may leave to us.
        "attention": self.setup.model.attention,
        "rows_at_once": self.setup.rows_at_once or "all",
      },
      self.test.examples_by_set,
    )

  def still_here(self, done: int) -> None:
    """Tells the watchdog that training lives, and obeys a signal.

    Raises:
      PreemptedError: a signal asked for a stop.
    """
    self.watchdog.beat(f"update {done:,}")
    self.preemption.check(self.setup.mesh)

  def evaluate(self, state: TrainState, done: int) -> None:
    """Scores the test split and puts the result into the run record.

    Raises:
      PreemptedError: a signal asked for a stop; there is no result then.
    """
    # Weights that are not finite are not worth it, and updates that are still
    # under way would count as time of the evaluation.
    self.guard.flush()
    self.meter.flush()
    what_helps = functools.partial(
      less_memory.keys_that_help,
      self.config,
      self.setup,
      self.workdir,
      training=False,
    )
    files = contextlib.nullcontext()
    if self.config.save_predictions:
      chunks = self.evaluator.in_chunks(self.test)
      directory = directory_of(self.workdir, done, "test")
      files = prediction_files(directory, chunks, self.setup.mesh)
    with out_of_memory.told("evaluation", what_helps), files as predictions:
      result = self.evaluator(
        state.weights_to_use,
        self.test,
        step=done,
        predictions=predictions,
        after_batch=functools.partial(self.still_here, done),
      )
      pictures = []
      if self.samples is not None:
        pictures = [
          functools.partial(self.samples.draw, thoughts)
          for thoughts in self.samples(state.weights_to_use)
        ]
    log_by_segment(result)
    self.meter.write_evaluation(done, result, pictures)
    self.record["evaluation"] = result

  def save(self, state: TrainState, done: int) -> None:
    """Begins to save the state; nothing that is not finite may be saved."""
    self.guard.flush()
    # Before the checkpoint: a run that goes on from it logs only later updates.
    self.meter.settle()
    self.checkpoints.save(done, to_save(state), self.record)

  def is_evaluated(self, done: int) -> bool:
    """Whether the newest evaluation is of update `done`."""
    return agenda.is_evaluated(self.record, done)

  def reached_early_stop(self) -> bool:
    """Whether training has come to `early_stop_train_accuracy`."""
    enough = self.config.early_stop_train_accuracy
    return 0 < enough <= self.meter.latest.get("train/exact_accuracy", 0.0)

  @contextlib.contextmanager
  def reporting_divergence(self) -> Iterator[None]:
    """Writes WORKDIR/diverged.json if a `DivergedError` passes."""
    try:
      yield
    except DivergedError as error:
      if cluster.is_first():
        divergence.report(
          self.workdir,
          error,
          self.data,
          self.meter.latest,
          halt_max_steps=self.setup.model.halt_max_steps,
        )
      raise

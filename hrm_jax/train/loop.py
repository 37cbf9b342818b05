"""One run: from the newest checkpoint to its end.

The way of a batch: `TrainData.batches` names its examples, a thread reads them
ahead of time (`data.reading`), `sharding.prefetch` sends them to the devices,
and `Run.dispatches` hands them out in the groups that `Agenda.groups` plans.
`Meter.waiting_for` times how long they take to come. Then `update.train_steps`
does one update for each, see there.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Set
from typing import Any

import jax
import ml_collections

from hrm_jax.checkpoint import load, run_record, saved_steps, workdir_lock
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.config import check_config
from hrm_jax.console import log
from hrm_jax.data import train_batches
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.split import Split, check_splits_agree, digest, open_split
from hrm_jax.data.train_batches import TrainData
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.machines import cluster, out_of_memory, sharding
from hrm_jax.machines.preemption import PreemptedError, Preemption
from hrm_jax.machines.watchdog import Watchdog
from hrm_jax.model.build import check_arch
from hrm_jax.model.hrm import HRM, count_parameters
from hrm_jax.train import divergence, less_memory, run_data, update
from hrm_jax.train.agenda import Agenda, make_agenda
from hrm_jax.train.divergence import Guard, RollBackError
from hrm_jax.train.init_from import InitFrom
from hrm_jax.train.meter import make_meter
from hrm_jax.train.run import Run
from hrm_jax.train.samples import make_samples
from hrm_jax.train.setup import Setup, make_setup
from hrm_jax.train.state import TrainState, restored, saved_part, with_weights


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  *,
  strict_restore: bool = False,
  init_from: InitFrom | None = None,
  stop_at: float | None = None,
) -> dict[str, Any]:
  """Trains, or goes on training, until the end or `config.num_steps`.

  A signal that asks for a stop (see `preemption`), or a time that is up, ends
  it at the next update, saved; an evaluation that is under way has to wait.

  Args:
    config: all keys of `hrm_jax.config`.
    workdir: of the run.
    strict_restore: refuse to go on from an older checkpoint when the newest
      is damaged.
    init_from: the weights that a new run begins with; None: random ones.
    stop_at: when the time is up, by `time.monotonic`; None: never.

  Returns:
    `step` and `total_steps`; `saved_step`, the newest that is on disk, or
    None; `ended`: "finished", "num_steps", "early_stop" or "preempted";
    `train`, the metrics logged last; `evaluation`, the newest one, or None;
    `seconds` of this call; `devices`, which, in words.

  Raises:
    DivergedError: something is not finite, and the configuration says stop.
    InputError: configuration, data and checkpoints do not fit; another run is
      using the directory.
    OutOfMemoryError: names the keys that help.
  """
  # --- what is wrong should show before anything is made
  check_can_begin(config, workdir, init_from)
  # --- the run, again from its newest checkpoint if an update was not finite
  forgiven: set[int] = set()
  lock = (
    workdir_lock.hold(workdir)
    if cluster.is_first()
    else contextlib.nullcontext()
  )
  with lock, Preemption(stop_at) as preemption:
    while True:
      try:
        return _train(
          config,
          workdir,
          strict_restore=strict_restore,
          init_from=init_from,
          forgiven=forgiven,
          preemption=preemption,
        )
      except RollBackError as error:
        forgiven.add(error.step)


def check_can_begin(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  init_from: InitFrom | None = None,
) -> None:
  """Refuses what can be seen to be wrong before anything is made.

  `train` calls it; a command that makes WORKDIR before that calls it earlier.

  Raises:
    InputError: the configuration contradicts itself or does not fit the
      devices; there are no data; a new run cannot begin with these weights.
  """
  check_config(config)
  check_arch(config.model)
  sharding.check_batch_size(
    config.global_batch_size,
    sharding.make_mesh(config.mesh.data, config.mesh.table),
  )
  run_data.check_there(config, workdir)
  _check_weights_fit(config, workdir, init_from)


def _check_weights_fit(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  init_from: InitFrom | None,
) -> None:
  """Refuses weights that a new run cannot begin with."""
  directory = saved_steps.directory_of(workdir)
  if init_from and not cluster.decided_by_first(
    lambda: bool(saved_steps.complete_steps(directory))
  ):
    init_from.check(config, run_data.root_if_there(config, workdir))


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  *,
  strict_restore: bool,
  init_from: InitFrom | None,
  forgiven: Set[int],
  preemption: Preemption,
) -> dict[str, Any]:
  """From the newest checkpoint to the end; a `RollBackError` means: again."""
  began = time.perf_counter()

  # --- data: first, because a missing file should show before anything compiles
  train_split, test_split = _open_splits(config, workdir)
  metadata = train_split.metadata
  _check_weights_fit(config, workdir, init_from)
  kind = run_data.kind(config, workdir, [train_split, test_split])
  data = train_batches.of_config(config, train_split, kind)
  test = EvaluationData(
    test_split, batch_size=config.global_batch_size, limit=config.eval.limit
  )

  # --- pure functions: the data say how large the network is, and how many
  # updates its learning rate is spread over
  setup = make_setup(
    config,
    metadata,
    total_steps=data.total_steps,
    earlier_attention=_earlier_attention(workdir, metadata, init_from),
  )
  evaluator = Evaluator(
    setup.model, setup.loss, setup.mesh, halt=config.eval.halt
  )
  record = run_record.describe(
    config,
    metadata,
    {"train": digest(train_split), "test": digest(test_split)},
    puzzle=kind,
  )
  record["attention"] = setup.model.attention

  what_helps = functools.partial(
    less_memory.keys_that_help, config, setup, workdir
  )
  with (
    out_of_memory.told("training", what_helps),
    Checkpoints(workdir, config.max_to_keep, config.keep_period) as checkpoints,
  ):
    # --- state: a checkpoint is read into the shapes that the pure functions
    # have, and wins over a fresh start
    state, done = _resume_or_init(
      checkpoints,
      setup,
      record,
      train_split,
      workdir,
      init_from=init_from,
      strict=strict_restore,
    )

    # --- collaborators: they begin to count at the update that was found
    agenda = make_agenda(
      config, data, done=done, is_ended=record["ended"] is not None
    )
    _log_start(state, agenda, metadata, setup.model, done=done)
    run = Run(
      config=config,
      workdir=workdir,
      data=data,
      test=test,
      setup=setup,
      train_steps=setup.jit_update(update.train_steps),
      evaluator=evaluator,
      samples=make_samples(
        setup, test_split, record["puzzle"], config.eval.pictures
      ),
      checkpoints=checkpoints,
      record=record,
      agenda=agenda,
      guard=Guard(config.on_nonfinite, _make_namer(data, setup), forgiven),
      meter=make_meter(
        config, workdir, metadata, setup.model, done=done, stop=agenda.stop
      ),
      watchdog=Watchdog(config.watchdog_seconds),
      preemption=preemption,
    )

    # --- train
    done, preempted = _loop(run, state, done)

  # --- result: what is saved is known only now that the last save has finished
  if preempted:
    ended = "preempted"
  elif record["ended"]:
    ended = record["ended"]
  else:
    ended = "num_steps" if agenda.ends_early(done) else "finished"
  # Process 0 has the last word on it, because it writes the manifests.
  saved_step = cluster.decided_by_first(lambda: checkpoints.saved_step)
  return {
    "step": done,
    "total_steps": data.total_steps,
    "saved_step": saved_step,
    "ended": ended,
    "train": run.meter.latest,
    "evaluation": record["evaluation"],
    "seconds": time.perf_counter() - began,
    "devices": sharding.in_words(),
  }


def _loop(run: Run, state: TrainState, done: int) -> tuple[int, bool]:
  """Update after update, and what is due between them.

  Args:
    run: its collaborators.
    state: after `done` updates; it is donated.
    done: updates done so far.

  Returns:
    Updates done at the end, and whether a signal ended it.
  """
  agenda, guard, meter = run.agenda, run.guard, run.meter
  preempted = False
  with meter, run.watchdog, run.reporting_divergence():
    run.write_start()
    try:
      # --- before the first update: stop if a signal came during set-up, and
      # make an evaluation that the earlier run left out
      run.still_here(done)
      if agenda.owes_evaluation(done, run.record):
        run.evaluate(state, done)
        run.save(state, done)  # The step is there; this adds the evaluation.

      # --- updates: nothing here waits for the device but what is due
      for group in meter.waiting_for(run.dispatches(done)):
        state, sums, health = run.train_steps(state, group)
        done += len(group)
        guard.watch(done, health, state)
        meter.update(done, sums)
        due = agenda.after(done)
        if due.evaluation:
          run.evaluate(state, done)
          if run.reached_early_stop():
            run.record["ended"] = "early_stop"
            break
        if due.save:  # After the evaluation, so that it is saved too.
          run.save(state, done)
        run.still_here(done)

      # --- the last evaluation, where the schedule ends within an iteration
      if agenda.is_over(done) and not run.is_evaluated(done):
        run.evaluate(state, done)
    except PreemptedError:
      preempted = True

    # --- the end: the guard lags two dispatches behind, so it looks at the
    # last ones before they are saved. A run that was preempted has not ended:
    # its last update is logged only if `log_every` asks for it.
    guard.flush()
    if not preempted:
      meter.flush()
      meter.write_end()
      if agenda.ends_early(done) and not run.is_evaluated(done):
        log.info(
          f"config.num_steps ends this run at update {done:,}, without an "
          f"evaluation; python -m hrm_jax.evaluate --workdir={run.workdir} "
          "makes one"
        )
    run.save(state, done)
  return done, preempted


def _open_splits(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Split, Split]:
  """The train and the test split of the run's data set."""
  root = run_data.prepare(config, workdir)
  train_split, test_split = (open_split(root, s) for s in ("train", "test"))
  check_splits_agree(train_split, test_split)
  return train_split, test_split


def _resume_or_init(
  checkpoints: Checkpoints,
  setup: Setup,
  record: dict[str, Any],
  split: Split,
  workdir: pathlib.Path,
  *,
  init_from: InitFrom | None,
  strict: bool,
) -> tuple[TrainState, int]:
  """The state to go on from, and how many updates it has had.

  Args:
    checkpoints: of the run.
    setup: what the state is for.
    record: the run record; takes over the history of an earlier run.
    split: what it trains on.
    workdir: of the run.
    init_from: the weights of a new run; None: random ones.
    strict: refuse a damaged newest checkpoint, instead of passing over it.
  """

  def check_fits(earlier: dict[str, Any]) -> None:
    run_record.check_fits_data(earlier, split.metadata, str(split.path))
    run_record.check_same_run(record, earlier, workdir)
    if init_from:
      init_from.check_same(earlier, workdir)

  resumed = checkpoints.resume(
    setup.shapes, fits=check_fits, part=saved_part, strict=strict
  )
  if resumed:
    done, earlier, parts = resumed
    run_record.take_over(record, earlier, done)
    log.info(f"resumed {workdir} at update {done:,}")
    if run_record.WEIGHTS_ONLY in earlier:
      log.info(
        "that checkpoint has weights alone: optimisers and rows begin anew, "
        f"the learning rate goes on from update {done:,}"
      )
    state = restored(parts, setup.init, done)
  else:
    # A state that does not fit shows here, before the update is compiled.
    done, state = 0, jax.block_until_ready(setup.init())
    if init_from:
      weights, record["init_from"] = init_from.weights(
        setup.shapes.weights, split.metadata, split.path.parent
      )
      state = with_weights(state, weights)
  if cluster.is_first():
    run_record.write_description(workdir, record)
  return state, done


def _earlier_attention(
  workdir: pathlib.Path,
  metadata: DatasetMetadata,
  init_from: InitFrom | None,
) -> str | None:
  """The attention that this run has used, or the model that it begins with."""
  earlier = load.attention_of(workdir)
  if earlier is None and init_from:
    return init_from.read(metadata).run.get("attention")
  return earlier


def _log_start(
  state: TrainState,
  agenda: Agenda,
  metadata: DatasetMetadata,
  model: HRM,
  *,
  done: int,
) -> None:
  """Logs how large the network is, on which devices, and what is to be done."""
  stop = agenda.stop
  log.info(
    f"{count_parameters(state.weights.params):,} dense parameters, puzzle "
    f"table {metadata.num_puzzle_identifiers:,} x {model.puzzle_width}, "
    f"{sharding.in_words()}, update {done:,} to {stop:,} of "
    f"{agenda.schedule.total_steps:,}"
  )
  if done < stop:
    log.info("compiling the update; those after the first one are fast")
  elif done:
    log.info(f"nothing left to train: update {done:,} is done")


def _make_namer(data: TrainData, setup: Setup) -> divergence.Namer:
  """A function that names what is not finite; reads a batch only when asked."""

  def name_of(state: TrainState, number: int) -> str:
    return divergence.name_nonfinite(
      state,
      data.batch(0),
      number,
      model=setup.model,
      optimizers=setup.optimizers,
      loss=setup.loss,
    )

  return name_of

"""One run: from the newest checkpoint to its end."""

import contextlib
import pathlib
import time
from collections.abc import Set
from typing import Any

import jax
import ml_collections

from hrm_jax.checkpoint import load, run_record, workdir_lock
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.config import check_config
from hrm_jax.console import log
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import check_splits_agree, digest, open_split
from hrm_jax.data.train_batches import TrainData
from hrm_jax.evaluate.evaluator import (
  Evaluator,
  log_by_segment,
  save_predictions,
)
from hrm_jax.machines import (
  cluster,
  sharding,
)
from hrm_jax.machines.preemption import PreemptedError, Preemption
from hrm_jax.machines.watchdog import Watchdog
from hrm_jax.model import flops
from hrm_jax.model.build import check_arch
from hrm_jax.model.hrm import count_parameters
from hrm_jax.train import curves, divergence, run_data, setup
from hrm_jax.train import update as step
from hrm_jax.train.agenda import (
  batches_from,
  dispatches,
  ends_iteration,
  is_due,
)
from hrm_jax.train.divergence import DivergedError, Guard, RollBackError
from hrm_jax.train.meter import Meter


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  *,
  strict_restore: bool = False,
) -> dict[str, Any]:
  """Trains, or goes on training, until the end or `config.num_steps`.

  A SIGTERM or SIGINT ends it at the next update, saved.

  Args:
    config: all keys of hrm_jax/config.py.
    workdir: of the run.
    strict_restore: refuse to go on from an older checkpoint when the newest
      is damaged.

  Returns:
    `step` and `total_steps`; `saved_step`, the newest that is on disk, or
    None; `ended`: "finished", "num_steps", "early_stop" or "preempted";
    `train`, the metrics logged last; `evaluation`, the newest one, or None;
    `seconds` of this call.

  Raises:
    DivergedError: something is not finite, and the configuration says stop.
    InputError: configuration, data and checkpoints do not fit; another run is
      using the directory.
  """
  # What is wrong should show before anything is made.
  check_config(config)
  check_arch(config.model)
  sharding.check_batch_size(
    config.global_batch_size,
    sharding.make_mesh(config.mesh.data, config.mesh.table),
  )
  forgiven: set[int] = set()
  lock = (
    workdir_lock.hold(workdir)
    if cluster.is_first()
    else contextlib.nullcontext()
  )
  with lock, Preemption() as preemption:
    while True:
      try:
        return _train(
          config,
          workdir,
          strict_restore=strict_restore,
          forgiven=forgiven,
          preemption=preemption,
        )
      except RollBackError as error:
        forgiven.add(error.step)


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  *,
  strict_restore: bool,
  forgiven: Set[int],
  preemption: Preemption,
) -> dict[str, Any]:
  """From the newest checkpoint to the end; a `RollBackError` means: again."""
  began = time.perf_counter()

  # --- data: what is wrong should show before anything compiles
  root = run_data.prepare(config, workdir)
  split, test_split = (open_split(root, name) for name in ("train", "test"))
  check_splits_agree(split, test_split)
  metadata = split.metadata
  data = TrainData(
    split,
    global_batch_size=config.global_batch_size,
    seed=config.seed,
    epochs=config.epochs,
    eval_interval=config.eval_interval,
  )
  test = EvaluationData(test_split, batch_size=config.global_batch_size)

  # --- the pure functions, for all devices
  parts = setup.make_setup(
    config,
    metadata,
    total_steps=data.total_steps,
    earlier_attention=load.attention_of(workdir),
  )
  mesh, model = parts.mesh, parts.model
  train_steps = parts.make_train_step(step.train_steps)
  evaluator = Evaluator(model, parts.loss, mesh, halt=config.eval.halt)

  run = run_record.describe(
    config,
    metadata,
    {"train": digest(split), "test": digest(test_split)},
  )
  run["attention"] = model.attention

  def check_fits(earlier: dict[str, Any]) -> None:
    run_record.check_fits_data(earlier, metadata, str(split.path))
    run_record.check_same_run(run, earlier, workdir)

  with Checkpoints(
    workdir, config.max_to_keep, config.keep_period
  ) as checkpoints:
    # --- resume, or start
    resumed = checkpoints.resume(
      parts.shapes, fits=check_fits, strict=strict_restore
    )
    if resumed:
      done, earlier, state = resumed
      run_record.take_over(run, earlier, done)
      log.info(f"resumed {workdir} at update {done:,}")
    else:
      done, state = 0, parts.init()
    if cluster.is_first():
      run_record.write_description(workdir, run)
    stop = min(config.num_steps or data.total_steps, data.total_steps)
    # A smaller num_steps than before, or ended for good: nothing to do.
    stop = max(stop, done) if run["ended"] is None else done
    log.info(
      f"{count_parameters(state.weights.params):,} dense parameters, puzzle "
      f"table {metadata.num_puzzle_identifiers:,} x {model.puzzle_width}, "
      f"{jax.device_count()} x {jax.devices()[0].device_kind} of "
      f"{jax.process_count()} processes, update "
      f"{done:,} to {stop:,} of {data.total_steps:,}"
    )
    if done < stop:
      log.info("compiling the update; those after the first one are fast")
    elif resumed:
      log.info(f"nothing left to train: update {done:,} is done")

    meter = Meter(
      curves.open_writer(workdir / "tensorboard", first_step=done + 1)
      if cluster.is_first()
      else curves.NoWriter(),
      first_step=done,
      last_step=stop,
      global_batch_size=config.global_batch_size,
      seq_len=metadata.seq_len,
      flops_per_step=flops.per_update(model) * config.global_batch_size,
      peak_flops=flops.measured_peak(model.dtype),
      log_every=config.log_every,
    )
    watchdog = Watchdog(config.watchdog_seconds)

    def name_of(number: int) -> str:
      return divergence.name_nonfinite(
        state,
        data.batch(0),
        number,
        model=model,
        optimizers=parts.optimizers,
        loss=parts.loss,
      )

    guard = Guard(config.on_nonfinite, name_of, forgiven)

    def still_here() -> None:
      watchdog.beat(f"update {done:,}")
      preemption.check(mesh)

    def evaluate_now() -> None:
      guard.flush()
      meter.flush()
      with save_predictions(
        config.save_predictions,
        workdir,
        done,
        "test",
        evaluator.in_chunks(test),
        mesh,
      ) as predictions:
        result = evaluator(
          state.weights,
          test,
          step=done,
          predictions=predictions,
          after_batch=still_here,
        )
      log_by_segment(result)
      meter.write_evaluation(done, result)
      run["evaluation"] = result

    def is_evaluated() -> bool:
      return run["evaluation"] is not None and run["evaluation"]["step"] == done

    def save() -> None:
      guard.flush()  # Nothing that is not finite may be saved.
      meter.settle()
      checkpoints.save(done, state, run)

    def is_over() -> bool:
      last = data.locate(done)[0] == data.num_iterations
      return last or done == data.total_steps

    def ended_early() -> bool:
      return 0 < config.num_steps <= done and not is_over()

    def knows_enough() -> bool:
      enough = config.early_stop_train_accuracy
      return 0 < enough <= meter.latest.get("train/exact_accuracy", 0.0)

    # --- train; evaluations stand at the end of each iteration and of the run,
    # and where one was left out, the run that goes on makes up for it
    preempted = False
    with meter, watchdog:
      meter.write_config(run["config"])
      mine = sharding.local_rows(mesh, config.global_batch_size)
      batches = sharding.prefetch(
        batches_from(data, done, stop, mine),
        mesh,
        config.global_batch_size,
        num_ahead=config.updates_per_dispatch,
      )
      groups = dispatches(batches, data, done, stop, config)
      try:
        try:
          still_here()  # A signal may have come before there was a state.
          if ends_iteration(data, done) and done < stop and not is_evaluated():
            evaluate_now()
            save()  # The step is there; the evaluation is added to it.
          for group in meter.waiting_for(groups):
            # Dispatched, not awaited.
            state, sums, health = train_steps(state, group)
            done += len(group)
            guard.watch(done, health)
            meter.update(done, sums)
            is_last = ends_iteration(data, done) and not ended_early()
            if is_last:
              evaluate_now()
              if knows_enough():
                run["ended"] = "early_stop"
                break
            if (is_last and config.checkpoint_every_eval) or is_due(
              done, config.checkpoint_interval
            ):
              save()
            still_here()
          if not ended_early() and not is_evaluated():
            evaluate_now()
        except PreemptedError:
          preempted = True
        guard.flush()  # It looks at an update two later.
      except DivergedError as error:
        if cluster.is_first():
          divergence.report(
            workdir,
            error,
            data,
            meter.latest,
            halt_max_steps=model.halt_max_steps,
          )
        raise
      if not preempted:  # Then the last update is like any other.
        meter.flush()
      save()
  if preempted:
    ended = "preempted"
  elif run["ended"]:
    ended = run["ended"]
  else:
    ended = "num_steps" if ended_early() else "finished"
  # Process 0 has the last word on it, because it writes the manifests.
  saved_step = cluster.from_first(checkpoints.saved_step or 0)
  return {
    "step": done,
    "total_steps": data.total_steps,
    "saved_step": saved_step or None,
    "ended": ended,
    "train": meter.latest,
    "evaluation": run["evaluation"],
    "seconds": time.perf_counter() - began,
  }

"""Trains an HRM.

example: python -m hrm_jax.train --config=configs/sudoku.py:mini \\
             --workdir=runs/sudoku-mini

A run resumes from its workdir by default. Any key of the configuration can be
overridden: --config.lr=1e-4 --config.model.hidden_size=256; configs/common.py
explains them all. TensorBoard reads WORKDIR/tensorboard. The last line of
stdout is one JSON object.
"""

import functools
import itertools
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import ml_collections
from absl import flags
from ml_collections import config_flags

from data_tools import generate_sudoku
from hrm_jax import (
  checkpoint,
  cluster,
  command_line,
  console,
  flops,
  metrics,
  puzzle,
  recipe,
  sharding,
  step,
)
from hrm_jax.checkpoint import Checkpoints
from hrm_jax.console import InputError, log
from hrm_jax.data import EvaluationData, TrainData
from hrm_jax.dataset import check_splits_agree, open_split
from hrm_jax.evaluate import Evaluator, log_by_segment, save_predictions
from hrm_jax.model import count_parameters, make_model

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Configuration, FILE or FILE:VARIANT.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run: checkpoints, logs, results."
)
COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "HOST:PORT where process 0 listens: several processes without a cluster "
  "manager.",
)
NUM_PROCESSES = flags.DEFINE_integer("num-processes", None, "Of the run.")
PROCESS_ID = flags.DEFINE_integer("process-id", None, "Of this one, from 0.")
flags.mark_flags_as_required(["config", "workdir"])


def train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains, or goes on training, until the end or `config.num_steps`.

  Returns:
    `step` and `total_steps`; `train`, the metrics logged last; `evaluation`,
    the newest one, or None; `seconds` of this call.
  """
  began = time.perf_counter()

  # --- data: what is wrong should show before anything compiles
  recipe.check_config(config)
  root = prepare_data(config, workdir)
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
  mesh = sharding.make_mesh(config.mesh.data, config.mesh.table)
  sharding.check_batch_size(config.global_batch_size, mesh)

  # --- the pure functions, jitted for this mesh
  model = make_model(config.model, metadata)
  loss = recipe.make_loss(config)
  optimizers = recipe.make_optimizers(config, data.total_steps)
  init = functools.partial(
    step.init_state,
    model,
    optimizers,
    seed=config.seed,
    batch_size=config.global_batch_size,
    num_rows=step.num_table_rows(metadata.num_puzzle_identifiers),
  )
  shapes = jax.eval_shape(init)
  shardings = sharding.of_state(
    mesh, shapes, split_moments=config.mesh.split_moments
  )
  train_step = recipe.make_train_step(model, optimizers, loss, mesh, shardings)
  evaluator = Evaluator(model, loss, mesh, halt=config.eval.halt)

  run = checkpoint.describe_run(config, metadata)
  with Checkpoints(workdir, config.max_to_keep) as checkpoints:
    # --- resume, or start
    done = checkpoints.latest_step() or 0
    if done:
      earlier = checkpoint.read_run(workdir, done)
      checkpoint.check_same_contract(earlier, metadata, str(split.path))
      changed = checkpoint.changed_keys(earlier, run)
      checkpoint.check_same_shapes(changed, workdir)
      for key, values in changed.items():
        log.info(f"changed since: {key} ({values})")
      run["evaluation"] = earlier["evaluation"]
      state = checkpoints.restore(done, shapes, shardings)
      log.info(f"resumed {workdir} at update {done:,}")
    else:
      state = jax.jit(init, out_shardings=shardings)()
    if cluster.is_first():
      checkpoint.write_description(workdir, run)
    stop = min(config.num_steps or data.total_steps, data.total_steps)
    stop = max(stop, done)  # A smaller num_steps than before: nothing to do.
    log.info(
      f"{count_parameters(state.weights.params):,} dense parameters, puzzle "
      f"table {metadata.num_puzzle_identifiers:,} x {model.puzzle_width}, "
      f"{jax.device_count()} x {jax.devices()[0].device_kind} of "
      f"{jax.process_count()} processes, update "
      f"{done:,} to {stop:,} of {data.total_steps:,}"
    )

    meter = metrics.Meter(
      metrics.Writer(workdir / "tensorboard", first_step=done + 1)
      if cluster.is_first()
      else metrics.NoWriter(),
      first_step=done,
      last_step=stop,
      global_batch_size=config.global_batch_size,
      seq_len=metadata.seq_len,
      flops_per_step=flops.per_update(model) * config.global_batch_size,
      peak_flops=flops.measured_peak(model.dtype),
      log_every=config.log_every,
    )

    def evaluate_now(state: step.TrainState) -> None:
      with save_predictions(
        config.save_predictions,
        workdir,
        done,
        "test",
        evaluator.in_chunks(test),
        mesh,
      ) as predictions:
        result = evaluator(
          state.weights, test, step=done, predictions=predictions
        )
      log_by_segment(result)
      meter.write_evaluation(done, result)
      run["evaluation"] = result

    def is_evaluated() -> bool:
      return run["evaluation"] is not None and run["evaluation"]["step"] == done

    def ended_early() -> bool:
      return 0 < config.num_steps <= done

    # --- train; evaluations stand at the end of each iteration and of the run,
    # and where num_steps left one out, the run that goes on makes up for it
    with meter:
      meter.write_config(run["config"])
      if ends_iteration(data, done) and done < stop and not is_evaluated():
        evaluate_now(state)
      mine = sharding.local_rows(mesh, config.global_batch_size)
      batches = sharding.prefetch(
        batches_from(data, done, stop, mine), mesh, config.global_batch_size
      )
      for batch in meter.waiting_for(batches):
        state, sums = train_step(state, batch)  # Dispatched, not awaited.
        done += 1
        meter.update(done, sums)
        if ends_iteration(data, done) and not ended_early():
          meter.flush()
          evaluate_now(state)
          if config.checkpoint_every_eval:
            checkpoints.save(done, state, run)
        elif is_due(done, config.checkpoint_interval):
          checkpoints.save(done, state, run)
      meter.flush()
      if not ended_early() and not is_evaluated():
        evaluate_now(state)
      checkpoints.save(done, state, run)
  return {
    "step": done,
    "total_steps": data.total_steps,
    "train": meter.latest,
    "evaluation": run["evaluation"],
    "seconds": time.perf_counter() - began,
  }


def prepare_data(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """The data set's directory; generates the embedded one on first use.

  Raises:
    InputError: it is missing; says which command builds it.
  """
  root = checkpoint.data_directory(config, workdir)
  is_there = puzzle.metadata_path(root, "train").exists()
  # Only a set of the run's own is generated: a path is somebody's real data.
  generate = config.data.generate and not config.data.path
  if not is_there and not generate:
    build = config.data.build_command or "a command of data_tools/"
    raise InputError(f"{root}: no data set there; build it with: {build}")
  if generate and cluster.is_first():
    generate_data(config, root, is_there)
  cluster.wait_for_all("the data set")
  return root


def generate_data(
  config: ml_collections.ConfigDict, root: pathlib.Path, is_there: bool
) -> None:
  """Generates the embedded data set, or checks that it is the one asked for.

  Raises:
    InputError: it is there, but was generated from other arguments.
  """
  wanted = {
    key: config.data[key] for key in ("box", "num_train", "num_test", "num_aug")
  }
  if not is_there:
    log.info(f"generating {config.data.box} Sudoku puzzles into {root}")
    generate_sudoku.generate(root, **wanted, seed=config.seed)
    return
  build = json.loads((root / "build.json").read_text(encoding="utf-8"))
  for key, value in wanted.items():
    if build["arguments"][key] != value:
      raise InputError(
        f"config.data.{key}: expected {build['arguments'][key]}, with which "
        f"{root} was generated, got {value}; choose another --workdir."
      )


def batches_from(
  data: TrainData, done: int, stop: int, rows: slice
) -> Iterator[puzzle.Batch]:
  """Some rows of the batches of updates done + 1 to `stop`."""
  iteration, start = data.locate(done)
  starts = itertools.chain([start], itertools.repeat(0))
  rest = zip(range(iteration, data.num_iterations), starts, strict=False)
  batches = (batch for i, at in rest for batch in data.iteration(i, at, rows))
  return itertools.islice(batches, max(stop - done, 0))


def ends_iteration(data: TrainData, done: int) -> bool:
  """Whether update `done` was the last of an iteration."""
  return done > 0 and data.locate(done)[1] == 0


def is_due(done: int, interval: int) -> bool:
  """Whether something that happens every `interval` updates happens now."""
  return interval > 0 and done % interval == 0


def main(argv: list[str]) -> None:
  """The command line."""
  if len(argv) > 1:
    raise InputError(f"unexpected argument '{argv[1]}'.")
  cluster.join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  console.quiet_unless(cluster.is_first())
  result = train(CONFIG.value, pathlib.Path(WORKDIR.value))
  if cluster.is_first():
    console.print_json(result)


if __name__ == "__main__":
  console.run(lambda: command_line.run(main, __doc__, CONFIG))

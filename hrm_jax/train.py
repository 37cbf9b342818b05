"""Trains an HRM.

example: python -m hrm_jax.train --config=configs/sudoku.py:mini \\
             --workdir=runs/sudoku-mini

A run resumes from its workdir by default: from the newest checkpoint whose
digests are right, and it names the bad file of each newer one. Any key of the
configuration can be overridden: --config.lr=1e-4
--config.model.hidden_size=256; configs/common.py explains them all.
TensorBoard reads WORKDIR/tensorboard. The last line of stdout is one JSON
object.
"""

import functools
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
from absl import app, flags
from jax.sharding import Mesh
from ml_collections import config_flags

from data_tools import generate_sudoku
from hrm_jax import (
  checkpoint,
  console,
  flops,
  losses,
  metrics,
  optim,
  puzzle,
  sharding,
  sparse_embedding,
  step,
)
from hrm_jax.checkpoint import Checkpoints
from hrm_jax.console import InputError, log
from hrm_jax.data import EvaluationData, TrainData
from hrm_jax.dataset import check_splits_agree, open_split
from hrm_jax.evaluate import Evaluator, log_by_segment
from hrm_jax.model import HRM, count_parameters, make_model
from hrm_jax.predictions import PredictionFiles

CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Configuration, FILE or FILE:VARIANT.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run: checkpoints, logs, results."
)
STRICT_RESTORE = flags.DEFINE_bool(
  "strict-restore",
  False,
  "Refuse to resume from an older checkpoint when the newest is damaged.",
)
flags.mark_flags_as_required(["config", "workdir"])


def train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  *,
  strict_restore: bool = False,
) -> dict[str, Any]:
  """Trains, or goes on training, until the end or `config.num_steps`.

  Args:
    config: all keys of configs/common.py.
    workdir: of the run.
    strict_restore: refuse to go on from an older checkpoint when the newest
      is damaged.

  Returns:
    `step` and `total_steps`; `saved_step`, the newest that is on disk, or
    None; `train`, the metrics logged last; `evaluation`, the newest one, or
    None; `seconds` of this call.
  """
  began = time.perf_counter()

  # --- data: what is wrong should show before anything compiles
  check_config(config)
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
  mesh = sharding.make_mesh()
  sharding.check_batch_size(config.global_batch_size, mesh)

  # --- the pure functions, jitted for this mesh
  model = make_model(config.model, metadata)
  loss = make_loss(config)
  optimizers = make_optimizers(config, data.total_steps)
  init = functools.partial(
    step.init_state,
    model,
    optimizers,
    seed=config.seed,
    batch_size=config.global_batch_size,
    num_puzzle_identifiers=metadata.num_puzzle_identifiers,
  )
  shapes = jax.eval_shape(init)
  shardings = sharding.of_state(mesh, shapes)
  train_step = make_train_step(model, optimizers, loss, mesh, shardings)
  evaluator = Evaluator(model, loss, mesh, halt=config.eval.halt)

  run = checkpoint.describe_run(config, metadata)

  def check_fits(earlier: dict[str, Any]) -> None:
    checkpoint.check_same_contract(earlier, metadata, str(split.path))
    changed = checkpoint.changed_keys(earlier, run)
    checkpoint.check_same_shapes(changed, workdir)

  with Checkpoints(
    workdir, config.max_to_keep, config.keep_period
  ) as checkpoints:
    # --- resume, or start
    resumed = checkpoints.resume(
      shapes, shardings, fits=check_fits, strict=strict_restore
    )
    if resumed:
      done, earlier, state = resumed
      for key, values in checkpoint.changed_keys(earlier, run).items():
        log.info(f"changed since: {key} ({values})")
      run["evaluation"] = earlier["evaluation"]
      log.info(f"resumed {workdir} at update {done:,}")
    else:
      done, state = 0, jax.jit(init, out_shardings=shardings)()
    checkpoint.write_description(workdir, run)
    stop = min(config.num_steps or data.total_steps, data.total_steps)
    stop = max(stop, done)  # A smaller num_steps than before: nothing to do.
    log.info(
      f"{count_parameters(state.weights.params):,} dense parameters, puzzle "
      f"table {metadata.num_puzzle_identifiers:,} x {model.puzzle_width}, "
      f"{jax.device_count()} x {jax.devices()[0].device_kind}, update "
      f"{done:,} to {stop:,} of {data.total_steps:,}"
    )

    meter = metrics.Meter(
      metrics.Writer(workdir / "tensorboard", first_step=done + 1),
      first_step=done,
      last_step=stop,
      global_batch_size=config.global_batch_size,
      seq_len=metadata.seq_len,
      flops_per_step=flops.per_update(model) * config.global_batch_size,
      peak_flops=flops.measured_peak(model.dtype),
      log_every=config.log_every,
    )

    def evaluate_now(state: step.TrainState) -> None:
      with PredictionFiles.maybe(
        config.save_predictions, workdir, done, "test", test
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
      batches = sharding.prefetch(batches_from(data, done, stop), mesh)
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
    "saved_step": checkpoints.saved_step,
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
  if generate:
    generate_data(config, root, is_there)
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


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses numbers that make no sense, before any work is done.

  Raises:
    InputError: names the key.
  """
  at_least = {"log_every": 1, "num_steps": 0, "checkpoint_interval": 0}
  at_least |= {"lr_warmup_steps": 0, "lr": 0, "puzzle_emb_lr": 0}
  at_least |= {
    "keep_period": 0,
    "weight_decay": 0,
    "puzzle_emb_weight_decay": 0,
  }
  for key, least in at_least.items():
    if config[key] < least:
      raise InputError(
        f"config.{key}: expected at least {least}, got {config[key]}."
      )
  if config.max_to_keep is not None and config.max_to_keep < 1:
    raise InputError(
      f"config.max_to_keep: expected at least 1, got {config.max_to_keep}."
    )
  for key in ("beta1", "beta2"):
    if not 0 <= config[key] < 1:
      raise InputError(
        f"config.{key}: expected 0 or more, below 1, got {config[key]}."
      )


def make_loss(config: ml_collections.ConfigDict) -> step.Loss:
  """The loss that the configuration names.

  Raises:
    InputError: there is no such loss.
  """
  if config.loss.loss_type not in losses.LOSS_TYPES:
    raise InputError(
      f"config.loss.loss_type: expected one of "
      f"{', '.join(losses.LOSS_TYPES)}, got '{config.loss.loss_type}'."
    )
  return step.Loss(**config.loss)


def make_optimizers(
  config: ml_collections.ConfigDict, total_steps: int
) -> step.Optimizers:
  """Adam-atan2 for the dense parameters, sign-SGD for the puzzle table."""
  schedule = functools.partial(
    optim.warmup_cosine,
    warmup_steps=config.lr_warmup_steps,
    total_steps=total_steps,
    min_ratio=config.lr_min_ratio,
  )
  learning_rate = schedule(config.lr)
  return step.Optimizers(
    dense=optim.adam_atan2(
      learning_rate,
      b1=config.beta1,
      b2=config.beta2,
      weight_decay=config.weight_decay,
    ),
    table=sparse_embedding.sparse_sign_sgd(
      schedule(config.puzzle_emb_lr),
      weight_decay=config.puzzle_emb_weight_decay,
    ),
    learning_rate=learning_rate,
  )


def make_train_step(
  model: HRM,
  optimizers: step.Optimizers,
  loss: step.Loss,
  mesh: Mesh,
  shardings: step.TrainState,
) -> Callable[[step.TrainState, puzzle.Batch], Any]:
  """`step.train_step`, jitted for a mesh; it donates the state.

  The state leaves as it came in, so the second update finds the program of
  the first.

  Args:
    model: the network.
    optimizers: of its weights.
    loss: which loss.
    mesh: the devices.
    shardings: laid out like the state.
  """
  return jax.jit(
    functools.partial(
      step.train_step, model=model, optimizers=optimizers, loss=loss
    ),
    donate_argnums=0,
    out_shardings=(shardings, sharding.replicated(mesh)),
  )


def batches_from(
  data: TrainData, done: int, stop: int
) -> Iterator[puzzle.Batch]:
  """The batches of updates done + 1 to `stop`, across iterations."""
  iteration, start = data.locate(done)
  starts = itertools.chain([start], itertools.repeat(0))
  rest = zip(range(iteration, data.num_iterations), starts, strict=False)
  batches = (batch for i, at in rest for batch in data.iteration(i, at))
  return itertools.islice(batches, max(stop - done, 0))


def ends_iteration(data: TrainData, done: int) -> bool:
  """Whether update `done` was the last of an iteration."""
  return done > 0 and data.locate(done)[1] == 0


def is_due(done: int, interval: int) -> bool:
  """Whether something that happens every `interval` updates happens now."""
  return interval > 0 and done % interval == 0


def parse_flags(argv: list[str]) -> list[str]:
  """Reads the flags; mistakes in them become an InputError."""
  if {"--help", "-h"} & set(argv):
    print(f"{__doc__}\n{flags.FLAGS.main_module_help()}")
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)
    CONFIG.value.to_dict()  # A file that failed to load says so only here.
  except flags.Error as error:
    raise InputError(str(error)) from None
  except OSError as error:
    raise InputError(f"--config: {error.__cause__ or error}") from None
  except AttributeError as error:
    # ml_collections answers an override of a key that is not there so, with
    # a KeyError inside that suggests the one that was meant.
    cause = error.args[0] if error.args else error
    if not isinstance(cause, KeyError):
      raise
    raise InputError(f"--config: unknown key {cause.args[0]}") from None
  return rest


def main(argv: list[str]) -> None:
  """The command line."""
  console.set_up_logging()  # Again: absl's own set-up undid some of it.
  if len(argv) > 1:
    raise InputError(f"unexpected argument '{argv[1]}'.")
  result = train(
    CONFIG.value,
    pathlib.Path(WORKDIR.value),
    strict_restore=STRICT_RESTORE.value,
  )
  console.print_json(result)
  if result["saved_step"] != result["step"]:
    log.error(
      f"error: update {result['step']} is not saved; the newest checkpoint is "
      f"of update {result['saved_step'] or 0}"
    )
    sys.exit(1)


if __name__ == "__main__":
  console.run(lambda: app.run(main, flags_parser=parse_flags))

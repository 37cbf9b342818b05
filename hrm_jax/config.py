"""Every configuration key with its default; experiments say what differs.

The keys keep the reference's spelling, so that a published command can be
transcribed. Defaults are those of its ARC training.
"""

from collections.abc import Mapping

import ml_collections
from flax import traverse_util
from ml_collections import config_dict

from hrm_jax.console import InputError


def base() -> ml_collections.ConfigDict:
  """All keys. `None` below means "see the comment", and can be overridden."""
  config = ml_collections.ConfigDict()

  config.seed = 0

  # --- data
  config.data = ml_collections.ConfigDict()
  # Directory of the data set. Empty: WORKDIR/data.
  config.data.path = ""
  # The command that builds it at {path}, for the message when it is missing.
  config.data.build_command = ""
  # Whether to generate a small Sudoku set into WORKDIR/data on first use,
  # with the arguments of data_tools.generate_sudoku.generate.
  config.data.generate = False
  config.data.box = "2x2"  # rows x columns of a box
  config.data.num_train = 1000  # training puzzles before augmentation
  config.data.num_test = 1024
  config.data.num_aug = 0  # symmetry images per training puzzle

  # --- the network; keys of the reference's arch file
  config.model = ml_collections.ConfigDict()
  config.model.H_cycles = 2  # updates of z_H per segment
  config.model.L_cycles = 2  # updates of z_L per update of z_H
  config.model.H_layers = 4
  config.model.L_layers = 4
  config.model.hidden_size = 512
  config.model.num_heads = 8
  config.model.expansion = 4.0  # MLP width over hidden size, before 2/3
  # Width of a puzzle's embedding. None: hidden_size; 0: no embedding.
  config.model.puzzle_emb_ndim = config_dict.placeholder(int)
  config.model.pos_encodings = "rope"  # "rope", "learned" or "none"
  config.model.rms_norm_eps = 1e-5
  config.model.rope_theta = 10000.0
  config.model.forward_dtype = "bfloat16"  # or "float32"
  config.model.halt_max_steps = 16  # segments a puzzle gets at most
  config.model.halt_exploration_prob = 0.1
  # "bootstrap": q_continue learns the value of the next segment, as published;
  # "none": a row halts when sigmoid(q_halt) > 1/2, at 10/16 of the work.
  config.model.q_target = "bootstrap"
  # Whether the backward pass computes the intermediates of each block again
  # instead of keeping them. Saves memory, costs time; same results.
  config.model.remat = False
  # Whether the blocks of a level are written out instead of run in a loop. Not
  # with remat. None: on CPUs, where it is faster.
  config.model.unroll = config_dict.placeholder(bool)

  config.loss = ml_collections.ConfigDict()
  # "stablemax_cross_entropy" or "softmax_cross_entropy"
  config.loss.loss_type = "stablemax_cross_entropy"
  config.loss.q_weight = 0.5  # of both halting losses

  # --- optimisation
  config.global_batch_size = 768  # rows over all devices
  config.epochs = 100_000  # visits of each group of puzzles
  # Epochs between evaluations; divides epochs. None: epochs.
  config.eval_interval = config_dict.placeholder(int)
  config.lr = 1e-4
  config.lr_min_ratio = 1.0  # end of the cosine over its top; 1: constant
  config.lr_warmup_steps = 2000  # updates
  config.beta1 = 0.9
  config.beta2 = 0.95
  config.weight_decay = 0.1
  config.puzzle_emb_lr = 1e-2
  config.puzzle_emb_weight_decay = 0.1

  # --- devices: a mesh of data x table of them, all with rows of the batch
  config.mesh = ml_collections.ConfigDict()
  config.mesh.data = -1  # -1: as many as there are
  # Parts that the puzzle table is split into; 1: every device has all of it.
  config.mesh.table = 1
  # Whether Adam's moments are split over `data` too. Saves memory, costs
  # communication.
  config.mesh.split_moments = False

  # Implementation of attention: "xla", "cudnn" (NVIDIA GPUs, bfloat16), or
  # "auto": the one that is faster, timed at the start. A run that resumes
  # keeps the one it had, where that runs.
  config.attention = "auto"

  # --- evaluation
  config.eval = ml_collections.ConfigDict()
  # "full": always halt_max_steps segments, as the reference reports;
  # "act": each puzzle stops when the network says so.
  config.eval.halt = "full"
  # Write each evaluation's inputs and answers into WORKDIR/predictions.
  config.save_predictions = False

  # --- the run
  # Ends the run after this many updates without changing the schedule; a
  # later run with a larger number goes on. 0: all updates of all epochs.
  config.num_steps = 0
  config.log_every = 10  # updates
  # Updates that the device does at one command of the host; the results are
  # the same. More than 1 pays where an update takes a few milliseconds.
  config.updates_per_dispatch = 1
  config.checkpoint_every_eval = True
  config.checkpoint_interval = 0  # also every so many updates; 0: do not
  # Newest checkpoints that are kept, besides the one with the best
  # exact_accuracy (the mean over the sets); None: all.
  config.max_to_keep = config_dict.placeholder(int)
  config.keep_period = 0  # multiples of it are kept too; 0: none are
  # What to do when a loss, gradient or weight is not finite. An update of such
  # a loss or gradient is left out in any case. "stop": say what it was, and end
  # with an error; "rollback": go on from the newest checkpoint, and leave the
  # update out if it fails again; "skip": go on.
  config.on_nonfinite = "stop"
  # Ends the run after an evaluation if the last update before it had this
  # share of right answers among the rows that halted (late training on 1,000
  # Sudokus can turn unstable, says the reference). 0: never.
  config.early_stop_train_accuracy = 0.0
  # Without a finished update for so long, the stacks of all threads are
  # shown. 0: never.
  config.watchdog_seconds = 600
  return config


def choose(
  variant: str, variants: Mapping[str, ml_collections.ConfigDict], file: str
) -> ml_collections.ConfigDict:
  """Picks a variant by its word.

  Raises:
    InputError: lists the known words.
  """
  if variant not in variants:
    raise InputError(
      f"--config={file}:{variant}: unknown variant; known are "
      f"{', '.join(variants)}."
    )
  return variants[variant]


ON_NONFINITE = ("stop", "rollback", "skip")


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses what makes no sense with any data, before any work is done.

  Raises:
    InputError: names the key.
  """
  check_schedule(config.global_batch_size, config.epochs, config.eval_interval)
  at_least = {"log_every": 1, "num_steps": 0, "checkpoint_interval": 0}
  at_least |= {"lr_warmup_steps": 0, "lr": 0, "puzzle_emb_lr": 0}
  at_least |= {"weight_decay": 0, "puzzle_emb_weight_decay": 0}
  at_least |= {"keep_period": 0, "watchdog_seconds": 0}
  at_least |= {"updates_per_dispatch": 1}
  at_least |= {"lr_min_ratio": 0, "loss.q_weight": 0}
  values = traverse_util.flatten_dict(config.to_dict(), sep=".")
  for key, least in at_least.items():
    if not values[key] >= least:  # Nor is NaN.
      raise InputError(
        f"config.{key}: expected at least {least}, got {values[key]}."
      )
  if config.max_to_keep is not None and config.max_to_keep < 1:
    raise InputError(
      f"config.max_to_keep: expected at least 1, got {config.max_to_keep}."
    )
  if config.on_nonfinite not in ON_NONFINITE:
    raise InputError(
      f"config.on_nonfinite: expected one of {', '.join(ON_NONFINITE)}, got "
      f"'{config.on_nonfinite}'."
    )
  for key in ("beta1", "beta2"):
    if not 0 <= config[key] < 1:
      raise InputError(
        f"config.{key}: expected 0 or more, below 1, got {config[key]}."
      )
  if not 0 <= config.early_stop_train_accuracy <= 1:
    raise InputError(
      "config.early_stop_train_accuracy: expected a share from 0 (never) to "
      f"1, got {config.early_stop_train_accuracy}."
    )


def check_schedule(
  global_batch_size: int, epochs: int, eval_interval: int | None
) -> None:
  """Checks what `TrainData` is told, whatever the data set.

  Raises:
    InputError: a number below 1, or `epochs` is not a multiple of
      `eval_interval`.
  """
  eval_interval = eval_interval or epochs
  for name, value in (
    ("global_batch_size", global_batch_size),
    ("epochs", epochs),
    ("eval_interval", eval_interval),
  ):
    if value < 1:
      raise InputError(f"{name}: expected at least 1, got {value}.")
  if epochs % eval_interval:
    raise InputError(
      f"epochs: expected a multiple of eval_interval={eval_interval}, got "
      f"{epochs}; nearest: {epochs // eval_interval * eval_interval} and "
      f"{-(-epochs // eval_interval) * eval_interval}."
    )

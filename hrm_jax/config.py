"""Every configuration key: its default, what it means, which values it takes.

The keys keep the reference's spelling, so that a published command can be
transcribed. Defaults are those of its ARC training; experiments (`configs/`)
say what differs. The defaults of `hrm_jax.model.hrm.HRM` repeat those of
`model.*` here, which a test holds equal. Values that must fit each other or the
devices, such as heads and hidden size, are checked where they meet: in
`model.build` and `machines.sharding`, when a run is set up.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import ml_collections
from ml_collections import config_dict

from hrm_jax.console import InputError


class Allowed(NamedTuple):
  """The values that a key takes.

  Attributes:
    kind: their type: int, float, bool or str.
    expected: what a message calls them.
    holds: of a value of that type, whether it is one of them.
    or_none: whether None is one, too.
  """

  kind: type
  expected: str
  holds: Callable[[Any], bool]
  or_none: bool = False


class Key(NamedTuple):
  """One key of the configuration."""

  default: Any
  meaning: str
  allowed: Allowed


def _whole(least: int, most: int = 2**31 - 1) -> Allowed:
  # Updates and rows are counted in 32 bits on the devices.
  below = "below 2**31" if most == 2**31 - 1 else f"at most {most:,}"
  return Allowed(
    int,
    f"a whole number, at least {least} and {below}",
    lambda n: least <= n <= most,
  )


def _number() -> Allowed:
  return Allowed(float, "a number, at least 0", lambda n: 0 <= n < math.inf)


def _number_above_0(most: float | None = None) -> Allowed:
  if most is None:
    return Allowed(float, "a number above 0", lambda n: 0 < n < math.inf)
  expected = f"a number above 0 and at most {most:,}"
  return Allowed(float, expected, lambda n: 0 < n <= most)


def _number_below_1() -> Allowed:
  return Allowed(float, "a number, 0 or more, below 1", lambda n: 0 <= n < 1)


def _share() -> Allowed:
  return Allowed(float, "a number from 0 to 1", lambda n: 0 <= n <= 1)


def _one_of(*words: str) -> Allowed:
  return Allowed(str, f"one of {', '.join(words)}", lambda word: word in words)


def _text() -> Allowed:
  return Allowed(str, "text", lambda value: True)


def _flag() -> Allowed:
  return Allowed(bool, "True or False", lambda value: True)


def _or_none(allowed: Allowed) -> Allowed:
  expected = f"{allowed.expected}, or None"
  return allowed._replace(expected=expected, or_none=True)


ON_NONFINITE = ("stop", "rollback", "skip")

KEYS = {
  "seed": Key(
    0,
    "Seed of the weights, the order of the examples and exploration.",
    # JAX looks at 32 bits of it.
    Allowed(int, "a whole number from 0 to 2**32 - 1", lambda n: n >> 32 == 0),
  ),
  # --- data
  "data.path": Key(
    "", "Directory of the data set. Empty: WORKDIR/data.", _text()
  ),
  "data.build_command": Key(
    "",
    "The command that builds it at {path}, for the message when it is missing.",
    _text(),
  ),
  "data.generate": Key(
    False,
    "Whether to generate a small Sudoku set into WORKDIR/data on first use, "
    "with the arguments of data_tools.generate_sudoku.",
    _flag(),
  ),
  "data.box": Key(
    "2x2",
    "Rows x columns of a box of the generated puzzles.",
    _one_of("2x2", "2x3", "3x3"),
  ),
  "data.num_train": Key(
    1000, "Training puzzles to generate, before augmentation.", _whole(1)
  ),
  "data.num_test": Key(1024, "Test puzzles to generate.", _whole(1)),
  "data.num_aug": Key(
    0, "Symmetry images per generated training puzzle.", _whole(0)
  ),
  # --- the network: as in the reference, and q_target, remat and unroll
  "model.H_cycles": Key(2, "Updates of z_H per segment.", _whole(1)),
  "model.L_cycles": Key(2, "Updates of z_L per update of z_H.", _whole(1)),
  "model.H_layers": Key(4, "Blocks of the slow module.", _whole(1)),
  "model.L_layers": Key(4, "Blocks of the fast module.", _whole(1)),
  "model.hidden_size": Key(512, "Width of both states.", _whole(1)),
  "model.num_heads": Key(
    8, "Heads of attention; divides hidden_size.", _whole(1)
  ),
  "model.expansion": Key(
    4.0,
    "The gated MLP has expansion x hidden_size x 2/3 units, rounded up to a "
    "multiple of 256.",
    _number_above_0(1000),
  ),
  "model.puzzle_emb_ndim": Key(
    None,
    "Width of a puzzle's embedding. None: hidden_size; 0: no embedding.",
    _or_none(_whole(0)),
  ),
  "model.pos_encodings": Key(
    "rope",
    "How cells know their place: rotary, learned or not at all.",
    _one_of("rope", "learned", "none"),
  ),
  "model.rms_norm_eps": Key(
    1e-5, "Added to the mean square under the root.", _number()
  ),
  "model.rope_theta": Key(
    10000.0, "Base of the rotary wavelengths.", _number_above_0()
  ),
  "model.forward_dtype": Key(
    "bfloat16",
    "Dtype of activations; weights are float32.",
    _one_of("bfloat16", "float32"),
  ),
  "model.halt_max_steps": Key(
    16, "Segments that a puzzle gets at most.", _whole(1, 10_000)
  ),
  "model.halt_exploration_prob": Key(
    0.1, "Share of rows that must think for longer, in training.", _share()
  ),
  "model.q_target": Key(
    "bootstrap",
    '"bootstrap": q_continue learns the value of the next segment; "none": '
    "nothing, and a row halts when sigmoid(q_halt) > 1/2. With 2 x 2 cycles "
    "an update then costs 10/16 of the work, for it does not look ahead.",
    _one_of("bootstrap", "none"),
  ),
  "model.remat": Key(
    False,
    "Whether the backward pass computes the intermediates of a block again, "
    "instead of keeping them: less memory, more time.",
    _flag(),
  ),
  "model.unroll": Key(
    None,
    "Whether the blocks of a level are written out instead of run in a loop. "
    "Not with remat. None: unless remat, for it is faster.",
    _or_none(_flag()),
  ),
  # --- the loss
  "loss.loss_type": Key(
    "stablemax_cross_entropy",
    "The loss of a cell.",
    _one_of("stablemax_cross_entropy", "softmax_cross_entropy"),
  ),
  "loss.q_weight": Key(0.5, "Weight of both halting losses.", _number()),
  # --- optimisation
  "global_batch_size": Key(768, "Rows over all devices.", _whole(1)),
  "epochs": Key(
    100_000, "Visits of each group; each trains on a puzzle of it.", _whole(1)
  ),
  "eval_interval": Key(
    None,
    "Epochs between evaluations; divides epochs. None or 0: epochs.",
    _or_none(_whole(0)),
  ),
  "lr": Key(1e-4, "Learning rate of the weights at its top.", _number()),
  "lr_min_ratio": Key(
    1.0,
    "After the warm-up both learning rates fall along a cosine to this share "
    "of their top. 1: they stay at the top.",
    _number(),
  ),
  "lr_warmup_steps": Key(
    2000, "Updates in which both learning rates rise to their top.", _whole(0)
  ),
  "beta1": Key(0.9, "Decay of Adam's first moment.", _number_below_1()),
  "beta2": Key(0.95, "Decay of Adam's second moment.", _number_below_1()),
  "weight_decay": Key(
    0.1, "Share of a weight that decays per update, times lr.", _number()
  ),
  "puzzle_emb_lr": Key(
    1e-2, "Learning rate of the puzzle embeddings at its top.", _number()
  ),
  "puzzle_emb_weight_decay": Key(
    0.1,
    "What an update shrinks its batch's puzzle embeddings by, times their lr.",
    _number(),
  ),
  "train_only": Key(
    "all", "What moves: all, or the puzzle table.", _one_of("all", "puzzle_emb")
  ),
  # --- devices: a mesh of data x table of them, all with rows of the batch
  "mesh.data": Key(
    -1,
    "Devices along the batch. -1: as many as there are.",
    Allowed(int, "-1, or at least 1", lambda n: n == -1 or 1 <= n < 2**31),
  ),
  "mesh.table": Key(
    1,
    "Parts that the puzzle table is split into; 1: every device has all of it.",
    _whole(1),
  ),
  "mesh.split_moments": Key(
    False,
    "Whether Adam's moments are split over mesh.data: less memory, more sent.",
    _flag(),
  ),
  "mesh.reduce_dtype": Key(
    "float32",
    "What the gradients of the dense weights are added up in over the devices. "
    "bfloat16: half the bytes, and their sum is rounded to 8 bits.",
    _one_of("float32", "bfloat16"),
  ),
  "rows_at_once": Key(
    None,
    "Rows that a device works on at a time, adding up their gradients: fewer "
    "need less memory. None: all, and on a TPU as many as are fastest.",
    _or_none(_whole(1)),
  ),
  "attention": Key(
    "auto",
    '"xla", "cudnn" (NVIDIA GPUs, bfloat16), "splash" (TPUs), or "auto": the '
    "fastest, timed at the start; a run that resumes keeps its own, if it can.",
    _one_of("auto", "xla", "cudnn", "splash"),
  ),
  # --- evaluation
  "eval.halt": Key(
    "full",
    '"full": always halt_max_steps segments, as the reference reports; "act": '
    "each puzzle stops when the network says so.",
    _one_of("full", "act"),
  ),
  "save_predictions": Key(
    False,
    "Whether each evaluation's inputs and answers are written into "
    "WORKDIR/predictions.",
    _flag(),
  ),
  # --- the run
  "num_steps": Key(
    0,
    "Ends the run after this many updates, with the same schedule; a later "
    "run with a larger number goes on. An evaluation due at such an end is "
    "left to it, or to `hrm_jax.evaluate`. 0: all updates of all epochs.",
    _whole(0),
  ),
  "log_every": Key(10, "Updates between two log lines.", _whole(1)),
  "updates_per_dispatch": Key(
    1,
    "Updates that the device does at one command of the host; the results are "
    "the same. More than 1 pays where an update takes a few milliseconds.",
    _whole(1),
  ),
  "checkpoint_every_eval": Key(
    True, "Whether a checkpoint is saved after each evaluation.", _flag()
  ),
  "checkpoint_interval": Key(
    0, "Updates between further checkpoints. 0: no further ones.", _whole(0)
  ),
  "max_to_keep": Key(
    None,
    "Newest checkpoints that are kept, besides the one with the best "
    "exact_accuracy (the mean over the sets). None: all.",
    _or_none(_whole(1)),
  ),
  "keep_period": Key(
    0, "Checkpoints at multiples of it are kept too. 0: none are.", _whole(0)
  ),
  "on_nonfinite": Key(
    "stop",
    "What to do when a loss, gradient or weight is not finite. An update of "
    'such a loss or gradient is left out in any case. "stop": say what it was, '
    'and end with an error; "rollback": go on from the newest checkpoint, and '
    'leave the update out if it fails again; "skip": go on.',
    _one_of(*ON_NONFINITE),
  ),
  "early_stop_train_accuracy": Key(
    0.0,
    "Ends the run after an evaluation if the last update had this share right "
    "of the rows that halted (late training on 1,000 Sudokus can turn "
    "unstable, says the reference). 0: never.",
    _share(),
  ),
  "watchdog_seconds": Key(
    600,
    "Without a finished update for so long, the stacks of all threads are "
    "shown. 0: never.",
    _whole(0),
  ),
}


def base() -> ml_collections.ConfigDict:
  """All keys with their defaults."""
  config = ml_collections.ConfigDict()
  for name, key in KEYS.items():
    *path, last = name.split(".")
    section = cast("Any", config)
    for part in path:
      if part not in section:
        section[part] = ml_collections.ConfigDict()
      section = section[part]
    if key.default is None:
      section[last] = config_dict.placeholder(key.allowed.kind)
    else:
      section[last] = key.default
  return config


def by_dotted_key(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """The leaves of nested mappings, under their keys joined by dots."""
  # Flax has such a function, and loads JAX with it: reading data needs none.
  leaves = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      leaves |= by_dotted_key(value, f"{prefix}{key}.")
    else:
      leaves[prefix + key] = value
  return leaves


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


def check_keys(config: ml_collections.ConfigDict) -> None:
  """Checks that each key is there, and no other.

  Raises:
    InputError: names the key.
  """
  given = by_dotted_key(config.to_dict())
  for name in sorted(given.keys() - KEYS.keys()):
    raise InputError(f"config.{name}: unknown key.")
  for name in sorted(KEYS.keys() - given.keys()):
    raise InputError(
      f"config.{name}: missing; begin with hrm_jax.config.base()."
    )


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses what makes no sense with any data, before any work is done.

  Raises:
    InputError: names the key.
  """
  check_keys(config)
  values = by_dotted_key(config.to_dict())
  for name, value in values.items():
    check_value(name, value)
  check_schedule(config.global_batch_size, config.epochs, config.eval_interval)


def check_value(name: str, value: Any) -> None:
  """Checks the value of one key, whatever the others are.

  Raises:
    InputError: names the key, what was expected and what came.
  """
  allowed = KEYS[name].allowed
  if value is None and allowed.or_none:
    return
  if not (_has_kind(value, allowed.kind) and allowed.holds(value)):
    shown = f"'{value}'" if isinstance(value, str) else value
    raise InputError(
      f"config.{name}: expected {allowed.expected}, got {shown}."
    )


def _has_kind(value: Any, kind: type) -> bool:
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, int | float if kind is float else kind)


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
      raise InputError(f"config.{name}: expected at least 1, got {value}.")
  if epochs % eval_interval:
    raise InputError(
      "config.epochs: expected a multiple of "
      f"config.eval_interval={eval_interval}, got "
      f"{epochs}; nearest: {epochs // eval_interval * eval_interval} and "
      f"{-(-epochs // eval_interval) * eval_interval}."
    )

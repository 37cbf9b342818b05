"""The keys of a run: its optimisation, devices, evaluations and checkpoints."""

from hrm_jax.config.key import (
  Allowed,
  Key,
  flag,
  number,
  number_below_1,
  one_of,
  or_none,
  share,
  whole,
)

ON_NONFINITE = ("stop", "rollback", "skip")

RUN_KEYS = {
  "seed": Key(
    0,
    "Seed of the weights, the order of the examples and exploration.",
    # JAX looks at 32 bits of it.
    Allowed(int, "a whole number from 0 to 2**32 - 1", lambda n: n >> 32 == 0),
  ),
  # --- optimisation
  "global_batch_size": Key(768, "Rows over all devices.", whole(1)),
  "epochs": Key(
    100_000, "Visits of each group; each trains on a puzzle of it.", whole(1)
  ),
  "eval_interval": Key(
    None,
    "Epochs between evaluations; divides epochs. None or 0: epochs.",
    or_none(whole(0)),
  ),
  "lr": Key(1e-4, "Learning rate of the weights at its top.", number()),
  "lr_min_ratio": Key(
    1.0,
    "After the warm-up both learning rates fall along a cosine to this share "
    "of their top. 1: they stay at the top.",
    number(),
  ),
  "lr_warmup_steps": Key(
    2000, "Updates in which both learning rates rise to their top.", whole(0)
  ),
  "beta1": Key(0.9, "Decay of Adam's first moment.", number_below_1()),
  "beta2": Key(0.95, "Decay of Adam's second moment.", number_below_1()),
  "weight_decay": Key(
    0.1, "Share of a weight that decays per update, times lr.", number()
  ),
  "puzzle_emb_lr": Key(
    1e-2, "Learning rate of the puzzle embeddings at its top.", number()
  ),
  "puzzle_emb_weight_decay": Key(
    0.1,
    "An update shrinks the puzzle embeddings of its batch by this share times "
    "their learning rate.",
    number(),
  ),
  "ema": Key(
    False,
    "Whether an average of the weights is kept, which evaluating, solving and "
    "exporting then use (TRM, arXiv 2510.04871). The puzzle table has none.",
    flag(),
    later=True,
  ),
  "ema_rate": Key(
    0.999,
    "Share of that average that an update keeps.",
    number_below_1(),
    later=True,
  ),
  "train_only": Key(
    "all",
    "What moves: all, or the puzzle table.",
    one_of("all", "puzzle_emb"),
    later=True,
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
    whole(1),
  ),
  "mesh.split_moments": Key(
    False,
    "Whether Adam's moments are split over mesh.data too. Saves memory, costs "
    "communication.",
    flag(),
  ),
  "mesh.reduce_dtype": Key(
    "float32",
    "What the gradients of the dense weights are added up in over the devices. "
    "bfloat16: half the bytes, and their sum is rounded to 8 bits.",
    one_of("float32", "bfloat16"),
    later=True,
  ),
  "rows_at_once": Key(
    None,
    "Rows that a device works on at a time, adding up their gradients: fewer "
    "need less memory. None: all, and on a TPU as many as are fastest.",
    or_none(whole(1)),
    later=True,
  ),
  "attention": Key(
    "auto",
    'Implementation: "xla", "cudnn" (NVIDIA GPUs, bfloat16), "splash" (TPUs), '
    'or "auto": the fastest, timed at the start. A run that resumes keeps the '
    "one it had, where that runs.",
    one_of("auto", "xla", "cudnn", "splash"),
  ),
  # --- evaluation
  "eval.halt": Key(
    "full",
    '"full": always halt_max_steps segments, as the reference reports; "act": '
    "each puzzle stops when the network says so.",
    one_of("full", "act"),
  ),
  "eval.limit": Key(
    0,
    "Puzzles of each test set that an evaluation of the run asks: a sample, "
    "the same ones every time, and all again in a larger one. The best "
    "checkpoint is the best on these. 0: all.",
    whole(0),
    later=True,
  ),
  "eval.pictures": Key(
    6,
    "Puzzles of the test split, always the same, that TensorBoard shows after "
    "each evaluation, segment by segment. 0: none.",
    whole(0),
    later=True,
  ),
  "save_predictions": Key(
    False,
    "Whether each evaluation's inputs and answers are written into "
    "WORKDIR/predictions.",
    flag(),
  ),
  # --- the run
  "num_steps": Key(
    0,
    "Ends the run after this many updates without changing the schedule; a "
    "later run with a larger number goes on. No evaluation is made at such an "
    "end, even where one is due: `python -m hrm_jax.evaluate` makes it, and so "
    "does the run that goes on. 0: all updates of all epochs.",
    whole(0),
  ),
  "log_every": Key(10, "Updates between two log lines.", whole(1)),
  "updates_per_dispatch": Key(
    1,
    "Updates that the device does at one command of the host; the results are "
    "the same. More than 1 pays where an update takes a few milliseconds.",
    whole(1),
  ),
  "checkpoint_every_eval": Key(
    True, "Whether a checkpoint is saved after each evaluation.", flag()
  ),
  "checkpoint_interval": Key(
    0, "Updates between further checkpoints. 0: no further ones.", whole(0)
  ),
  "max_to_keep": Key(
    None,
    "Newest checkpoints that are kept, besides the one with the best "
    "exact_accuracy (the mean over the sets). None: all.",
    or_none(whole(1)),
  ),
  "keep_period": Key(
    0, "Checkpoints at multiples of it are kept too. 0: none are.", whole(0)
  ),
  "on_nonfinite": Key(
    "stop",
    "What to do when a loss, gradient or weight is not finite. An update of "
    'such a loss or gradient is left out in any case. "stop": say what it was, '
    'and end with an error; "rollback": go on from the newest checkpoint, and '
    'leave the update out if it fails again; "skip": go on.',
    one_of(*ON_NONFINITE),
  ),
  "early_stop_train_accuracy": Key(
    0.0,
    "Ends the run after an evaluation if the last update before it had this "
    "share of right answers among the rows that halted (late training on 1,000 "
    "Sudokus can turn unstable, says the reference). 0: never.",
    share(),
  ),
  "watchdog_seconds": Key(
    600,
    "Without a finished update for so long, the stacks of all threads are "
    "shown. 0: never.",
    whole(0),
  ),
}

"""Sudoku: four variants of one experiment.

1k (the default): 1,000 hard 9x9 puzzles with 1,000 augmentations each
  python -m data_tools.build_sudoku --output-dir data/sudoku-extreme-1k-aug-1000
    --subsample-size 1000 --num-aug 1000
  python -m hrm_jax.train --config=configs/sudoku.py --workdir=runs/sudoku-1k
  The reference's recipe for one GPU: batch 384, lr 7e-5. Published for it:
  about 10 hours on a laptop RTX 4070, or 10 minutes on 8 GPUs with batch 768
  and lr 1e-4 (README of sapientinc/HRM at 42410da); exact accuracy 55.0 %
  (arXiv 2506.21734, figure 1); users report 45.8 to 57.5 % (its issues 8, 12).
  For 8 GPUs: --config.global_batch_size=768 --config.lr=1e-4
  --config.puzzle_emb_lr=1e-4.
  20,000 epochs of 1,000 groups / 384 = 52,083 updates.

full: all 3.8 million puzzles, with a larger batch and a softmax loss
  python -m data_tools.build_sudoku --output-dir data/sudoku-extreme-full
  python -m hrm_jax.train --config=configs/sudoku.py:full --workdir=runs/sudoku
  The reference's recipe; about 2 hours on 8 GPUs (same README). No score of
  this recipe is published there.

mini: 4x4 puzzles that the run generates for itself, in float32, on a CPU
  python -m hrm_jax.train --config=configs/sudoku.py:mini
    --workdir=runs/sudoku-mini
  About 3 minutes on 2 cores; 98.9 to 99.7 % of 1,024 held-out puzzles exact,
  by seed (docs/results.md).

walkthrough: another recipe for 1,000 puzzles, taken from a description of it
  python -m data_tools.build_sudoku
    --output-dir data/sudoku-extreme-1k-aug-1000-identifiers
    --subsample-size 1000 --num-aug 1000 --identifiers per-puzzle
  python -m hrm_jax.train --config=configs/sudoku.py:walkthrough
    --workdir=runs/sudoku-walkthrough
  Three layers per level, up to 32 segments, one puzzle embedding per original
  puzzle. The description is a text that is not part of this repository; it
  expects about 87 % after 6 to 7 segments, which has not been measured here.
"""

from hrm_jax.config import base, choose

BUILD = "python -m data_tools.build_sudoku --output-dir {path}"


def get_config(variant="1k"):
  """The configuration of a variant: 1k, full, mini or walkthrough."""
  variants = {
    "1k": _1k(),
    "full": _full(),
    "mini": _mini(),
    "walkthrough": _walkthrough(),
  }
  return choose(variant, variants, "configs/sudoku.py")


def _1k():
  config = base()
  config.data.path = "data/sudoku-extreme-1k-aug-1000"
  config.data.build_command = f"{BUILD} --subsample-size 1000 --num-aug 1000"
  config.global_batch_size = 384
  config.epochs = 20_000
  config.eval_interval = 2_000
  config.lr = 7e-5
  config.puzzle_emb_lr = 7e-5
  config.weight_decay = 1.0
  config.puzzle_emb_weight_decay = 1.0
  # An evaluation comes every 5,208 updates only: an hour on the laptop above. A
  # machine that goes away without notice costs 12 minutes there, and less on
  # others. A checkpoint has 0.4 GB; the best one is kept besides these.
  config.checkpoint_interval = 1000
  config.max_to_keep = 3
  return config


def _full():
  config = base()
  config.data.path = "data/sudoku-extreme-full"
  config.data.build_command = BUILD
  config.model.L_cycles = 8
  config.model.halt_max_steps = 8
  config.model.pos_encodings = "learned"
  config.loss.loss_type = "softmax_cross_entropy"
  config.global_batch_size = 2304
  config.epochs = 100
  config.eval_interval = 10
  config.lr = 3e-4
  config.lr_min_ratio = 0.1
  config.puzzle_emb_lr = 3e-4
  # About a minute and a half on 8 GPUs, by the 2 hours above; a quarter of an
  # hour on one. A checkpoint has about 0.7 GB, for its larger batch.
  config.checkpoint_interval = 2000
  config.max_to_keep = 3
  return config


def _mini():
  config = base()
  config.data.generate = True
  config.data.num_aug = 100
  config.model.hidden_size = 128
  config.model.num_heads = 4
  config.model.H_layers = 2
  config.model.L_layers = 2
  config.model.expansion = 3.0  # An MLP width of 256.
  config.model.forward_dtype = "float32"
  config.model.halt_max_steps = 4
  config.global_batch_size = 64
  # One view of each of 1,000 puzzles per epoch: 128 * 1,000 / 64 = 2,000.
  config.epochs = 128
  config.eval_interval = 32
  config.lr = 1e-3
  config.lr_min_ratio = 0.0
  config.lr_warmup_steps = 100
  config.puzzle_emb_lr = 1e-3
  # Cheap at this size: an interrupted run loses a quarter of a minute.
  config.checkpoint_interval = 100
  config.max_to_keep = 3
  return config


def _walkthrough():
  config = _1k()
  config.data.path = "data/sudoku-extreme-1k-aug-1000-identifiers"
  config.data.build_command = (
    f"{BUILD} --subsample-size 1000 --num-aug 1000 --identifiers per-puzzle"
  )
  config.model.H_layers = 3
  config.model.L_layers = 3
  config.model.expansion = 6.0  # An MLP width of 2048 at hidden size 512.
  config.model.halt_max_steps = 32
  config.loss.q_weight = 0.1
  config.lr_min_ratio = 0.1
  config.lr_warmup_steps = 100
  return config

"""Sudoku by TRM, the Tiny Recursive Model: three variants of one experiment.

mlp (the default): an MLP over the positions in place of attention
  python -m data_tools.build_sudoku --output-dir data/sudoku-extreme-1k-aug-1000
    --subsample-size 1000 --num-aug 1000
  python -m hrm_jax.train --config=configs/trm_sudoku.py
    --workdir=runs/trm-sudoku
  5,028,866 dense parameters. Published: exact accuracy 87.4 % (arXiv
  2510.04871); about 18 hours on one L40S (README of
  SamsungSAILMontreal/TinyRecursiveModels, which expects 87 % +- 2).
  50,000 epochs of 1,000 groups / 768 = 65,104 updates.

attention: the same with attention and rotary positions
  python -m hrm_jax.train --config=configs/trm_sudoku.py:attention
    --workdir=runs/trm-sudoku-attention
  6,828,034 dense parameters. Published: 74.7 % (same paper; the README expects
  75 % +- 2); less than 20 hours on one L40S.

mini: 4x4 puzzles that the run generates for itself, in float32, on a CPU
  python -m hrm_jax.train --config=configs/trm_sudoku.py:mini
    --workdir=runs/trm-mini
  As configs/sudoku.py:mini, with TRM's network at its size. 99.4 % of 1,024
  held-out puzzles exact after its 500 updates, in 3 minutes on 2 cores
  (docs/results.md).
"""

from hrm_jax.config import choose, trm_base

BUILD = "python -m data_tools.build_sudoku --output-dir {path}"


def get_config(variant="mlp"):
  """The configuration of a variant: mlp, attention or mini."""
  variants = {"mlp": _mlp(), "attention": _attention(), "mini": _mini()}
  return choose(variant, variants, "configs/trm_sudoku.py")


def _mlp():
  config = _attention()
  config.model.mlp_t = True
  config.model.pos_encodings = "none"
  return config


def _attention():
  config = trm_base()
  config.data.path = "data/sudoku-extreme-1k-aug-1000"
  config.data.build_command = f"{BUILD} --subsample-size 1000 --num-aug 1000"
  config.global_batch_size = 768
  config.epochs = 50_000
  config.eval_interval = 5_000
  config.lr = 1e-4
  config.puzzle_emb_lr = 1e-4
  config.weight_decay = 1.0
  config.puzzle_emb_weight_decay = 1.0
  # By the 18 hours above some 17 minutes are lost if a machine goes away
  # without notice. Evaluations are 6,510 updates apart.
  config.checkpoint_interval = 1000
  config.max_to_keep = 3
  return config


def _mini():
  config = trm_base()
  config.data.generate = True
  config.data.num_aug = 100
  config.model.hidden_size = 128
  config.model.num_heads = 4
  config.model.expansion = 3.0  # An MLP width of 256.
  config.model.forward_dtype = "float32"
  config.model.mlp_t = True
  config.model.pos_encodings = "none"
  # Empty positions would double the 16 cells of a puzzle, and its cost.
  config.model.puzzle_emb_len = 0
  config.model.H_cycles = 2
  config.model.L_cycles = 3
  config.model.halt_max_steps = 4
  config.global_batch_size = 64
  # One view of each of 1,000 puzzles per epoch: 32 * 1,000 / 64 = 500.
  config.epochs = 32
  config.eval_interval = 8
  config.lr = 1e-3
  config.lr_min_ratio = 0.0
  config.lr_warmup_steps = 100
  config.puzzle_emb_lr = 1e-3
  # An average over 100 updates, for the run has 500.
  config.ema_rate = 0.99
  # Cheap at this size: an interrupted run loses a quarter of a minute.
  config.checkpoint_interval = 100
  config.max_to_keep = 3
  return config

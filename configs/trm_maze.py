"""Mazes by TRM, the Tiny Recursive Model: the shortest path through 30x30.

1k (the default): 1,000 hard mazes, each also turned and mirrored
  python -m data_tools.build_maze --output-dir data/maze-30x30-hard-1k-aug --aug
  python -m hrm_jax.train --config=configs/trm_maze.py --workdir=runs/trm-maze
  Published: exact accuracy 85.3 % (arXiv 2510.04871), with attention; less than
  24 hours on 4 L40S (README of SamsungSAILMontreal/TinyRecursiveModels), and on
  one of them with --config.global_batch_size=128, which scores as well there.
  50,000 epochs of 1,000 groups / 768 = 65,104 updates.
"""

from hrm_jax.config import choose, trm_base


def get_config(variant="1k"):
  """The configuration of a variant: 1k."""
  return choose(variant, {"1k": _1k()}, "configs/trm_maze.py")


def _1k():
  config = trm_base()
  config.data.path = "data/maze-30x30-hard-1k-aug"
  config.data.build_command = (
    "python -m data_tools.build_maze --output-dir {path} --aug"
  )
  config.model.L_cycles = 4
  config.global_batch_size = 768
  config.epochs = 50_000
  config.eval_interval = 5_000
  config.lr = 1e-4
  config.puzzle_emb_lr = 1e-4
  config.weight_decay = 1.0
  config.puzzle_emb_weight_decay = 1.0
  # By the 24 hours above 11 minutes are lost if a machine goes away without
  # notice. A checkpoint has about 1.6 GB, most of it what the rows think about.
  config.checkpoint_interval = 500
  config.max_to_keep = 3
  return config

"""Mazes: the shortest path through 30x30 cells.

1k (the default): 1,000 hard mazes
  python -m data_tools.build_maze --output-dir data/maze-30x30-hard-1k
  python -m hrm_jax.train --config=configs/maze.py --workdir=runs/maze-1k
  The reference's recipe for 8 GPUs: batch 768, lr 1e-4; about 1 hour (README
  of sapientinc/HRM at 42410da). Published: exact accuracy 74.5 % (arXiv
  2506.21734, figure 1). Mazes have several shortest paths of which a data set
  holds one; the evaluation also reports `path_accuracy`, which takes any.
  20,000 epochs of 1,000 groups / 768 = 26,041 updates.

Without the Hub, `python -m data_tools.generate_maze --output-dir
data/maze-30x30-hard-1k` makes 1,000 + 1,000 mazes of that kind, each with one
shortest path; scores on them do not compare with the published one.
"""

from hrm_jax.config import base, choose


def get_config(variant="1k"):
  """The configuration of a variant: 1k."""
  return choose(variant, {"1k": _1k()}, "configs/maze.py")


def _1k():
  config = base()
  config.data.path = "data/maze-30x30-hard-1k"
  config.data.build_command = (
    "python -m data_tools.build_maze --output-dir {path}"
  )
  config.global_batch_size = 768
  config.epochs = 20_000
  config.eval_interval = 2_000
  config.lr = 1e-4
  config.puzzle_emb_lr = 1e-4
  config.weight_decay = 1.0
  config.puzzle_emb_weight_decay = 1.0
  # About a minute on 8 GPUs, by the hour above, and ten on one: that much is
  # lost if a machine goes away without notice. Evaluations are 2,604 updates
  # apart. A checkpoint has about 1.8 GB, most of it what the rows think about.
  config.checkpoint_interval = 500
  config.max_to_keep = 3
  return config

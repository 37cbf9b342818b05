"""Your own task: a network that learns small puzzles on a CPU.

  python -m hrm_jax.train --config=configs/grid.py --workdir=runs/rotate
    --config.data.path=data/rotate

docs/own_task.md walks through it, with what was measured. In float32, for
some thousand puzzles of up to about 100 cells; --config.model.hidden_size=256
and more epochs for harder ones.
"""

from hrm_jax.config import base, choose


def get_config(variant="mini"):
  """The configuration of a variant; there is one, mini."""
  return choose(variant, {"mini": _mini()}, "configs/grid.py")


def _mini():
  config = base()
  config.data.path = "data/grid"
  config.data.build_command = (
    "python -m data_tools.build_grid --output-dir {path} --source FILE"
  )
  config.model.hidden_size = 128
  config.model.num_heads = 4
  config.model.H_layers = 1
  config.model.L_layers = 1
  config.model.expansion = 3.0  # An MLP width of 256.
  config.model.forward_dtype = "float32"
  config.model.halt_max_steps = 4
  # Easy puzzles halt after two segments; so that later ones are trained too.
  config.model.halt_exploration_prob = 0.3
  config.global_batch_size = 64
  # 3,500 puzzles: 60 * 3,500 / 64 = 3,281 updates. After two thirds of them
  # some seeds have 91 %, others all.
  config.epochs = 60
  config.eval_interval = 15
  config.lr = 1e-3
  config.lr_min_ratio = 0.0
  config.lr_warmup_steps = 100
  config.puzzle_emb_lr = 1e-3
  return config

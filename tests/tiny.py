"""A configuration so small that tests can train it.

Also a file for --config, for tests of whole processes.
"""

import ml_collections

from configs import sudoku


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """What --config=tests/tiny.py means."""
  del variant
  return tiny_config()


def tiny_config(**overrides) -> ml_collections.ConfigDict:
  """The mini experiment, shrunk: 2 iterations of 5 updates on 40 puzzles."""
  config = sudoku.get_config("mini")
  config.data.num_train, config.data.num_test = 40, 27
  config.data.num_aug = 3
  config.model.update({"hidden_size": 16, "num_heads": 2, "halt_max_steps": 3})
  config.model.update({"H_layers": 1, "L_layers": 1, "expansion": 1.0})
  config.global_batch_size = 16
  config.epochs, config.eval_interval = 4, 2
  config.lr_warmup_steps = 2
  config.log_every = 1
  config.eval.pictures = 0  # One more program to compile.
  config.checkpoint_interval, config.max_to_keep = 0, None
  config.update_from_flattened_dict(overrides)
  return config

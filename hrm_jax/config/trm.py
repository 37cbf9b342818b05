"""All keys with the defaults of TRM where they are not those of HRM."""

import ml_collections

from hrm_jax.config.checks import base


def trm_base() -> ml_collections.ConfigDict:
  """All keys with the defaults of TRM, the Tiny Recursive Model.

  Source: arXiv 2510.04871; config/arch/trm.yaml and the commands in the README
  of SamsungSAILMontreal/TinyRecursiveModels at e7b6871.
  """
  config = base()
  # One module of two layers for both states.
  config.model.shared_level = True
  config.model.L_layers = 2
  config.model.H_cycles = 3
  config.model.L_cycles = 6
  config.model.gradient_scope = "last_cycle"
  # One row of the table, and 15 empty positions to think in.
  config.model.puzzle_emb_len = 16
  config.model.q_target = "none"
  config.ema = True
  return config

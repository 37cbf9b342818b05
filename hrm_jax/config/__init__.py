"""Every configuration key: its default, what it means, which values it takes.

The keys keep the reference's spelling, so that a published command can be
transcribed. Defaults are those of its ARC training; experiments (`configs/`)
say what differs. The defaults of `hrm_jax.model.hrm.HRM` repeat those of
`model.*` here, which a test holds equal. Values that must fit each other or the
devices, such as heads and hidden size, are checked where they meet: in
`model.build` and `machines.sharding`, when a run is set up.
"""

from hrm_jax.config.checks import (
  KEYS,
  base,
  by_dotted_key,
  check_config,
  check_keys,
  check_schedule,
  check_value,
  choose,
  with_later_keys,
)
from hrm_jax.config.run_keys import ON_NONFINITE
from hrm_jax.config.trm import trm_base

__all__ = [
  "KEYS",
  "ON_NONFINITE",
  "base",
  "by_dotted_key",
  "check_config",
  "check_keys",
  "check_schedule",
  "check_value",
  "choose",
  "trm_base",
  "with_later_keys",
]

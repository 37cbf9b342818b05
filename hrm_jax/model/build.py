"""From `config.model` to the network, or one line on what does not fit."""

from collections.abc import Mapping
from typing import Any

import jax

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.model.hrm import HRM

# Fields of `HRM` that the arch file does not set: Linen's, the data set's, and
# the one that is chosen where it runs.
_NO_KEYS = {"parent", "name", "vocab_size", "seq_len", "attention"}


def make_model(arch: Mapping[str, Any], metadata: DatasetMetadata) -> HRM:
  """Builds the network for a data set.

  Args:
    arch: `config.model`; keys are fields of `HRM`. `unroll` may be None.
    metadata: of the data set; gives `vocab_size` and `seq_len`.

  Raises:
    InputError: unknown key, or sizes that do not fit together.
  """
  check_arch(arch)
  return HRM(metadata.vocab_size, metadata.seq_len, **_resolved(arch))


def check_arch(arch: Mapping[str, Any]) -> None:
  """Checks `config.model`, whatever the data set.

  Raises:
    InputError: unknown key, or sizes that do not fit together.
  """
  known = set(HRM.__dataclass_fields__) - _NO_KEYS
  for key in arch:
    if key not in known:
      raise InputError(
        f"config.model.{key}: unknown key; known are "
        f"{', '.join(sorted(known))}."
      )
  _check(HRM(vocab_size=1, seq_len=1, **_resolved(arch)))


def _resolved(arch: Mapping[str, Any]) -> dict[str, Any]:
  """With a value for the key that may be None, `unroll`."""
  if arch.get("unroll", False) is not None:
    return dict(arch)
  # Faster on CPUs; elsewhere nobody has measured it.
  unroll = jax.default_backend() == "cpu" and not arch.get("remat")
  return {**arch, "unroll": unroll}


def _check(model: HRM) -> None:
  def expect(holds: bool, key: str, expected: str) -> None:
    if not holds:
      value = getattr(model, key)
      raise InputError(f"config.model.{key}: expected {expected}, got {value}.")

  for key in ("H_cycles", "L_cycles", "H_layers", "L_layers", "hidden_size"):
    expect(getattr(model, key) >= 1, key, "at least 1")
  expect(model.halt_max_steps >= 1, "halt_max_steps", "at least 1")
  expect(0 <= model.halt_exploration_prob <= 1, "halt_exploration_prob", "0..1")
  expect(model.puzzle_width >= 0, "puzzle_emb_ndim", "0 or more")
  expect(model.expansion > 0, "expansion", "more than 0")
  expect(
    model.q_target in ("bootstrap", "none"),
    "q_target",
    "one of bootstrap, none",
  )
  positions = ("rope", "learned", "none")
  expect(
    model.pos_encodings in positions,
    "pos_encodings",
    f"one of {', '.join(positions)}",
  )
  # XLA:CPU would see that unrolled blocks have their intermediates already.
  expect(not (model.remat and model.unroll), "unroll", "False with remat")
  dtypes = ("bfloat16", "float32")
  expect(model.forward_dtype in dtypes, "forward_dtype", f"one of {dtypes}")
  D = model.hidden_size
  expect(
    model.num_heads >= 1 and D % model.num_heads == 0,
    "num_heads",
    f"a divisor of hidden_size={D}",
  )
  expect(
    model.pos_encodings != "rope" or (D // model.num_heads) % 2 == 0,
    "num_heads",
    f"an even head size hidden_size/num_heads for rope (hidden_size={D})",
  )

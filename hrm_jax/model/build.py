"""From `config.model` to the network, or one line on what does not fit."""

from collections.abc import Mapping
from typing import Any

from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.model.hrm import HRM

# Fields of `HRM` that `config.model` does not set: Linen's, the data set's, the
# key beside it (`attention`) and the platform (`for_tpu`).
_NO_KEYS = {
  *("parent", "name"),
  *("vocab_size", "seq_len"),
  *("attention", "for_tpu"),
}


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
  """Checks that the sizes in `config.model` fit together.

  Whether each value is allowed by itself is checked by `config.check_config`.

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
  """The same keys, with a value for the one that may be None, `unroll`."""
  if arch.get("unroll", False) is not None:
    return dict(arch)
  return {**arch, "unroll": not arch.get("remat")}


def _check(model: HRM) -> None:
  def expect(holds: bool, key: str, expected: str) -> None:
    if not holds:
      value = getattr(model, key)
      raise InputError(f"config.model.{key}: expected {expected}, got {value}.")

  # XLA:CPU would see that unrolled blocks have their intermediates already.
  expect(not (model.remat and model.unroll), "unroll", "False with remat")
  D = model.hidden_size
  expect(
    not (model.H_only and model.shared_level),
    "H_only",
    "False with shared_level",
  )
  P, width = model.puzzle_emb_len, model.puzzle_width
  expect(
    P == 0 or width <= P * D,
    "puzzle_emb_len",
    f"0, or at least puzzle_emb_ndim/hidden_size={width}/{D}",
  )
  expect(
    D % model.num_heads == 0,
    "num_heads",
    f"a divisor of hidden_size={D}",
  )
  expect(
    model.pos_encodings != "rope" or (D // model.num_heads) % 2 == 0,
    "num_heads",
    f"an even head size hidden_size/num_heads for rope (hidden_size={D})",
  )

"""Which configurations make a network, and what is said of the others."""

import pytest

from hrm_jax.config import base
from hrm_jax.console import InputError
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from tests.toys import METADATA, toy_model


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("hidden", 512),
    ("vocab_size", 11),
    ("seq_len", 81),
    ("name", "hrm"),
    ("num_heads", 7),
    ("num_heads", 16),  # Head size 1: RoPE turns pairs.
  ],
)
def test_refuses_a_bad_key_by_its_name(key, value):
  with pytest.raises(InputError, match=rf"^config\.model\.{key}: "):
    toy_model(**{key: value})


@pytest.mark.parametrize("remat", [True, False])
def test_blocks_are_unrolled_by_themselves_unless_computed_again(remat):
  assert make_model({"remat": remat}, METADATA).unroll is False
  arch = {"remat": remat, "unroll": None}
  assert make_model(arch, METADATA).unroll is not remat


def test_blocks_are_not_both_unrolled_and_computed_again():
  with pytest.raises(InputError, match="unroll: expected False with remat"):
    toy_model(remat=True, unroll=True)


def test_the_defaults_of_the_network_are_those_of_the_configuration():
  network = HRM(vocab_size=1, seq_len=1)
  arch = base().model.to_dict()
  assert arch.pop("unroll") is None  # Which is chosen where it runs.
  assert {key: getattr(network, key) for key in arch} == arch


def test_default_architecture_is_accepted():
  assert make_model({}, METADATA).num_slots == 1

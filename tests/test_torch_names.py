"""The reference's tensor names and layouts, both ways."""

import jax
import numpy as np
import pytest

from hrm_jax.checkpoint import torch_names
from hrm_jax.console import InputError
from tests.toys import NUM_ROWS, toy_model, toy_weights

VARIANTS = {
  "plain": {},
  "learned": {"pos_encodings": "learned"},
  "no table": {"puzzle_emb_ndim": 0},
  "deep": {"H_layers": 2, "L_layers": 3, "puzzle_emb_ndim": 24},
  "bfloat16": {"forward_dtype": "bfloat16"},
}
LAYER = "model.inner.L_level.layers.1.mlp.down_proj.weight"


def from_reference(named, model):
  return torch_names.from_reference(named, model, NUM_ROWS)


@pytest.fixture
def named():
  """The deep variant's tensors, and its model."""
  model = toy_model(**VARIANTS["deep"])
  return torch_names.to_reference(toy_weights(model)), model


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_survive_the_way_there_and_back(variant):
  model = toy_model(**VARIANTS[variant])
  weights = toy_weights(model)
  named = torch_names.to_reference(weights)
  # The initial states come back in the compute dtype from any.
  plain = {name: np.float32(value) for name, value in named.items()}
  back = from_reference(plain, model)
  assert jax.tree.structure(back) == jax.tree.structure(weights)
  for got, want in zip(*map(jax.tree.leaves, (back, weights)), strict=True):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
  again = torch_names.to_reference(back)
  assert again.keys() == named.keys()


@pytest.mark.parametrize(
  ("variant", "key", "is_there"),
  [
    ("plain", "model.inner.embed_pos.embedding_weight", False),
    ("learned", "model.inner.embed_pos.embedding_weight", True),
    ("plain", "model.inner.puzzle_emb.weights", True),
    ("no table", "model.inner.puzzle_emb.weights", False),
    ("plain", LAYER, False),
    ("deep", LAYER, True),
  ],
)
def test_names_are_those_of_the_parts_that_exist(variant, key, is_there):
  weights = toy_weights(toy_model(**VARIANTS[variant]))
  assert (key in torch_names.to_reference(weights)) == is_there


def test_linear_weights_are_transposed(named):
  tensors, model = named
  block = toy_weights(model).params["L_level"]["layers_1"]
  kernel = block["mlp"]["down_proj"]["kernel"]
  np.testing.assert_array_equal(tensors[LAYER], kernel.T)


def test_left_over_tensor_is_named(named):
  tensors, model = named
  tensors["model.inner.extra"] = np.zeros(3)
  with pytest.raises(InputError, match=r"left over: model\.inner\.extra"):
    from_reference(tensors, model)


@pytest.mark.parametrize(
  "name",
  [
    LAYER,
    "model.inner.H_init",
    "model.inner.lm_head.weight",
    "model.inner.puzzle_emb.weights",
  ],
)
def test_missing_or_misshapen_tensor_is_named(named, name):
  tensors, model = named
  whole = tensors.pop(name)
  with pytest.raises(InputError, match=f"'{name}' is missing"):
    from_reference(tensors, model)
  with pytest.raises(InputError, match=f"'{name}': expected shape"):
    from_reference({**tensors, name: whole[:-1]}, model)

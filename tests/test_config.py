"""Every key of the configuration is explained, and its values are checked."""

import copy
import math

import pytest
from flax import traverse_util

from hrm_jax import config as keys
from hrm_jax.config import KEYS, base, check_config
from hrm_jax.console import InputError
from hrm_jax.data import sudoku_generator
from hrm_jax.model import attention, losses
from hrm_jax.solve import segments

# By the type of the key: what it never takes.
_NEVER = {
  int: (-2, 1.5, "many", True, math.nan),
  float: (-0.5, math.nan, math.inf, "fast", False),
  bool: (1, "yes", 0.0),
  str: (3, True),
}


def with_value(name, value):
  """All defaults but one, past what a ConfigDict itself refuses."""
  values = traverse_util.flatten_dict(base().to_dict(), sep=".")
  nested = traverse_util.unflatten_dict({**values, name: value}, sep=".")
  return type(base())(copy.deepcopy(nested))


def test_the_defaults_are_allowed():
  check_config(base())


def test_base_has_each_key_once_in_its_section():
  flat = traverse_util.flatten_dict(base().to_dict(), sep=".")
  assert flat == {name: key.default for name, key in KEYS.items()}


@pytest.mark.parametrize("name", KEYS)
def test_each_key_has_a_meaning(name):
  meaning = KEYS[name].meaning
  assert meaning.endswith(".")
  assert len(meaning.split()) >= 3
  assert KEYS[name].allowed.or_none == ("None" in meaning)


@pytest.mark.parametrize("name", KEYS)
def test_a_bad_value_of_each_key_is_one_line_that_names_it(name):
  allowed = KEYS[name].allowed
  bad = [*_NEVER[allowed.kind]]
  if not allowed.or_none:
    bad.append(None)
  if allowed.expected.startswith("one of"):
    bad += ["", "maybe", allowed.expected.split()[-1].upper()]
  for value in bad:
    with pytest.raises(InputError) as error:
      check_config(with_value(name, value))
    assert str(error.value).startswith(f"config.{name}: expected {allowed[1]}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("seed", 2**32),
    ("data.num_train", 0),
    ("model.H_cycles", 0),
    ("epochs", 2**31),
    ("mesh.data", 2**31),
    ("model.expansion", 0.0),
    ("model.expansion", 1001.0),
    ("model.halt_max_steps", 2**31 - 1),
    ("model.halt_exploration_prob", 1.5),
    ("mesh.data", 0),
    ("beta2", 1.0),
    ("early_stop_train_accuracy", 1.5),
    ("updates_per_dispatch", 0),
    ("max_to_keep", 0),
  ],
)
def test_a_value_just_outside_is_refused(name, value):
  with pytest.raises(InputError, match=rf"^config\.{name}: .*, got {value}\.$"):
    check_config(with_value(name, value))


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("lr", 1),  # A whole number where a fraction would do.
    ("model.puzzle_emb_ndim", 0),
    ("eval_interval", 0),
    ("max_to_keep", None),
    ("model.unroll", True),
    ("mesh.data", -1),
    ("early_stop_train_accuracy", 1.0),
    ("seed", 2**32 - 1),
  ],
)
def test_a_value_just_inside_is_taken(name, value):
  check_config(with_value(name, value))


def test_a_key_too_many_or_too_few_is_named():
  config = base()
  config.model.depth = 3
  with pytest.raises(InputError, match=r"^config\.model\.depth: unknown key"):
    check_config(config)
  config = base()
  del config.mesh.table
  with pytest.raises(InputError, match=r"^config\.mesh\.table: missing; begin"):
    check_config(config)


def test_epochs_hold_whole_eval_intervals():
  config = base()
  config.epochs, config.eval_interval = 10, 4
  with pytest.raises(InputError, match=r"eval_interval=4.* 8 and 12"):
    check_config(config)


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("attention", attention.SETTINGS),
    ("eval.halt", segments.HALT_MODES),
    ("loss.loss_type", losses.LOSS_TYPES),
    ("on_nonfinite", keys.ON_NONFINITE),
    ("data.box", sudoku_generator.SIDES),
  ],
)
def test_the_words_that_a_key_takes_are_those_that_the_code_knows(name, words):
  for word in words:
    check_config(with_value(name, word))
  assert KEYS[name].allowed.expected == f"one of {', '.join(words)}"

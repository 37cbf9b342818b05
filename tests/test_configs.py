"""Every experiment in `configs/`, two updates of it at a reduced size."""

import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest

from hrm_jax.config import check_config
from hrm_jax.console import InputError
from hrm_jax.machines import sharding
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import count_parameters
from hrm_jax.model.weights import init_weights
from hrm_jax.train import setup, update
from hrm_jax.train.config_flags import load
from tests.toys import METADATA, toy_batch

FILES = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))


def variants(file):
  """The words of a file, by what it says when it is given another one."""
  with pytest.raises(InputError) as error:
    load(file, "?")
  return re.search(r"known are (.*)\.$", str(error.value))[1].split(", ")


EACH = [(file, word) for file in FILES for word in variants(file)]


def named(file):
  return next(path for path in FILES if path.name == file)


def test_every_file_has_its_variants():
  names = {(file.name, word) for file, word in EACH}
  assert {("sudoku.py", "mini"), ("trm_sudoku.py", "attention")} < names
  assert len(names) >= 14


@pytest.mark.parametrize(
  ("file", "word"), EACH, ids=[f"{file.stem}-{word}" for file, word in EACH]
)
def test_two_updates_of_each_experiment(file, word):
  config = load(file, word)
  check_config(config)
  assert f"--config=configs/{file.name}" in file.read_text(encoding="utf-8")
  config.model.update(
    {"hidden_size": 16, "num_heads": 2, "expansion": 1.0, "H_layers": 1}
  )
  config.model.L_layers = 1
  for cycles in ("H_cycles", "L_cycles"):  # Two say what more of them say.
    config.model[cycles] = min(config.model[cycles], 2)
  config.global_batch_size = 6
  made = setup.make_setup(
    config, METADATA, total_steps=10, devices=jax.devices()[:1]
  )
  state = made.init()
  before = jax.device_get(state.weights.params)
  step = made.jit_update(update.train_steps)
  for seed in range(2):
    batch = sharding.put_rows(toy_batch(seed, 6), made.mesh, 6)
    state, _, health = step(state, (batch,))
    assert health.is_good.all()
  assert step._cache_size() == 1
  assert int(state.step) == 2
  after = jax.device_get(state.weights.params)
  pairs = zip(*map(jax.tree.leaves, (before, after)), strict=True)
  assert any(np.any(old != new) for old, new in pairs)
  assert (state.average is not None) == config.ema


@pytest.mark.parametrize(
  ("word", "count"), [("mlp", 5_028_866), ("attention", 6_828_034)]
)
def test_trm_has_the_parameters_that_its_code_counts(word, count):
  # A 9x9 Sudoku: 81 cells and 11 tokens. What the code of TRM counts leaves out
  # the puzzle table and the initial states, too.
  config = load(named("trm_sudoku.py"), word)
  metadata = dataclasses.replace(METADATA, seq_len=81, vocab_size=11)
  model = make_model(config.model, metadata)
  weights = jax.eval_shape(
    lambda key: init_weights(model, key, 1), jax.random.key(0)
  )
  assert count_parameters(weights.params) == count

"""Checkpoints of TRM become runs, and runs become theirs."""

import pathlib
import shutil

import jax
import numpy as np
import pytest
import yaml

from hrm_jax.checkpoint import torch_commands
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from tests.runs import train_tiny
from tests.torch_checkpoints import import_file, set_keys


@pytest.fixture(scope="module")
def trm(tmp_path_factory):
  """A tiny run of TRM, and its export as the code of TRM writes it."""
  root = tmp_path_factory.mktemp("trm")
  model = {
    "shared_level": True,
    "gradient_scope": "last_cycle",
    "q_target": "none",
    "mlp_t": True,
    "pos_encodings": "none",
    "puzzle_emb_len": 2,
  }
  train_tiny(
    root / "run",
    **{f"model.{key}": value for key, value in model.items()},
    ema=True,
    ema_rate=0.5,
  )
  result = torch_commands.export(root / "run", None, root / "out")
  return root / "run", result


def test_a_checkpoint_of_trm_comes_back_as_its_average(trm, tmp_path):
  run, result = trm
  assert result["not_exported"] == {}
  out = pathlib.Path(result["folder"])
  said = yaml.safe_load((out / "all_config.yaml").read_text())
  assert said["arch"]["H_layers"] == 0
  assert said["arch"]["no_ACT_continue"] is True
  assert (said["ema"], said["data_paths"]) == (True, [str(run / "data")])

  import_file(out / "step_10", tmp_path / "run", data=run / "data")
  got, want = load(tmp_path / "run"), load(run)
  same = jax.tree.map(np.array_equal, got.weights, want.weights)
  assert all(jax.tree.leaves(same))
  # What means nothing, and a number that None stands for.
  same = got.model.clone(H_layers=1, puzzle_emb_ndim=None)
  assert same == want.model
  raw = load(run, raw_weights=True).weights.params
  same = jax.tree.map(np.array_equal, got.weights.params, raw)
  assert not any(jax.tree.leaves(same))


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"arch__mlp_t": False}, "self_attn.qkv_proj.weight"),
    ({"arch__no_ACT_continue": 1}, "expected True or False"),
    ({"data_paths": ["a", "b"]}, "key 'data_path' is missing"),
    (
      {"arch__name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"},
      "key 'arch.H_layers': expected a whole number",
    ),
  ],
)
def test_what_does_not_fit_a_checkpoint_of_trm_is_named(
  trm, tmp_path, changes, said
):
  out = pathlib.Path(trm[1]["folder"])
  shutil.copy(out / "step_10", tmp_path)
  shutil.copy(out / "all_config.yaml", tmp_path / "theirs.yaml")
  set_keys(tmp_path / "theirs.yaml", **changes)
  data = trm[0] / "data"
  with pytest.raises(InputError) as error:
    import_file(tmp_path / "step_10", tmp_path / "run", data=data)
  assert said in str(error.value)
  assert not (tmp_path / "run").exists()

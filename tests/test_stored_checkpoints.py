"""A checkpoint of each format is read as it was written, bit for bit."""

import json
import re
import shutil

import jax.numpy as jnp
import pytest

from hrm_jax.checkpoint import __main__ as checkpoint
from hrm_jax.checkpoint import (
  format_number,
  load,
  published,
  saved_steps,
  store,
)
from hrm_jax.config import base
from hrm_jax.data.puzzle import metadata_from_json
from hrm_jax.train import setup
from hrm_jax.train.state import saved_part
from tests import stored_checkpoints
from tests.commands import Commands
from tests.stored_checkpoints import STEP, digests_of, expected_digests

FORMATS = range(1, format_number.CURRENT + 1)


@pytest.fixture(params=FORMATS)
def sample(request, tmp_path):
  """The number of a format, and a copy of its sample."""
  workdir = tmp_path / "run"
  shutil.copytree(stored_checkpoints.workdir_of(request.param), workdir)
  return request.param, workdir


def test_there_is_a_sample_of_each_format():
  names = {path.name for path in stored_checkpoints.ROOT.iterdir()}
  assert names == {f"format_{number}" for number in FORMATS}


def test_a_run_goes_on_from_each_format_bit_for_bit(sample):
  number, workdir = sample
  run = store.read_run(workdir, STEP)
  config = base()  # A run that goes on has every key, also newer ones.
  config.update(run["config"])
  made = setup.make_setup(
    config,
    metadata_from_json(run["dataset"], "sample"),
    total_steps=10,
  )
  with store.Checkpoints(workdir) as checkpoints:
    resumed = checkpoints.resume(made.shapes, part=saved_part, strict=True)
  assert resumed.step == STEP
  assert digests_of(resumed.state) == expected_digests(number)


def test_inference_reads_each_format_bit_for_bit(sample):
  number, workdir = sample
  trained = load.load(workdir)
  assert trained.step == STEP
  assert digests_of({"weights": trained.weights}) == {
    name: digest
    for name, digest in expected_digests(number).items()
    if name.startswith("weights.")
  }


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_a_run_without_the_keys_that_came_since_is_exported(
  sample, monkeypatch, capsys, tmp_path, form
):
  _, workdir = sample
  step = saved_steps.directory_of(workdir) / str(STEP)
  recorded = json.loads((step / "run" / "metadata").read_text())["config"]
  assert "ema" not in recorded
  assert "shared_level" not in recorded["model"]
  to = [f"--workdir={workdir}", f"--out={tmp_path / 'out'}"]
  commands = Commands(monkeypatch, capsys)
  commands(checkpoint, "export", *to, f"--format={form}")
  if form == "safetensors":
    again = published.read(str(tmp_path / "out"))
    assert not again.network.config.ema
    expected = load.load(workdir).weights
    assert digests_of(again.weights) == digests_of(expected)


def test_each_sample_has_the_number_of_its_format(sample):
  number, workdir = sample
  assert store.read_run(workdir, STEP)["format"] == number
  assert saved_steps.problems(saved_steps.directory_of(workdir), STEP) == []


def test_a_digest_tells_type_shape_and_bits_by_a_plain_path():
  arrays = jnp.arange(4.0)
  one = digests_of({"a": (arrays,)})
  assert re.fullmatch(r"[0-9a-f]{16}", one["a.0"])
  for other in (arrays.astype("int32"), arrays.reshape(2, 2), arrays + 1):
    assert digests_of({"a": (other,)}) != one

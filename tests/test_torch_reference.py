"""A checkpoint written here, loaded and scored by the reference's own code."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from hrm_jax.checkpoint import torch_commands
from hrm_jax.evaluate import __main__ as evaluate
from tests import runs
from tests.commands import Commands

SCRIPT = pathlib.Path(__file__).parent / "reference_evaluate.py"


@pytest.fixture
def reference():
  """Runs `reference_evaluate.py` on a folder; returns the metrics."""
  if "HRM_REFERENCE" not in os.environ:
    pytest.skip("HRM_REFERENCE is not set: no checkout of sapientinc/HRM")
  # The reference's packages may be those of another interpreter.
  python = os.environ.get("HRM_REFERENCE_PYTHON", sys.executable)
  needs = "import torch, numpy, pydantic, omegaconf, einops, tqdm, yaml"
  if subprocess.run([python, "-c", needs], capture_output=True).returncode:
    pytest.skip(f"{python} lacks what the reference needs ({needs})")

  def score(folder):
    done = subprocess.run(
      [python, str(SCRIPT), str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

  return score


@pytest.mark.slow
def test_the_reference_scores_what_is_written_here_alike(
  reference, tmp_path, monkeypatch, capsys
):
  puzzles = {"data.num_test": 64}
  # A network that has learned something tells more than one that has not.
  runs.train_tiny(tmp_path / "run", epochs=40, eval_interval=40, **puzzles)
  out = tmp_path / "out"
  torch_commands.export(tmp_path / "run", None, out)
  theirs = reference(out)
  command = Commands(monkeypatch, capsys)
  ours = command(evaluate, f"--workdir={tmp_path / 'run'}")["sets"]
  assert ours["all"].pop("count") == 64
  assert 0.3 < ours["all"]["accuracy"] < 1
  assert theirs.keys() == ours.keys()
  assert theirs["all"].keys() == ours["all"].keys()
  for key, value in theirs["all"].items():
    assert ours["all"][key] == pytest.approx(value, rel=1e-5), key

"""The main job, as a user runs it: one process per command.

Marked slow. The tests on real puzzles read HRM_DATA_DIR and skip without it.
"""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(*arguments: object) -> dict:
  """Runs `python -m ...`; returns the JSON of its last line."""
  done = subprocess.run(
    [sys.executable, "-m", *map(str, arguments)],
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_mini_trains_resumes_evaluates_and_solves(tmp_path):
  workdir = f"--workdir={tmp_path}"
  train = ["hrm_jax.train", "--config=configs/sudoku.py:mini", workdir]
  train += ["--config.data.num_train=200", "--config.data.num_test=100"]
  first = run(*train, "--config.num_steps=40")
  assert first["step"] == 40
  second = run(*train, "--config.num_steps=120")
  assert second["step"] == 120
  assert second["train"]["train/lm_loss"] < first["train"]["train/lm_loss"]

  # The second start found the program of the first.
  kept = (tmp_path / "compilation_cache").glob("jit_train_steps-*-cache")
  assert len(list(kept)) == 1

  evaluation = run("hrm_jax.evaluate", workdir, "--halt=act")
  assert evaluation["step"] == 120
  assert evaluation["sets"]["all"]["count"] == 100
  # One cell in four by chance, and half of them are given.
  assert evaluation["sets"]["all"]["accuracy"] > 0.7

  solved = run("hrm_jax.solve", workdir, "--json", ".41..3.231....31")
  assert solved["puzzles"][0]["keeps_clues"]


@pytest.fixture
def real_sudoku(hrm_data_dir, tmp_path):
  """A data set of real puzzles, built from their CSV files."""
  path = tmp_path / "sudoku"
  run(
    "data_tools.build_sudoku",
    f"--source-csv={hrm_data_dir / 'sudoku'}",
    f"--output-dir={path}",
    "--subsample-size=200",
    "--num-aug=10",
  )
  return path


def test_a_small_network_trains_on_real_sudoku(real_sudoku, tmp_path):
  workdir = f"--workdir={tmp_path / 'run'}"
  result = run(
    "hrm_jax.train",
    "--config=configs/sudoku.py",
    workdir,
    f"--config.data.path={real_sudoku}",
    "--config.model.hidden_size=128",
    "--config.model.num_heads=4",
    "--config.model.forward_dtype=float32",
    "--config.model.halt_max_steps=4",
    "--config.model.H_layers=1",
    "--config.model.L_layers=1",
    "--config.lr=1e-3",
    "--config.lr_warmup_steps=10",
    "--config.global_batch_size=32",
    "--config.num_steps=20",
  )
  assert result["step"] == 20
  evaluation = run("hrm_jax.evaluate", workdir, "--limit=128")
  assert evaluation["sets"]["all"]["count"] == 128
  # One digit in nine by chance.
  assert evaluation["sets"]["all"]["accuracy"] > 1 / 9

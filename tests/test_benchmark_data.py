"""The benchmark of the data pipeline: what it reads, and what it says."""

import numpy as np
import pytest

from configs import sudoku
from hrm_jax.benchmark import data as benchmark_data
from hrm_jax.data.split import open_split
from hrm_jax.data.train_batches import TrainData
from hrm_jax.plan import program
from tests.datasets import write_split


def measured(path="", **changed):
  config = sudoku.get_config()
  config.data.path = str(path)
  config.update({"global_batch_size": 8, "epochs": 4, "eval_interval": 2})
  config.update(changed)
  metadata = program.generated_puzzles(9, 300, 2)
  return benchmark_data.benchmark_data(config, metadata, batches=7, rounds=2)


def test_without_a_data_set_a_generated_one_is_read(
  tmp_path, caplog, monkeypatch
):
  monkeypatch.setattr(benchmark_data.log, "propagate", True)
  result = measured(tmp_path / "missing")
  assert f"{tmp_path}/missing: no data set there; a generated" in caplog.text
  assert result["data"] == "generated"
  assert (result["batches"], result["seq_len"]) == (7, 9)
  rate = result["batches_per_s"]
  assert result["examples_per_s"] == pytest.approx(8 * rate)
  assert rate > 0
  assert result["cpu_s_per_batch"] > 0


def test_the_data_set_of_the_configuration_is_read(tmp_path):
  write_split(tmp_path, groups=[[1]] * 10)
  result = measured(tmp_path)
  assert result["data"] == str(tmp_path)
  # Of 20 examples an iteration, twice; the run has no more.
  assert (result["batches"], result["seq_len"]) == (4, 4)


def test_a_generated_set_is_laid_out_as_sudoku_1k(tmp_path):
  root = str(tmp_path)
  benchmark_data.write_generated(root, program.generated_puzzles(9, 300, 2))
  split = open_split(root, "train")
  assert len(split.sets[0].group_indices) == 1001
  assert split.sets[0].inputs.shape == (100_000, 9)
  assert split.sets[0].inputs.max() == 299
  assert set(split.sets[0].puzzle_identifiers) == {0, 1}
  batch = TrainData(split, global_batch_size=384, seed=0, epochs=1).batch(0)
  assert (batch["labels"] > 0).all()


def test_every_round_reads_the_same_batches(tmp_path, monkeypatch):
  write_split(tmp_path, groups=[[1]] * 10)
  starts = []
  read = TrainData.iteration
  monkeypatch.setattr(
    TrainData,
    "iteration",
    lambda data, number: starts.append(number) or read(data, number),
  )
  measured(tmp_path)
  np.testing.assert_array_equal(starts, [0, 1] * 3)

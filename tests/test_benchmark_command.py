"""The benchmark command, as a user runs it: from anywhere, without data."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parent.parent
TINY = (
  "--config.model.hidden_size=16",
  "--config.model.num_heads=2",
  "--config.model.H_layers=2",
  "--config.model.L_layers=2",
  "--config.model.expansion=1.0",  # An MLP width of 256.
  "--config.model.forward_dtype=float32",
  "--config.global_batch_size=16",
  "--seq-len=9",
)


@pytest.fixture
def benchmark(tmp_path):
  """Runs the command in a directory that holds nothing of ours."""

  def run(*arguments):
    return subprocess.run(
      [sys.executable, "-m", "hrm_jax.benchmark", *arguments],
      cwd=tmp_path,
      env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      check=False,
    )

  return run


def result_of(done):
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def test_comm_counts_the_bytes_of_eight_devices(benchmark):
  result = result_of(benchmark("comm", "--json", *TINY))
  assert result["devices"] == 8
  assert result["global_batch_size"] == 16
  assert result["puzzle_emb_ndim"] == 16
  block = 16 * 3 * 16 + 16 * 16 + 16 * 2 * 256 + 256 * 16
  heads = 2 * 11 * 16 + 16 * 2 + 2
  assert result["dense_parameters"] == 4 * block + heads
  # The gradient, and for each row of the batch that of 16 floats and an id.
  minimum = 4 * (4 * block + heads) + 16 * (4 * 16 + 4)
  assert result["minimum_bytes"] == minimum
  by_collective = [c["bytes"] * c["times"] for c in result["collectives"]]
  # Layers are written out, and nothing is sent in a loop.
  assert {c["times"] for c in result["collectives"]} == {1}
  assert sum(by_collective) == result["bytes_per_device"]
  assert by_collective == sorted(by_collective, reverse=True)
  assert minimum <= result["bytes_per_device"] <= 1.1 * minimum


def test_comm_counts_devices_or_reads_a_target(benchmark):
  done = benchmark("comm", "--target=cpu:4", "--devices=2", "--json", *TINY)
  assert done.returncode == 2
  assert "--devices: expected no --target beside it" in done.stderr


def test_train_reports_rates_that_agree_with_its_step_time(benchmark):
  result = result_of(benchmark("train", "--json", "--steps=3", *TINY))
  assert result["data"] == "generated"
  assert result["steps"] == 3
  step_s = result["step_s"]
  assert 0 < result["step_s_min"] <= step_s <= result["step_s_max"]
  assert 0 < result["cpu_s_min"] <= result["cpu_s"]
  assert result["examples_per_s"] == pytest.approx(16 / step_s)
  assert 0 < result["dispatch_s"] <= result["step_s_max"]
  assert result["data_wait_s"] > 0
  assert result["tokens_per_s"] == pytest.approx(16 * 9 / step_s)
  # By hand: a block and the head of one puzzle, 9 cells behind one slot.
  block = 10 * (2 * (4 * 16 * 16 + 3 * 16 * 256) + 4 * 10 * 16)
  head = 2 * 9 * 16 * 11
  segment = 12 * block + head
  # The target reads one position: the last block's others need keys and values.
  unread = head + 9 * (2 * (16 * 16 + 3 * 16 * 256) + 4 * 10 * 16)
  update = 2 * segment - unread + 2 * (4 * block + head)
  assert result["flops_per_step"] == 16 * update
  achieved = result["flops_per_step"] / step_s
  assert result["mfu"] == pytest.approx(achieved / result["peak_flops"])


def test_a_second_start_reads_the_program_instead_of_compiling(benchmark):
  result = result_of(benchmark("compile", "--json", *TINY))
  # A twentieth of it and less; a machine may stall.
  assert result["warm_compile_s"] < result["compile_s"] / 2
  assert result["attention"] == "xla"


def test_an_unknown_subcommand_gets_one_line_and_exits_with_2(benchmark):
  done = benchmark("speed")
  assert done.returncode == 2
  assert done.stdout == ""
  (line,) = done.stderr.splitlines()
  assert line.startswith("error: argument command: invalid choice: 'speed' (ch")


def test_help_shows_an_example(benchmark):
  done = benchmark("--help")
  assert done.returncode == 0
  assert "example: python -m hrm_jax.benchmark train" in done.stdout

"""The evaluation command, on a run that tests share."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hrm_jax.checkpoint.load import load
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.evaluate.evaluator import Evaluator, prediction_files
from hrm_jax.machines import sharding
from hrm_jax.model.losses import Loss
from hrm_jax.solve import continuous_batching
from tests.commands import Commands
from tests.datasets import write_split
from tests.toys import mesh_of, random_like


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def test_every_example_counts_once_whatever_the_batch_size(tiny_run, command):
  flag = f"--workdir={tiny_run}"
  one = command(evaluate, flag)
  other = command(evaluate, flag, "--batch-size=8")
  whole, part = one["sets"]["all"], other["sets"]["all"]
  assert whole["count"] == part["count"] == 27
  for name in ("exact_accuracy", "q_halt_accuracy", "steps"):
    assert whole[name] == part[name]
  for name in ("accuracy", "lm_loss"):
    np.testing.assert_allclose(whole[name], part[name], rtol=1e-5)


def test_the_result_has_the_documented_keys(tiny_run, command):
  result = command(evaluate, f"--workdir={tiny_run}", "--halt=act")
  assert set(result) == {
    "sets",
    "exact_accuracy_by_segment",
    "puzzles_by_segments",
    "puzzles_by_halt_probability",
    "seconds",
    "puzzles_per_s",
    "step",
    "halt",
    "segments",
    "puzzles",
    "puzzles_in_split",
  }
  assert result["step"] == 10
  assert result["halt"] == "act"
  means = result["sets"]["all"]
  assert {"lm_loss", "q_halt_loss"} <= set(means)
  assert len(result["exact_accuracy_by_segment"]) == 3
  assert result["exact_accuracy_by_segment"][-1] == means["exact_accuracy"]


def evaluate_halting(
  tiny_run, directory, *, queued, devices, batch_size, halt="act"
):
  """Evaluates with --halt=act, saving; returns the result and the files."""
  trained = load(tiny_run)
  mesh = mesh_of(devices)
  weights = jax.device_put(
    random_like(trained.weights, seed=19), sharding.replicated(mesh)
  )
  data = EvaluationData(
    open_split(tiny_run / "data", "test"), batch_size=batch_size
  )
  evaluator = Evaluator(trained.model, Loss(), mesh, halt=halt, queued=queued)
  with prediction_files(
    directory / "saved", evaluator.in_chunks(data), mesh
  ) as predictions:
    result = evaluator(weights, data, step=1, predictions=predictions)
  paths = (directory / "saved").iterdir()
  return result, {path.stem: np.load(path) for path in paths}


@pytest.mark.parametrize(("devices", "puzzles_per_row"), [(1, 2), (8, 32)])
def test_a_queue_changes_no_result(
  tiny_run, tmp_path, monkeypatch, devices, puzzles_per_row
):
  # Of 27 puzzles: two chunks with one device, one with eight.
  monkeypatch.setattr(continuous_batching, "PUZZLES_PER_ROW", puzzles_per_row)
  (got, saved), (want, files) = (
    evaluate_halting(
      tiny_run,
      tmp_path / str(queued),
      queued=queued,
      devices=devices,
      batch_size=8,
    )
    for queued in (True, False)
  )
  got_means, means = got["sets"]["all"], want["sets"]["all"]
  assert 1 < means["steps"] < 3
  assert set(got_means) == set(means)
  for name in ("count", "exact_accuracy", "q_halt_accuracy", "steps"):
    assert got_means[name] == means[name]
  for name in ("accuracy", "lm_loss"):
    np.testing.assert_allclose(got_means[name], means[name], rtol=1e-5)
  for name in ("exact_accuracy_by_segment", "puzzles_by_segments"):
    assert got[name] == want[name]
  # Each puzzle stands in the part of its probability, as it is saved.
  chance = 1 / (1 + np.exp(-np.float64(saved["all__q_halt_logits"])))
  parts, _ = np.histogram(chance, bins=20, range=(0, 1))
  assert got["puzzles_by_halt_probability"] == parts.tolist()
  steps = np.arange(1, 4) @ got["puzzles_by_segments"] / 27
  assert steps == pytest.approx(means["steps"])
  assert saved["all__segments"].mean() == pytest.approx(means["steps"])
  assert set(saved) == set(files)
  for name, array in files.items():
    assert saved[name].dtype == array.dtype
    # Programs for one device and for eight round differently.
    np.testing.assert_allclose(saved[name], array, rtol=1e-5, atol=2e-4)


def test_where_puzzles_would_halt_is_known_without_halting_them(
  tiny_run, tmp_path
):
  full, act = (
    evaluate_halting(
      tiny_run,
      tmp_path / halt,
      queued=True,
      devices=1,
      batch_size=27,
      halt=halt,
    )[0]
    for halt in ("full", "act")
  )
  assert full["sets"]["all"]["steps"] == 3
  assert full["puzzles_by_segments"] == act["puzzles_by_segments"]
  assert max(act["puzzles_by_segments"]) < 27


def test_padding_counts_nowhere_where_puzzles_halt(tiny_run, tmp_path):
  one, other = (
    evaluate_halting(
      tiny_run,
      tmp_path / str(batch_size),
      queued=True,
      devices=1,
      batch_size=batch_size,
    )[0]["sets"]["all"]
    for batch_size in (20, 27)
  )
  for name in one:
    np.testing.assert_allclose(one[name], other[name], rtol=1e-5)


def test_an_earlier_step_and_a_limit_can_be_asked_for(tiny_run, command):
  result = command(evaluate, f"--workdir={tiny_run}", "--step=5", "--limit=10")
  assert result["step"] == 5
  assert result["sets"]["all"]["count"] == result["puzzles"] == 10
  assert result["puzzles_in_split"] == 27


@pytest.mark.parametrize("halt", ["full", "act"])
def test_segments_can_be_more_or_fewer_than_in_training(
  tiny_run, command, halt
):
  flags = f"--workdir={tiny_run}", f"--halt={halt}"
  trained = command(evaluate, *flags)
  assert trained["segments"] == 3
  for segments in (1, 5):
    result = command(evaluate, *flags, f"--segments={segments}")
    assert result["segments"] == segments
    both, by_segment = min(segments, 3), "exact_accuracy_by_segment"
    assert len(result[by_segment]) == segments
    assert result[by_segment][:both] == trained[by_segment][:both]
    if halt == "full":
      assert result["sets"]["all"]["steps"] == segments


@pytest.mark.parametrize("halt", ["full", "act"])
def test_a_few_puzzles_are_not_padded_to_a_large_batch(
  tiny_run, command, monkeypatch, halt
):
  rows = []
  put_rows = sharding.put_rows

  def counted(batch, mesh, batch_size):
    rows.append(batch_size)
    return put_rows(batch, mesh, batch_size)

  monkeypatch.setattr(sharding, "put_rows", counted)
  flags = f"--workdir={tiny_run}", f"--halt={halt}", "--batch-size=64"
  for limit, batch_size in ((3, 8), (9, 16), (0, 64)):
    rows.clear()
    result = command(evaluate, *flags, f"--limit={limit}")
    assert result["sets"]["all"]["count"] == (limit or 27)
    assert set(rows) == {batch_size}  # The next that divides by 8 devices.


def test_the_training_split_can_be_evaluated_too(tiny_run, command):
  result = command(evaluate, f"--workdir={tiny_run}", "--split=train")
  assert result["sets"]["all"]["count"] == 40 * (1 + 3)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--step=7"], "no step 7 there; it has 5, 10."),
    (["--batch-size=12"], "number of devices, 8, got 12; nearest"),
    (["--segments=0"], "--segments: expected at least 1, got 0."),
    (
      ["--segments=10001"],
      "--segments: expected less than 10,001, got 10,001.",
    ),
    (["--limit=-1"], "--limit: expected at least 0, got -1."),
    (["--data=nowhere"], "nowhere/test/dataset.json: no such file"),
  ],
)
def test_a_bad_flag_gets_one_clear_line(tiny_run, command, flags, message):
  assert message in command.error(evaluate, f"--workdir={tiny_run}", *flags)


def test_a_directory_without_checkpoints_is_refused(tmp_path, command):
  message = command.error(evaluate, f"--workdir={tmp_path}")
  assert f"{tmp_path}/checkpoints: no checkpoint there" in message


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"seq_len": 4, "vocab_size": 6}, "seq_len is 4, but"),
    ({"seq_len": 16, "vocab_size": 11}, "vocab_size is 11, but"),
    ({"seq_len": 16, "vocab_size": 6}, "num_puzzle_identifiers is 3, but"),
  ],
)
def test_data_that_does_not_fit_is_refused(
  tiny_run, tmp_path, command, sizes, message
):
  write_split(tmp_path, "test", groups=[[1], [1]], **sizes)
  flags = f"--workdir={tiny_run}", f"--data={tmp_path}"
  assert message in command.error(evaluate, *flags)


def test_evaluating_and_solving_need_no_trainer():
  script = (
    "import sys, hrm_jax.evaluate.__main__, hrm_jax.solve.__main__; "
    "unwanted = 'hrm_jax.train', 'hrm_jax.optim'; "
    "sys.exit(' '.join(m for m in unwanted if m in sys.modules) or 0)"
  )
  subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("halt", ["full", "act"])
def test_the_program_that_is_compiled_first_is_the_one_that_runs(
  tiny_run, caplog, halt
):
  # Else its time would count as thinking, and everything compile twice.
  trained, mesh = load(tiny_run), mesh_of(8)
  weights = jax.device_put(trained.weights, sharding.replicated(mesh))
  split = open_split(tiny_run / "data", "test")
  evaluator = Evaluator(trained.model, Loss(), mesh, halt=halt)
  with jax.log_compiles():
    evaluator(weights, EvaluationData(split, batch_size=8), step=1)
  compiled = re.findall(r"Compiling jit\(eval_\w+\)", caplog.text)
  assert len(compiled) == 1

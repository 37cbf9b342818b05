"""The trainer as a whole: runs, resumes, refuses."""

import functools
import json
import math
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hrm_jax import console
from hrm_jax.checkpoint import export, store
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.data import sudoku_generator
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.machines import sharding
from hrm_jax.train import __main__ as train
from hrm_jax.train import loop, setup
from tests import runs
from tests.commands import Commands, files_of
from tests.datasets import rewrite_field, write_split


def test_resumed_run_repeats_the_uninterrupted_one(tmp_path):
  config = {"epochs": 20, "eval_interval": 20}
  straight, resumed = tmp_path / "straight", tmp_path / "resumed"
  runs.train_tiny(straight, num_steps=20, **config)
  runs.train_tiny(resumed, num_steps=10, **config)
  runs.train_tiny(resumed, num_steps=20, **config)
  want = runs.read_state(straight, 20)
  got = runs.read_state(resumed, 20)
  assert sorted(got) == sorted(want)
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, err_msg=path)


def test_updates_at_once_leave_the_same_run(tmp_path, tiny_run):
  # Iterations of 5 updates: one dispatch of 4, then a single one.
  runs.train_tiny(tmp_path, updates_per_dispatch=4)
  got, want = (runs.read_state(w, 10) for w in (tmp_path, tiny_run))
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, err_msg=path)
  got, want = (
    [s for s in runs.read_scalars(w) if not s[0].startswith("perf/")]
    for w in (tmp_path, tiny_run)
  )
  assert got == want


def test_a_run_moves_to_another_mesh(tmp_path, tiny_run):
  runs.train_tiny(tmp_path, num_steps=5)
  runs.train_tiny(tmp_path, **{"mesh.table": 4, "mesh.split_moments": True})
  got, want = (
    [s for s in runs.read_scalars(w) if s[0] == "train/lm_loss"]
    for w in (tmp_path, tiny_run)
  )
  assert [step for _, step, _ in got] == list(range(1, 11))
  assert got[:5] == want[:5]
  np.testing.assert_allclose(
    *([value for _, _, value in losses] for losses in (got, want)), rtol=1e-4
  )
  # What loads it to evaluate has no more of the table on a device either.
  split = load(tmp_path, on_all_devices=True).weights.puzzle_table
  rows, width = split.shape
  assert {s.data.shape for s in split.addressable_shards} == {
    (rows // 4, width)
  }
  whole = load(tmp_path).weights.puzzle_table
  assert whole.sharding.device_set == {jax.devices()[0]}
  np.testing.assert_array_equal(split, whole)


def test_a_mesh_that_cannot_split_the_table_is_refused(tmp_path, monkeypatch):
  six = jax.devices()[:6]
  monkeypatch.setattr(sharding.jax, "devices", lambda: six)
  with pytest.raises(InputError, match=r"mesh\.table: .* 1,024, .* got 6\.$"):
    runs.train_tiny(tmp_path, global_batch_size=12, **{"mesh.table": 6})


def test_the_checkpoint_holds_everything_a_run_needs(tiny_run):
  paths = " ".join(runs.read_state(tiny_run, 10))
  for part in (
    "step",
    "key",
    "params",
    "H_init",
    "puzzle_table",
    "'mu'",
    "'nu'",
    "z_H",
    "halted",
    "puzzle_identifiers",
  ):
    assert part in paths, part


def test_a_finished_run_evaluated_and_saved_after_each_iteration(tiny_run):
  assert runs.steps_of(tiny_run) == [5, 10]
  for step in (5, 10):
    evaluation = store.read_run(tiny_run, step)["evaluation"]
    assert evaluation["step"] == step
    assert evaluation["sets"]["all"]["count"] == 27


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
  first = runs.train_tiny(tmp_path)
  before = runs.read_state(tmp_path, 10)
  again = runs.train_tiny(tmp_path)
  assert again["step"] == first["step"] == 10
  assert again["evaluation"] == first["evaluation"]
  after = runs.read_state(tmp_path, 10)
  for path, value in before.items():
    np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_num_steps_ends_early_saves_and_does_not_evaluate(tmp_path):
  result = runs.train_tiny(tmp_path, num_steps=5)
  assert result["step"] == 5
  assert result["total_steps"] == 10  # The schedule does not change.
  assert result["evaluation"] is None
  assert runs.steps_of(tmp_path) == [5]
  # Nor does a later run that has nothing to do.
  assert runs.train_tiny(tmp_path, num_steps=3)["evaluation"] is None


def test_num_steps_of_a_whole_run_ends_it_as_no_num_steps_does(tmp_path):
  result = runs.train_tiny(tmp_path, num_steps=10)
  assert (result["total_steps"], result["ended"]) == (10, "finished")
  assert result["evaluation"]["step"] == 10


def test_a_run_that_knows_enough_ends_until_the_bound_is_another(tmp_path):
  data = tmp_path / "data"
  for split in ("train", "test"):
    # All answers are the same, which takes a few updates to know.
    path = write_split(data, split, groups=[[1]] * 40)
    rewrite_field(path, "labels", np.ones_like)
  flags = {"data.path": str(data), "model.halt_max_steps": 1, "lr": 1e-2}
  run = functools.partial(runs.train_tiny, tmp_path / "run", **flags)

  first = run(early_stop_train_accuracy=0.5)
  assert first["train"]["train/exact_accuracy"] >= 0.5
  assert (first["step"], first["ended"]) == (5, "early_stop")
  before = files_of(tmp_path / "run" / "checkpoints")
  again = run(early_stop_train_accuracy=0.5)
  assert (again["step"], again["ended"]) == (5, "early_stop")
  assert files_of(tmp_path / "run" / "checkpoints") == before
  on = run(early_stop_train_accuracy=0.0)
  assert (on["step"], on["ended"]) == (10, "finished")


def test_a_run_that_stands_still_shows_its_stacks(tmp_path, monkeypatch, capfd):
  make, lines = setup.Setup.jit_update, []
  monkeypatch.setattr(console.log, "warning", lines.append)

  def make_slow(*args, **kwargs):
    train_step = make(*args, **kwargs)

    def slow_step(state, batch):
      if int(state.step) == 2:
        time.sleep(2.5)
      return train_step(state, batch)

    return slow_step

  monkeypatch.setattr(setup.Setup, "jit_update", make_slow)
  runs.train_tiny(tmp_path, num_steps=3, watchdog_seconds=1)
  assert any("since update 2; the stacks of all" in line for line in lines)
  assert " in slow_step\n" in capfd.readouterr().err


def test_an_evaluation_that_num_steps_left_out_is_made_up_for(tmp_path, lines):
  runs.train_tiny(tmp_path, num_steps=5)
  assert any("at update 5, without an evaluation; " in line for line in lines)
  assert runs.steps_of(tmp_path) == [5]
  runs.train_tiny(tmp_path)
  evaluated = [
    step
    for name, step, _ in runs.read_scalars(tmp_path)
    if name == "eval/all/exact_accuracy"
  ]
  assert evaluated == [5, 10]


def test_tensorboard_holds_every_update_under_the_reference_names(tiny_run):
  scalars = runs.read_scalars(tiny_run)
  names = {name for name, _, _ in scalars}
  losses = {"lm_loss", "q_halt_loss", "q_continue_loss"}
  rows = {"count", "accuracy", "exact_accuracy", "q_halt_accuracy", "steps"}
  norms = {"lr", "grad_norm", "param_norm", "puzzle_emb_update_norm"}
  speed = {"step_seconds", "examples_per_s", "tokens_per_s", "mfu", "data_wait"}
  assert {f"train/{name}" for name in losses | rows | norms} <= names
  assert {f"perf/{name}" for name in speed} <= names
  steps = [step for name, step, _ in scalars if name == "train/lm_loss"]
  assert steps == list(range(1, 11))


def test_checkpoint_interval_saves_in_between(tmp_path):
  runs.train_tiny(tmp_path, checkpoint_interval=2, num_steps=5)
  assert runs.steps_of(tmp_path) == [2, 4, 5]


def test_config_versions_and_commit_stand_beside_the_checkpoints(tiny_run):
  config = json.loads((tiny_run / "config.json").read_text())
  assert config["model"]["hidden_size"] == 16
  versions = json.loads((tiny_run / "versions.json").read_text())
  assert versions["jax"]
  assert "git_commit" in versions
  run = store.read_run(tiny_run, 10)
  assert run["config"] == config
  assert run["versions"]["jax"] == versions["jax"]


def test_predictions_are_saved_for_every_example_and_no_padding(tmp_path):
  runs.train_tiny(tmp_path, save_predictions=True)
  folder = tmp_path / "predictions" / "10" / "test"
  saved = {p.stem: np.load(p) for p in folder.iterdir()}
  inputs = np.load(tmp_path / "data" / "test" / "all__inputs.npy")
  np.testing.assert_array_equal(saved["all__inputs"], inputs)
  assert saved["all__logits"].shape == (27, 16, 6)
  np.testing.assert_array_equal(
    saved["all__predictions"], saved["all__logits"].argmax(-1)
  )
  assert saved["all__q_halt_logits"].shape == (27,)


def test_a_limit_scores_what_the_command_scores_with_it(
  tmp_path, monkeypatch, capsys
):
  config = {"eval.limit": 12, "num_steps": 6}
  evaluation = runs.train_tiny(tmp_path, **config)["evaluation"]
  assert (evaluation["puzzles"], evaluation["puzzles_in_split"]) == (12, 27)
  command = Commands(monkeypatch, capsys)
  same = command(evaluate, f"--workdir={tmp_path}", "--step=best", "--limit=12")
  assert same["step"] == evaluation["step"] == 5
  assert same["sets"] == evaluation["sets"]
  made = export.export(tmp_path, "best", tmp_path / "model")
  card = (tmp_path / "model" / "README.md").read_text()
  assert made["step"] == 5
  assert "over 12 puzzles of each set" in card
  assert "--halt=full --limit=12\n" in card


def test_resuming_with_other_shapes_names_the_keys(tiny_run):
  with pytest.raises(InputError, match=r"config\.model\.H_cycles \(2 there, 3"):
    runs.train_tiny(tiny_run, **{"model.H_cycles": 3})
  with pytest.raises(InputError, match="global_batch_size"):
    runs.train_tiny(tiny_run, global_batch_size=8)


def test_resuming_on_data_of_another_size_is_refused(tmp_path):
  runs.train_tiny(tmp_path, num_steps=2)
  (tmp_path / "data").rename(tmp_path / "old")
  with pytest.raises(InputError, match=r"seq_len is 36, but .*seq_len=16"):
    runs.train_tiny(tmp_path, **{"data.box": "2x3", "data.num_train": 100})


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (
      {"global_batch_size": 20},
      r"^config\.global_batch.* 8, got 20; near",
    ),
    ({"epochs": 3}, "multiple of config.eval_interval=2"),
    ({"loss.loss_type": "mse"}, r"config\.loss\.loss_type: .*got 'mse'"),
    ({"eval.halt": "maybe"}, r"config\.eval\.halt: .*got 'maybe'"),
    ({"log_every": 0}, r"config\.log_every: expected .* at least 1 .*, got 0"),
    ({"beta2": 1.0}, r"config\.beta2: .* below 1, got 1"),
    ({"lr_min_ratio": -0.1}, r"config\.lr_min_ratio: .* least 0, got -0\.1\.$"),
    (
      {"loss.q_weight": -0.5},
      r"config\.loss\.q_weight: expected .* at least 0, got -0\.5\.$",
    ),
    (
      {"loss.q_weight": math.nan},
      r"config\.loss\.q_weight: expected .* at least 0, got nan\.$",
    ),
    (
      {"early_stop_train_accuracy": 1.5},
      r"config\.early_stop_train_accuracy: .* 0 to 1, got 1\.5\.$",
    ),
    (
      {"early_stop_train_accuracy": -0.5},
      r"config\.early_stop_train_accuracy: .* got -0\.5\.$",
    ),
    ({"model.num_heads": 3}, r"config\.model\.num_heads: .*got 3"),
  ],
)
def test_a_bad_value_gets_one_clear_line(tmp_path, overrides, message):
  with pytest.raises(InputError, match=message):
    runs.train_tiny(tmp_path, **overrides)
  assert not (tmp_path / "checkpoints").exists()


def test_a_bad_value_leaves_nothing_behind(tmp_path):
  for overrides in ({"epochs": 3}, {"model.num_heads": 3}):
    with pytest.raises(InputError):
      runs.train_tiny(tmp_path / "run", **overrides)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ("key", "value"), [("mesh.data", 3), ("global_batch_size", 12)]
)
def test_a_mesh_that_does_not_fit_shows_before_data_are_made(
  tmp_path, key, value
):
  with pytest.raises(InputError, match=key):
    runs.train_tiny(tmp_path, **{key: value})
  assert list(tmp_path.iterdir()) == []


def test_a_batch_that_no_iteration_fills_shows_before_data_are_made(
  tmp_path, monkeypatch
):
  # Two epochs of 40 puzzles: 80 examples, with data or without.
  said = "global_batch_size: .* about 80 in 2 epochs of .*, got 88; use smaller"
  with pytest.raises(InputError, match=said):
    runs.train_tiny(tmp_path / "new", global_batch_size=88)
  assert not (tmp_path / "new" / "data").exists()
  monkeypatch.setattr(loop, "make_setup", lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    runs.train_tiny(tmp_path / "made", global_batch_size=80)
  with pytest.raises(InputError, match=said):
    runs.train_tiny(tmp_path / "made", global_batch_size=88)


def test_embedded_data_of_other_arguments_is_not_taken_silently(tmp_path):
  runs.train_tiny(tmp_path, num_steps=1)
  with pytest.raises(
    InputError,
    match=r"/data: was generated .*: config\.seed \(0 there, 1 here\), config\."
    r"data\.num_train \(40 there, 50 here\); choose another --workdir, or",
  ):
    runs.train_tiny(tmp_path, seed=1, **{"data.num_train": 50})
  (tmp_path / "data" / "build.json").write_text('{"builder": "build_grid"}')
  with pytest.raises(InputError, match="generates, got one of build_grid; "):
    runs.train_tiny(tmp_path)
  (tmp_path / "data" / "build.json").unlink()
  with pytest.raises(InputError, match="got one of an unknown builder; "):
    runs.train_tiny(tmp_path)


def test_a_run_does_not_go_on_with_other_puzzles_of_the_same_number(tmp_path):
  data = {}
  for seed in (0, 1):
    data[seed] = tmp_path / f"data{seed}"
    sudoku_generator.generate(
      data[seed], box="2x2", num_train=40, num_test=27, num_aug=3, seed=seed
    )
  run = tmp_path / "run"
  runs.train_tiny(run, num_steps=1, **{"data.path": str(data[0])})
  with pytest.raises(InputError, match=r"digests\.test .* digests\.train "):
    runs.train_tiny(run, num_steps=2, **{"data.path": str(data[1])})
  data[0].rename(tmp_path / "moved")
  moved = {"data.path": str(tmp_path / "moved")}
  assert runs.train_tiny(run, num_steps=2, **moved)["step"] == 2


def test_a_workdir_that_cannot_be_made_gets_one_clear_line(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(InputError, match=r"^--workdir=.*file/run: cannot be "):
    train.make_workdir(tmp_path / "file" / "run")


def test_a_command_that_is_refused_leaves_nothing_behind(tmp_path, monkeypatch):
  monkeypatch.setattr(train.cluster, "join", lambda *_, **__: None)
  for flag in ("model.num_heads=3", f"data.path={tmp_path}/typo"):
    argv = ["train", "--config=tests/tiny.py", f"--config.{flag}"]
    monkeypatch.setattr(sys, "argv", [*argv, f"--workdir={tmp_path}/run"])
    with pytest.raises(InputError):
      train.main()
    assert list(tmp_path.iterdir()) == []


def test_a_mistyped_path_is_not_filled_with_generated_data(tmp_path):
  with pytest.raises(InputError, match="no data set there"):
    runs.train_tiny(tmp_path, **{"data.path": str(tmp_path / "typo")})
  assert not (tmp_path / "typo").exists()


def test_a_relative_path_to_no_data_is_told_in_full(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  expected = f"^{tmp_path}/typo: no data set there .typo from where this runs.;"
  with pytest.raises(InputError, match=expected):
    runs.train_tiny(tmp_path, **{"data.path": "typo"})


def test_missing_data_says_which_command_builds_it(tmp_path):
  missing = str(tmp_path / "nothing")
  with pytest.raises(
    InputError, match=f"{missing}: .* build it with: python .* {missing}$"
  ):
    runs.train_tiny(
      tmp_path / "run",
      **{
        "data.path": missing,
        "data.generate": False,
        "data.build_command": "python -m data_tools.build_sudoku {path}",
      },
    )


@pytest.mark.parametrize(
  ("key", "value"),
  [("data.box", "9x9"), ("data.num_train", 0), ("data.num_aug", -1)],
)
def test_bad_arguments_of_generated_data_are_keys(tmp_path, key, value):
  with pytest.raises(InputError, match=rf"^config\.{key}: expected "):
    runs.train_tiny(tmp_path, **{key: value})


def test_too_many_generated_puzzles_are_told_with_both_keys(tmp_path):
  expected = r"^config\.data\.num_train and config\.data\.num_test: expected "
  with pytest.raises(InputError, match=expected):
    runs.train_tiny(tmp_path, **{"data.num_train": 10**6})


@pytest.mark.slow
def test_strict_restore_is_a_flag(tmp_path, tiny_run):
  workdir = tmp_path / "run"
  shutil.copytree(tiny_run, workdir)
  damaged = workdir / "checkpoints" / "10" / "state" / "_METADATA"
  damaged.write_text("{}")
  before = files_of(workdir / "checkpoints")
  command = [sys.executable, "-m", "hrm_jax.train", "--config=tests/tiny.py"]
  done = subprocess.run(
    [*command, f"--workdir={workdir}", "--strict-restore"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (2, "")
  *_, line = done.stderr.splitlines()
  assert line.startswith(f"error: {damaged}: expected ")
  assert line.endswith("; --strict-restore goes on from no older step.")
  assert done.stderr.count("error: ") == 1
  assert files_of(workdir / "checkpoints") == before


@pytest.mark.slow
def test_the_command_line_says_what_is_wrong_and_exits_with_2():
  command = [sys.executable, "-m", "hrm_jax.train", "--workdir=unused"]
  bad = subprocess.run(
    [*command, "--config=configs/sudoku.py:huge"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert bad.returncode == 2
  assert bad.stdout == ""
  assert bad.stderr.count("\n") == 1
  helped = subprocess.run(
    [*command, "--help"], capture_output=True, text=True, check=True
  )
  assert "example: python -m hrm_jax.train" in helped.stdout

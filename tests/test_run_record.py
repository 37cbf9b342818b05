"""What may differ between a run and its continuation, and what is kept."""

import copy

import pytest

from configs import sudoku
from hrm_jax.checkpoint import run_record
from hrm_jax.config import base
from hrm_jax.console import InputError
from tests.toys import METADATA


def described(**changes):
  """The run record of the mini configuration, with some keys changed."""
  config = sudoku.get_config("mini")
  config.update_from_flattened_dict(changes)
  return run_record.describe(config, METADATA, {"train": "a1", "test": "b2"})


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("model.hidden_size", 256),
    ("model.q_target", "none"),
    ("data.box", "2x3"),
    ("data.num_train", 999),
    ("data.augment", True),
    ("data.hint_mix", 0.3),
    ("eval_interval", 64),
    ("global_batch_size", 32),
    ("seed", 7),
  ],
)
def test_another_network_or_other_data_is_refused_by_key(key, value, tmp_path):
  run, earlier = described(**{key: value}), described()
  said = rf"config\.{key} \(.* there, {value} here\); choose another --workdir"
  with pytest.raises(InputError, match=said):
    run_record.check_same_run(run, earlier, tmp_path)


def test_another_data_set_is_refused_by_key(tmp_path):
  run = described()
  earlier = copy.deepcopy(run)
  earlier["dataset"]["seq_len"] += 1
  with pytest.raises(InputError, match=r"configuration: dataset\.seq_len \("):
    run_record.check_same_run(run, earlier, tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_of_another_content_are_refused(split, tmp_path):
  run = described()
  earlier = copy.deepcopy(run)
  earlier["digests"][split] = "c3"
  with pytest.raises(InputError, match=rf"digests\.{split} \(c3 there, "):
    run_record.check_same_run(run, earlier, tmp_path)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("log_every", 3),
    ("num_steps", 10),
    ("checkpoint_interval", 1),
    ("data.path", "elsewhere"),
    ("model.remat", True),
    ("model.unroll", True),
    ("mesh.reduce_dtype", "bfloat16"),
    ("rows_at_once", 1),
  ],
)
def test_other_changes_pass_and_are_recorded(key, value, tmp_path):
  run, earlier = described(**{key: value}), described()
  run_record.check_same_run(run, earlier, tmp_path)
  run_record.take_over(run, earlier, step=5)
  ((change, values),) = run["changes"][-1]["keys"].items()
  assert (run["changes"][-1]["step"], change) == (5, f"config.{key}")
  assert values.endswith(f" there, {value} here")


def test_a_full_disk_costs_no_more_than_what_people_read(tmp_path, monkeypatch):
  def full_disk(*_):
    raise OSError(28, "No space left on device")

  lines = []
  monkeypatch.setattr(run_record.log, "warning", lines.append)
  monkeypatch.setattr(run_record.atomic_file, "write_json", full_disk)
  run_record.write_description(tmp_path, described())
  (line,) = lines
  assert "versions.json are not written (No space left on device)" in line


def test_one_evaluation_at_the_end_can_be_said_in_two_ways(tmp_path):
  earlier = described(eval_interval=128)
  run = copy.deepcopy(earlier)
  assert earlier["config"]["epochs"] == 128
  run["config"]["eval_interval"] = None
  run_record.check_same_run(run, earlier, tmp_path)
  run_record.take_over(run, earlier, step=5)
  assert run["changes"] == []


def test_the_usual_puzzle_embedding_can_be_said_in_two_ways(tmp_path):
  earlier = described()
  run = copy.deepcopy(earlier)
  model = run["config"]["model"]
  assert model["puzzle_emb_ndim"] is None
  model["puzzle_emb_ndim"] = model["hidden_size"]
  run_record.check_same_run(run, earlier, tmp_path)
  model["puzzle_emb_ndim"] += 1
  with pytest.raises(InputError, match="puzzle_emb_ndim"):
    run_record.check_same_run(run, earlier, tmp_path)


def test_a_run_that_ended_early_goes_on_with_another_bound():
  earlier = described(early_stop_train_accuracy=0.5) | {"ended": "early_stop"}
  same = described(early_stop_train_accuracy=0.5)
  run_record.take_over(same, earlier, step=5)
  assert same["ended"] == "early_stop"
  other = described(early_stop_train_accuracy=0.9)
  run_record.take_over(other, earlier, step=5)
  assert other["ended"] is None


def test_a_data_set_must_fit_the_weights():
  run = described()
  run_record.check_fits_data(run, METADATA, "here")
  run["dataset"]["vocab_size"] -= 1
  with pytest.raises(InputError, match=r"^here: vocab_size is \d+, but"):
    run_record.check_fits_data(run, METADATA, "here")


def test_data_are_found_from_home_or_from_where_the_command_runs(
  tmp_path, monkeypatch
):
  (tmp_path / "sets" / "a").mkdir(parents=True)
  (tmp_path / "run" / "data").mkdir(parents=True)
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.chdir(tmp_path / "sets")
  run = tmp_path / "run"
  assert run_record.find_data("", run) == run / "data"
  assert run_record.find_data("~/sets/a", run) == tmp_path / "sets" / "a"
  assert run_record.find_data("a", run).samefile(tmp_path / "sets" / "a")
  config = base()
  config.data.path = "~/sets/a"
  assert run_record.data_directory(config, run) == tmp_path / "sets" / "a"


def test_data_that_are_not_where_they_were_are_named_with_the_way_out(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError) as error:
    run_record.find_data("sets/b", tmp_path)
  said = str(error.value)
  assert said.startswith(f"{tmp_path}/sets/b: no such directory; ")
  assert "config.data.path=sets/b, " in said
  assert said.endswith("--data=DIR.")
  with pytest.raises(InputError, match=r"trained on WORKDIR/data, .*--data="):
    run_record.find_data("", tmp_path)

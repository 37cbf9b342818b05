"""New runs that begin with the weights of a model, and table-only training."""

import json
import shutil

import jax
import numpy as np
import pytest

from hrm_jax.checkpoint import model_folder, torch_commands
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.train import __main__ as train_command
from hrm_jax.train.init_from import InitFrom
from hrm_jax.train.loop import train
from tests.commands import Commands, files_of
from tests.runs import read_state, steps_of
from tests.tiny import tiny_config


@pytest.fixture
def folder(exported, tmp_path):
  """A copy of it, to be changed."""
  return shutil.copytree(exported, tmp_path / "model")


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def config_of(data, **overrides):
  overrides = {"num_steps": 2, **overrides}
  return tiny_config(**{"data.path": str(data), **overrides})


def with_names(folder, names, table):
  """Gives a folder a table of other rows."""
  from safetensors.numpy import load_file, save_file

  path = folder / "model.safetensors"
  save_file({**load_file(path), "puzzle_emb": table}, path)
  config = json.loads((folder / "config.json").read_text())
  config["run"]["dataset"]["num_puzzle_identifiers"] = len(names)
  (folder / "identifiers.json").write_text(json.dumps(names))
  model_folder.write_config(folder, config["step"], config["run"])


def many_puzzles(tiny_run, root, names):
  """The run's data set, with its puzzles under several names."""
  shutil.copytree(tiny_run / "data", root)
  for split in ("train", "test"):
    path = root / split / "dataset.json"
    metadata = json.loads(path.read_text())
    metadata["num_puzzle_identifiers"] = len(names)
    path.write_text(json.dumps(metadata))
    ids = root / split / "all__puzzle_identifiers.npy"
    count = len(np.load(ids))
    np.save(ids, np.arange(count, dtype=np.int32) % len(names))
  (root / "identifiers.json").write_text(json.dumps(names))
  return root


def test_a_run_begins_with_the_scores_of_its_model_bit_for_bit(
  tiny_run, exported, tmp_path
):
  source = load(tiny_run)
  result = train(
    # Another seed, batch order and schedule: only the weights are the same.
    config_of(tiny_run / "data", seed=3, lr=1e-3),
    tmp_path / "run",
    init_from=InitFrom(str(exported)),
  )
  assert result["step"] == 2
  assert steps_of(tmp_path / "run") == [0, 2]
  first = load(tmp_path / "run", 0)
  evaluation = first.run["evaluation"]
  assert evaluation["step"] == 0
  want = source.run["evaluation"]
  assert evaluation["sets"] == want["sets"]
  assert (
    evaluation["exact_accuracy_by_segment"] == want["exact_accuracy_by_segment"]
  )
  for got, expected in zip(
    jax.tree.leaves(first.weights), jax.tree.leaves(source.weights), strict=True
  ):
    np.testing.assert_array_equal(got, expected, strict=True)
  state = read_state(tmp_path / "run", 0)
  moments = [v for k, v in state.items() if "opt_state" in k and v.ndim]
  assert moments
  assert not any(value.any() for value in moments)
  digest = model_folder.describe(exported).files["model.safetensors"]["sha256"]
  assert load(tmp_path / "run").run["init_from"] == {
    "model": str(exported),
    "given": str(exported),
    "sha256": digest,
    "step": 10,
    "table": "keep",
    "rows": 1,
  }


def test_a_run_that_resumes_does_not_read_the_model_again(
  tiny_run, folder, tmp_path
):
  workdir, data = tmp_path / "run", tiny_run / "data"
  start = InitFrom(str(folder))
  train(config_of(data, num_steps=1), workdir, init_from=start)
  shutil.rmtree(folder)
  again = InitFrom(str(folder))
  result = train(config_of(data, num_steps=2), workdir, init_from=again)
  assert result["step"] == 2
  assert train(config_of(data, num_steps=3), workdir)["step"] == 3
  assert load(workdir).run["init_from"]["given"] == str(folder)
  with pytest.raises(InputError, match=f"began from {folder}, and goes on"):
    train(config_of(data), workdir, init_from=InitFrom(str(tmp_path / "b")))
  shutil.copytree(tiny_run / "checkpoints", tmp_path / "c" / "checkpoints")
  start = InitFrom(str(tmp_path / "b"))
  with pytest.raises(InputError, match="began with random weights, and goes"):
    train(config_of(data), tmp_path / "c", init_from=start)


def test_the_table_alone_moves_and_nothing_else_by_one_bit(
  tiny_run, folder, tmp_path
):
  names = ["<blank>", "a", "b"]
  rng = np.random.default_rng(0)
  with_names(folder, names, rng.normal(size=(3, 16)).astype(np.float32))
  data = many_puzzles(tiny_run, tmp_path / "data", names)
  train(
    config_of(data, train_only="puzzle_emb", num_steps=30, epochs=16),
    tmp_path / "run",
    init_from=InitFrom(str(folder)),
  )
  before, after = (read_state(tmp_path / "run", step) for step in (0, 30))
  moved = {
    name for name in before if before[name].tobytes() != after[name].tobytes()
  }
  assert {name for name in moved if "weights" in name or "opt" in name} == {
    name
    for name in before
    if "puzzle_table" in name or "table_opt_state" in name
  }
  table = next(v for k, v in after.items() if "puzzle_table" in k)
  first = next(v for k, v in before.items() if "puzzle_table" in k)
  assert (table[:3] != first[:3]).any(1).all()
  assert not table[3:].any()


def test_the_table_moves_alone_as_it_would_in_company(tiny_run, tmp_path):
  # After one update: the gradient of the rows does not depend on what else
  # moves.
  tables = []
  for what in ("all", "puzzle_emb"):
    workdir = tmp_path / what
    config = config_of(tiny_run / "data", train_only=what, num_steps=1)
    result = train(config, workdir)
    assert ("train/grad_norm" in result["train"]) == (what == "all")
    state = read_state(workdir, 1)
    tables.append(next(v for k, v in state.items() if "puzzle_table" in k))
  assert tables[0].any()
  np.testing.assert_array_equal(*tables)


def test_later_all_may_move(tiny_run, tmp_path):
  data = tiny_run / "data"
  train(config_of(data, train_only="puzzle_emb", num_steps=2), tmp_path / "a")
  train(config_of(data, num_steps=3), tmp_path / "a")
  two, three = (read_state(tmp_path / "a", step) for step in (2, 3))
  name = next(k for k in two if "lm_head" in k and "weights" in k)
  assert (two[name] != three[name]).any()


def test_without_a_table_nothing_could_move(tiny_run, tmp_path):
  config = config_of(tiny_run / "data", train_only="puzzle_emb")
  config.model.puzzle_emb_ndim = 0
  with pytest.raises(
    InputError, match=r"config\.train_only: expected all with"
  ):
    train(config, tmp_path / "run")


def test_rows_go_where_their_names_are(tiny_run, folder, tmp_path, lines):
  rng = np.random.default_rng(1)
  table = rng.normal(size=(3, 16)).astype(np.float32)
  with_names(folder, ["<blank>", "a", "b"], table)
  data = many_puzzles(tiny_run, tmp_path / "data", ["<blank>", "b", "new", "a"])
  zero = np.zeros_like(table[0])

  def first_rows(rule):
    workdir = tmp_path / "runs" / rule.partition("=")[0]
    shutil.rmtree(workdir, ignore_errors=True)
    start = InitFrom(str(folder), rule)
    train(config_of(data, num_steps=1), workdir, init_from=start)
    trained = load(workdir, 0)
    table = np.asarray(trained.weights.puzzle_table)
    assert not table[4:].any()
    return table[:4], trained.run["init_from"]

  rows, record = first_rows("map")
  np.testing.assert_array_equal(rows, [table[0], table[2], zero, table[1]])
  assert (record["table"], record["rows"]) == ("map", 3)
  assert any("puzzle table: map, 3 of 4 rows" in line for line in lines)
  rows, record = first_rows("reset")
  assert not rows.any()
  assert (record["table"], record["rows"]) == ("reset", 0)
  # A list of names takes the place of the model's own.
  names = tmp_path / "names.json"
  names.write_text(json.dumps(["new", "b", "x"]))
  rows, _ = first_rows(f"map={names}")
  np.testing.assert_array_equal(rows, [zero, table[1], table[0], zero])


def test_a_table_that_nobody_can_place_is_refused(tiny_run, folder, tmp_path):
  data = many_puzzles(tiny_run, tmp_path / "data", ["<blank>", "a", "b"])
  config, workdir = config_of(data), tmp_path / "run"

  def refused(rule):
    with pytest.raises(InputError) as error:
      train(config, workdir, init_from=InitFrom(str(folder), rule))
    assert not (workdir / "checkpoints").exists()
    return str(error.value)

  message = refused(None)
  assert "its puzzle table has 1 row of other puzzles" in message
  assert "choose --table=map (rows go where their names are), reset" in message
  assert "has, 1, got 3 in" in refused("keep")
  (folder / "identifiers.json").write_text('["other"]')
  with_names(folder, ["other"], np.zeros((1, 16), np.float32))
  assert "none of the 3 names here is one of" in refused("map")
  (folder / "identifiers.json").unlink()
  saved = json.loads((folder / "config.json").read_text())
  model_folder.write_config(folder, saved["step"], saved["run"])
  assert "does not name the rows of its table; choose --table=ma" in (
    refused("map")
  )
  assert "has 1 row of unknown puzzles" in refused(None)
  names = tmp_path / "names.json"
  names.write_text('["a", "b"]')
  assert "expected a list of 1 name, got 2." in refused(f"map={names}")
  names.write_text("[")
  assert f"--table=map={names}: cannot be read" in refused(f"map={names}")


def test_another_size_is_refused_with_its_keys(tiny_run, folder, tmp_path):
  config = config_of(tiny_run / "data")
  config.model.hidden_size, config.model.L_layers = 32, 2
  with pytest.raises(InputError) as error:
    train(config, tmp_path / "run", init_from=InitFrom(str(folder)))
  assert str(error.value) == (
    f"--init-from={folder}: its weights do not fit this run: "
    "config.model.L_layers (1 there, 2 here), config.model.hidden_size "
    "(16 there, 32 here), config.model.puzzle_emb_ndim (16 there, 32 here)."
  )
  other = shutil.copytree(tiny_run / "data", tmp_path / "data")
  for split in ("train", "test"):
    path = other / split / "dataset.json"
    path.write_text(
      json.dumps({**json.loads(path.read_text()), "vocab_size": 9})
    )
  with pytest.raises(InputError, match=r"dataset.vocab_size \(6 there, 9 here"):
    train(config_of(other), tmp_path / "run", init_from=InitFrom(str(folder)))
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_command_leaves_nothing_where_it_cannot_begin(
  tiny_run, folder, tmp_path, command
):
  workdir = tmp_path / "run"
  flags = "--config=tests/tiny.py", f"--workdir={workdir}"
  message = command.error(train_command, *flags, f"--init-from={tmp_path}/no")
  assert message == f"--init-from={tmp_path}/no: no such folder."
  message = command.error(train_command, *flags, "--table=reset")
  assert message.startswith("--table=reset: expected --init-from=MODEL too")
  for rule in ("drop", "map=", "keep=x", ""):
    message = command.error(
      train_command, *flags, f"--init-from={folder}", f"--table={rule}"
    )
    assert f"expected keep, reset, map or map=FILE, got '{rule}'" in message
  # Its rows have no names; the data are not generated to find that out.
  torch_commands.export(tiny_run, None, tmp_path / "theirs")
  theirs = f"--init-from={tmp_path}/theirs"
  message = command.error(train_command, *flags, theirs, "--table=map")
  assert "theirs does not name the rows of its table; choose" in message
  message = command.error(train_command, *flags, theirs, "--table=map=/none")
  assert message.startswith("--table=map=/none: cannot be read (")
  assert command.error(train_command, *flags, theirs) == (
    f"{theirs}: its puzzle table has 1 row of unknown puzzles, and the data "
    "set to be generated has 1 identifier; choose --table=map (rows go where "
    "their names are), reset (all start at zero) or keep (by their numbers)."
  )
  shutil.copy(tmp_path / "theirs/step_10", tmp_path / "theirs/checkpoint")
  message = command.error(train_command, *flags, theirs)
  assert message.startswith(f"{theirs}: expected one checkpoint, got checkpoi")
  assert not workdir.exists()
  before = files_of(folder)
  result = command(
    train_command,
    *flags,
    f"--init-from={folder}",
    f"--config.data.path={tiny_run}/data",
    "--config.num_steps=1",
  )
  assert result["step"] == 1
  assert files_of(folder) == before


def test_a_run_begins_with_a_model_of_the_reference(
  tiny_run, tmp_path, command
):
  torch_commands.export(tiny_run, None, tmp_path / "theirs")
  data = tiny_run / "data"
  result = command(
    evaluate, f"--model={tmp_path}/theirs", f"--data={data}", "--halt=full"
  )
  want = load(tiny_run).run["evaluation"]
  assert result["sets"] == want["sets"]
  assert result["step"] == 10
  start = InitFrom(str(tmp_path / "theirs"), "keep")
  train(config_of(data, num_steps=1), tmp_path / "run", init_from=start)
  run = load(tmp_path / "run", 0).run
  assert run["evaluation"]["sets"] == want["sets"]
  assert run["init_from"]["step"] == 10
  # Its rows have no names, and nobody guesses.
  start = InitFrom(str(tmp_path / "theirs"))
  with pytest.raises(InputError, match="has 1 row of unknown puzzles"):
    train(config_of(data), tmp_path / "other", init_from=start)
  # Two of them in one folder, and none.
  shutil.copy(tmp_path / "theirs/step_10", tmp_path / "theirs/checkpoint")
  flags = f"--model={tmp_path}/theirs", f"--data={data}"
  message = command.error(evaluate, *flags)
  assert "expected one checkpoint, got checkpoint, step_10; make a" in message
  (tmp_path / "theirs/checkpoint").unlink()
  (tmp_path / "theirs/all_config.yaml").unlink()
  assert "all_config.yaml: no such file" in command.error(evaluate, *flags)

"""Checkpoints of the reference become runs, runs become theirs."""

import dataclasses
import hashlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.checkpoint import __main__ as checkpoint
from hrm_jax.checkpoint import (
  saved_steps,
  torch_commands,
  torch_config,
  torch_file,
  torch_import,
  torch_names,
)
from hrm_jax.checkpoint.load import load
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.config import base
from hrm_jax.console import InputError, RunError
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.solve import __main__ as solve
from tests import runs
from tests.commands import Commands, files_of
from tests.torch_checkpoints import import_file, set_keys, write_data
from tests.toys import METADATA, toy_batch, toy_model, toy_weights

TABLE = torch_names.TABLE
GATE = "model.inner.H_level.layers.0.mlp.gate_up_proj.weight"


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
  """The tiny run as the reference would have saved it; leave it as it is."""
  out = tmp_path_factory.mktemp("exported") / "for_torch"
  result = torch_commands.export(tiny_run, None, out)
  assert result["files"] == ["all_config.yaml", "step_10"]
  assert result["not_exported"] == {}
  return out


@pytest.fixture
def theirs(tmp_path, exported):
  """A copy of it, to be changed."""
  return shutil.copytree(exported, tmp_path / "theirs")


@pytest.fixture
def toy(tmp_path):
  """A toy network with six identifiers and two blocks, and its data set."""
  model = toy_model(H_layers=2)
  weights = toy_weights(model)
  table = weights.puzzle_table[: METADATA.num_puzzle_identifiers]
  named = torch_names.to_reference(weights._replace(puzzle_table=table))
  folder = tmp_path / "toy"
  folder.mkdir()
  torch_file.write(folder / "step_3", named)
  (folder / "all_config.yaml").write_text(toy_yaml(model))
  write_data(tmp_path / "data", METADATA, toy_batch())
  return folder / "step_3"


def toy_yaml(model):
  config = base()
  for name in config.model:
    if name != "unroll":
      with config.ignore_type():
        config.model[name] = getattr(model, name)
  config.global_batch_size, config.epochs = 4, 10
  return torch_config.to_text(config, "data")


def rewrite(path, change):
  """Changes the tensors of a file."""
  named = torch_file.read(path)
  change(named)
  torch_file.write(path, named)


def error_of(file, workdir, **flags):
  """The one line with which an import is refused; nothing is written."""
  with pytest.raises(InputError) as error:
    import_file(file, workdir, **flags)
  assert not workdir.exists()
  message = str(error.value)
  assert message.isprintable()
  return message


def assert_same(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    assert one.dtype == other.dtype
    assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


# ------------------------------------------------------------ there and back


def test_what_is_exported_is_imported_bit_for_bit(tmp_path, tiny_run, exported):
  result = import_file(exported / "step_10", tmp_path / "run")
  assert (result["step"], result["prefix"]) == (10, "")
  assert result["puzzle"] == "sudoku"
  got, want = load(tmp_path / "run"), load(tiny_run)
  assert_same(got.weights, want.weights)
  assert got.step == want.step
  assert got.metadata == want.metadata
  assert got.model == want.model.clone(puzzle_emb_ndim=16)
  for key in ("loss", "lr", "beta2", "epochs", "eval_interval", "seed"):
    assert got.config[key] == want.config[key], key
  assert got.run["digests"] == want.run["digests"]
  again = tmp_path / "again"
  torch_commands.export(tmp_path / "run", None, again)
  assert (again / "step_10").read_bytes() == (exported / "step_10").read_bytes()
  one, other = (
    (path / "all_config.yaml").read_text() for path in (again, exported)
  )
  assert one == other


def test_an_imported_run_is_one_to_every_command(
  tmp_path, tiny_run, theirs, command
):
  workdir = tmp_path / "run"
  result = command(
    checkpoint, "import", theirs / "step_10", f"--workdir={workdir}"
  )
  assert result["unused"] == [
    "checkpoint_path",
    "eval_save_outputs",
    "project_name",
    "run_name",
  ]
  weights = load(tiny_run).weights.params
  assert result["parameters"] == sum(x.size for x in jax.tree.leaves(weights))
  assert command(checkpoint, "verify", workdir)["ok"]
  (row,) = command(checkpoint, "list", workdir)["steps"]
  assert (row["step"], row["complete"]) == (10, True)
  got, want = (
    command(evaluate, f"--workdir={run}")["sets"] for run in (workdir, tiny_run)
  )
  assert got == want
  assert got["all"]["count"] == 27
  solved = command(solve, f"--workdir={workdir}", "--json", ".41..3.231....31")
  assert len(solved["puzzles"]) == 1


def test_a_compilers_prefix_is_left_out(tmp_path, exported, theirs):
  path = theirs / "step_10"
  torch_file.write(
    path,
    {f"_orig_mod.{name}": x for name, x in torch_file.read(path).items()},
  )
  result = import_file(path, tmp_path / "run")
  assert result["prefix"] == "_orig_mod."
  import_file(exported / "step_10", tmp_path / "plain")
  assert_same(load(tmp_path / "run").weights, load(tmp_path / "plain").weights)
  rewrite(path, lambda t: t.update({GATE: t[f"_orig_mod.{GATE}"].copy()}))
  message = error_of(path, tmp_path / "other")
  assert f"tensor '_orig_mod.{GATE}' is there twice" in message or (
    f"tensor '{GATE}' is there twice" in message
  )


def test_training_goes_on_with_fresh_optimisers(tmp_path, tiny_run, exported):
  workdir = tmp_path / "run"
  import_file(exported / "step_10", workdir)
  before = load(workdir).weights
  # As the file has it, but for the generator's keys, which it lacks.
  data = {"data.path": str(tiny_run / "data"), "data.generate": False}
  data |= {"data.num_train": 1000, "data.num_test": 1024, "data.num_aug": 0}
  result = runs.train_tiny(workdir, epochs=8, num_steps=11, **data)
  assert result["step"] == 11
  assert saved_steps.all_steps(workdir / "checkpoints") == [10, 11]
  state = runs.read_state(workdir, 11)
  counts = {
    key: int(value) for key, value in state.items() if key.endswith("['count']")
  }
  # Adam's moments are one update old, the learning rates eleven.
  assert sorted(counts.values()) == [1, 11, 11]
  assert int(state["['step']"]) == 11
  after = load(workdir).weights
  moved = jax.tree.map(
    lambda a, b: float(jnp.abs(a - b).max()), before.params, after.params
  )
  lr = load(workdir).config.lr
  # No further than Adam-atan2 goes in one update; the decay adds a little.
  assert 0 < max(jax.tree.leaves(moved)) < 2 * lr
  run = saved_steps.read_run(workdir / "checkpoints", 11)
  assert run["imported"]["file"] == "step_10"
  assert "weights_only" not in run


# ------------------------------------------------------ what does not fit


def test_every_tensor_that_does_not_fit_is_named_at_once(tmp_path, toy):
  def change(tensors):
    del tensors["model.inner.q_head.bias"]
    del tensors["model.inner.H_init"]
    tensors[GATE] = tensors[GATE][:-1]
    tensors["model.inner.extra"] = np.zeros(3, np.float32)

  rewrite(toy, change)
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert (
    "missing: model.inner.H_init, model.inner.q_head.bias; of another shape: "
    f"{GATE} (expected [512, 16], got [511, 16]); left over: "
    "model.inner.extra."
  ) in message


def test_a_long_list_of_tensors_is_cut(tmp_path, toy):
  rewrite(
    toy,
    lambda tensors: tensors.update(
      {f"model.x{i}": np.zeros(1, np.float32) for i in range(40)}
    ),
  )
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert message.endswith("and 28 more.")


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (
      lambda x: x * np.float32(np.nan),
      f"tensor '{GATE}': expected finite numbers",
    ),
    (
      lambda x: x.astype(np.float64),
      "expected one of float32, bfloat16, float16, got float64",
    ),
  ],
)
def test_numbers_that_cannot_be_weights_are_refused(
  tmp_path, toy, change, said
):
  rewrite(toy, lambda tensors: tensors.update({GATE: change(tensors[GATE])}))
  assert said in error_of(toy, tmp_path / "run", data=tmp_path / "data")


def test_bits_of_the_initial_states_are_not_lost_silently(tmp_path, toy):
  set_keys(toy.parent / "all_config.yaml", arch__forward_dtype="bfloat16")
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert "_init': expected numbers of bfloat16, as arch.forward_dty" in message


def test_the_depth_is_compared_before_a_network_is_built(tmp_path, toy):
  set_keys(toy.parent / "all_config.yaml", arch__L_layers=2_000_000_000)
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert "expected 2,000,000,000 layers in L_level" in message
  assert message.endswith("got 1.")


def test_a_workdir_with_a_run_is_left_alone(trained, exported):
  before = files_of(trained)
  with pytest.raises(InputError, match="got one with step 10; choose another"):
    import_file(exported / "step_10", trained)
  assert files_of(trained) == before


# ---------------------------------------------------------- all_config.yaml


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"arch__num_heads": None}, "key 'arch.num_heads' is missing."),
    ({"lr": None}, "key 'lr' is missing."),
    (
      {"arch__num_heads": "many"},
      "key 'arch.num_heads': expected a whole number, at least 1 and below "
      "2**31, got 'many'.",
    ),
    ({"arch__num_heads": True}, "key 'arch.num_heads': expected a whole"),
    ({"arch__num_heads": [1]}, "key 'arch.num_heads': expected a whole"),
    ({"arch__num_heads": 3}, "expected a divisor of hidden_size=16, got 3"),
    ({"arch__pos_encodings": "sine"}, "expected one of rope, learned, none"),
    ({"arch__loss__loss_type": "l2"}, "key 'arch.loss.loss_type': expected"),
    ({"arch__name": "a@B"}, "key 'arch.name': expected hrm.hrm_act_v1@"),
    ({"arch": 3}, "key 'arch.name': expected hrm.hrm_act_v1@"),
    ({"epochs": 10, "eval_interval": 3}, "expected a multiple of"),
    ({"lr": float("nan")}, "key 'lr': expected a number"),
  ],
)
def test_a_key_that_makes_no_sense_is_named(tmp_path, toy, changes, said):
  path = toy.parent / "all_config.yaml"
  set_keys(path, **changes)
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert said in message
  if "hidden_size" not in said:
    assert message.startswith(f"{path}: ")


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("a: [", "not valid YAML"),
    ("- a", "expected keys and values"),
    ("!!python/object/apply:os.system ['touch {mark}']", "not valid YAML"),
    ("a: 2001-99-99", "not valid YAML"),
    ("[" * 5000, "not valid YAML"),
    (b"a: \x80", "not valid YAML"),
    ("a: " + "x" * 2**20, "expected at most 1,048,576 bytes"),
  ],
)
def test_what_is_no_configuration_is_one_line(tmp_path, toy, text, said):
  path = toy.parent / "all_config.yaml"
  mark = tmp_path / "mark"
  if isinstance(text, str):
    text = text.replace("{mark}", str(mark)).encode()
  path.write_bytes(text)
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert message.startswith(f"{path}: {said}")
  assert not mark.exists()


def test_repeated_parts_of_a_configuration_are_not_written_out(tmp_path, toy):
  path = toy.parent / "all_config.yaml"
  bomb = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
  )
  path.write_text(path.read_text() + bomb)
  assert len(torch_config.read(path).unused) == 44


def test_without_a_configuration_all_that_is_needed_is_said(tmp_path, toy):
  path = toy.parent / "all_config.yaml"
  elsewhere = path.rename(tmp_path / "other.yaml")
  message = error_of(toy, tmp_path / "run", data=tmp_path / "data")
  assert message.startswith(f"{path}: no such file.")
  for key in ("arch.num_heads", "arch.loss.loss_type", "lr", "epochs"):
    assert re.search(rf"[ ,]{re.escape(key)}[,.]", message)
  data = tmp_path / "data"
  import_file(toy, tmp_path / "run", config=elsewhere, data=data)


def test_numbers_are_read_as_the_reference_reads_them(tmp_path, toy):
  path = toy.parent / "all_config.yaml"
  text = path.read_text().replace("lr: 0.0001\n", "lr: 1e-4\n")
  text = text.replace("expansion: 1.0", "expansion: 1")
  assert "lr: 1e-4" in text
  path.write_text(text)
  config = torch_config.read(path).config
  assert (config.lr, config.model.expansion) == (1e-4, 1.0)


def test_what_the_reference_leaves_out_has_its_defaults(tmp_path, toy):
  path = toy.parent / "all_config.yaml"
  names = ("rms_norm_eps", "rope_theta", "forward_dtype", "puzzle_emb_ndim")
  set_keys(path, **{f"arch__{name}": None for name in names})
  model = torch_config.read(path).config.model
  assert [model[name] for name in names] == [1e-5, 10000.0, "bfloat16", 0]


def test_keys_that_mean_nothing_here_are_named(tmp_path, toy, lines):
  path = toy.parent / "all_config.yaml"
  set_keys(path, arch__mlp="no", entity="x")
  import_file(toy, tmp_path / "run", data=tmp_path / "data")
  (line,) = (line for line in lines if "mean nothing here" in line)
  assert "arch.mlp, " in line
  assert "entity, " in line


# ------------------------------------------------------ data, step and table


def test_without_data_the_number_of_cells_must_be_given(tmp_path, toy):
  message = error_of(toy, tmp_path / "run")
  assert "with --data=DIR (to import the file as a run, --seq-len=N" in message
  result = import_file(toy, tmp_path / "run", seq_len=METADATA.seq_len)
  assert result["puzzle"] is None
  trained = load(tmp_path / "run")
  assert trained.metadata.vocab_size == METADATA.vocab_size
  assert trained.metadata.seq_len == METADATA.seq_len
  assert trained.metadata.num_puzzle_identifiers == 6
  with pytest.raises(InputError, match="either this or --data, got both"):
    import_file(toy, tmp_path / "x", seq_len=5, data=tmp_path / "data")


def test_another_vocabulary_is_told_by_the_shapes(tmp_path, toy):
  other = dataclasses.replace(METADATA, vocab_size=9)
  write_data(tmp_path / "other", other, toy_batch())
  message = error_of(toy, tmp_path / "run", data=tmp_path / "other")
  assert "lm_head.weight (expected [9, 16], got [7, 16])" in message


def test_the_step_is_that_of_the_name(tmp_path, toy, lines):
  data = tmp_path / "data"
  assert import_file(toy, tmp_path / "a", data=data)["step"] == 3
  assert import_file(toy, tmp_path / "b", data=data, step=9)["step"] == 9
  other = toy.rename(toy.parent / "checkpoint")
  lines.clear()
  assert import_file(other, tmp_path / "c", data=data)["step"] == 0
  assert any("it becomes step 0, or say --step=N" in line for line in lines)


def other_data(tmp_path, count, names=None):
  """A data set like the toy's, with another number of identifiers."""
  other = dataclasses.replace(METADATA, num_puzzle_identifiers=count)
  batch = toy_batch()
  batch["puzzle_identifiers"] = batch["puzzle_identifiers"] % min(count, 6)
  return write_data(tmp_path / "other", other, batch, names)


def rows_of(workdir):
  trained = load(workdir)
  count = trained.metadata.num_puzzle_identifiers
  table = np.asarray(trained.weights.puzzle_table)
  assert not table[count:].any()
  assert len(table) % 1024 == 0
  return table[:count]


def test_a_table_of_other_identifiers_needs_a_word(tmp_path, toy):
  data = other_data(tmp_path, 8)
  message = error_of(toy, tmp_path / "run", data=data)
  assert "its puzzle table has 6 rows" in message
  assert "has 8 puzzle identifiers" in message
  for way in ("--table=keep", "--table=reset", "--table=map=identifiers.json"):
    assert way in message
  assert "\n" not in message


@pytest.mark.parametrize("count", [4, 8])
def test_a_table_is_kept(tmp_path, toy, count):
  theirs = torch_file.read(toy)[TABLE]
  data = other_data(tmp_path, count)
  result = import_file(toy, tmp_path / "run", data=data, table="keep")
  assert result["table"] == {
    "policy": "keep",
    "rows_in_file": 6,
    "rows": max(count, 6),
    "rows_taken": 6,
  }
  rows = rows_of(tmp_path / "run")
  np.testing.assert_array_equal(rows[:6], theirs)
  assert rows.shape[0] == max(count, 6)
  assert not rows[6:].any()


@pytest.mark.parametrize("count", [4, 6])
def test_a_table_is_reset(tmp_path, toy, count):
  data = other_data(tmp_path, count)
  result = import_file(toy, tmp_path / "run", data=data, table="reset")
  assert result["table"]["rows_taken"] == 0
  rows = rows_of(tmp_path / "run")
  assert rows.shape[0] == count
  assert not rows.any()


def test_a_table_is_mapped_by_names(tmp_path, toy):
  theirs = torch_file.read(toy)[TABLE]
  data = other_data(tmp_path, 4, ["<blank>", "new", "d", "b"])
  names = tmp_path / "names.json"
  names.write_text(json.dumps(["<blank>", "a", "b", "c", "d", "e"]))
  how = f"map={names}"
  result = import_file(toy, tmp_path / "run", data=data, table=how)
  assert (result["table"]["rows"], result["table"]["rows_taken"]) == (4, 3)
  want = np.zeros_like(theirs[:4])
  want[[0, 2, 3]] = theirs[[0, 4, 2]]
  np.testing.assert_array_equal(rows_of(tmp_path / "run"), want)


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (["a"] * 6, "expected a list of 6 different names"),
    (["a", "b"], "expected a list of 6 different names"),
    ({"a": 1}, "expected a list of 6 different names"),
    (list("uvwxyz"), "none of its 6 names is one of"),
  ],
)
def test_names_that_are_not_those_of_the_rows_are_refused(
  tmp_path, toy, content, said
):
  names = tmp_path / "names.json"
  names.write_text(json.dumps(content))
  data = other_data(tmp_path, 4)
  how = f"map={names}"
  message = error_of(toy, tmp_path / "run", data=data, table=how)
  assert message.startswith(f"{names}: ")
  assert said in message


def test_a_word_about_a_table_that_is_not_there_is_refused(tmp_path, toy):
  set_keys(toy.parent / "all_config.yaml", arch__puzzle_emb_ndim=0)
  rewrite(toy, lambda tensors: tensors.pop(TABLE))
  data = tmp_path / "data"
  message = error_of(toy, tmp_path / "run", data=data, table="reset")
  assert "has no puzzle table" in message
  result = import_file(toy, tmp_path / "run", data=data)
  assert result["table"] is None


# --------------------------------------------------------------- the commands


def test_flags_that_mean_nothing_are_refused(tmp_path, tiny_run, toy, command):
  export = ("export", f"--workdir={tiny_run}", "--format=torch")
  out = f"--out={tmp_path / 'out'}"
  message = command.error(checkpoint, *export, out, "--license=mit")
  assert "--license: means nothing with --format=torch" in message
  flags = ("import", toy, f"--workdir={tmp_path / 'run'}")
  for flag in ("--seq-len=0", "--step=-1", "--table=map=", "--table=x"):
    assert flag.split("=")[0] in command.error(checkpoint, *flags, flag)


def test_an_export_replaces_nothing(tmp_path, tiny_run, theirs, command):
  before = files_of(theirs)
  message = command.error(
    checkpoint,
    "export",
    f"--workdir={tiny_run}",
    f"--out={theirs}",
    "--format=torch",
  )
  assert "expected a folder that holds nothing, got one with" in message
  assert files_of(theirs) == before


def test_what_the_reference_has_no_word_for_is_told():
  config = base()
  assert torch_config.without_words(config) == {}
  config.model.q_target, config.loss.q_weight = "none", 0.25
  assert torch_config.without_words(config) == {
    "config.model.q_target": "none",
    "config.loss.q_weight": 0.25,
  }


def test_a_disk_that_refuses_leaves_an_error(tmp_path, toy, monkeypatch):
  monkeypatch.setattr(Checkpoints, "_has_room", lambda *_: False)
  with pytest.raises(RunError, match="is not saved"):
    import_file(toy, tmp_path / "run", data=tmp_path / "data")
  assert not saved_steps.all_steps(tmp_path / "run" / "checkpoints")


def test_the_kind_of_puzzles_is_recorded(tiny_run):
  run = saved_steps.read_run(tiny_run / "checkpoints", 10)
  assert run["puzzle"] == "sudoku"


def test_a_run_record_says_where_the_weights_came_from(toy, tmp_path):
  found = torch_import.read(toy, data=tmp_path / "data")
  assert found.run["imported"] == found.notes
  digest = hashlib.sha256(toy.read_bytes()).hexdigest()
  assert found.notes["sha256"] == digest

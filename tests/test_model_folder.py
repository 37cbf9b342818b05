"""What is exported comes back bit for bit, and nothing else gets in."""

import json
import os
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file, save_file

from hrm_jax.arc_vote import __main__ as arc_vote
from hrm_jax.checkpoint import __main__ as checkpoint
from hrm_jax.checkpoint import model_folder, published, safetensors_file
from hrm_jax.checkpoint.export import export
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.solve import __main__ as solve
from tests.commands import Commands, files_of
from tests.toys import random_like, toy_model, weight_shapes
from tests.untrained import write_run

PUZZLE = "1....2.3..4.2..."


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
  """The tiny run as a folder; leave it as it is."""
  out = tmp_path_factory.mktemp("exported") / "model"
  export(tiny_run, None, out, licence="apache-2.0")
  return out


@pytest.fixture
def folder(exported, tmp_path):
  """A copy of it, to be damaged."""
  return shutil.copytree(exported, tmp_path / "model")


def change(folder, name, value):
  """Sets a key of config.json, named with dots."""
  path = folder / "config.json"
  config = json.loads(path.read_text())
  *sections, last = name.split(".")
  section = config
  for each in sections:
    section = section[each]
  if value is None:
    del section[last]
  else:
    section[last] = value
  path.write_text(json.dumps(config))


def rewrite(folder, change_arrays):
  """Other arrays under digests that are right."""
  arrays = load_file(folder / "model.safetensors")
  change_arrays(arrays)
  save_file(arrays, folder / "model.safetensors")
  config = json.loads((folder / "config.json").read_text())
  model_folder.write_config(folder, config["step"], config["run"])


def assert_same(got, want):
  for one, other in zip(
    jax.tree.leaves(got), jax.tree.leaves(want), strict=True
  ):
    assert one.dtype == other.dtype
    assert one.sharding == other.sharding
    np.testing.assert_array_equal(
      np.asarray(one).view(np.uint8), np.asarray(other).view(np.uint8)
    )


def test_a_folder_holds_the_weights_of_the_run_bit_for_bit(tiny_run, exported):
  assert sorted(p.name for p in exported.iterdir()) == sorted(
    model_folder.NAMES
  )
  model = published.read(str(exported), on_all_devices=True)
  want = load(tiny_run, on_all_devices=True)
  weights = jax.tree.map(published.put, model.weights, model.network.shapes)
  assert_same(weights, want.weights)
  assert model.step == want.step == 10
  assert model.identifiers == ["<blank>"]
  assert model.network.config.model == want.config.model


def test_every_name_is_there_and_means_what_it_says(tiny_run, exported):
  arrays = load_file(exported / "model.safetensors")
  weights = load(tiny_run).weights
  flat = traverse_util.flatten_dict(weights.params, sep=".")
  assert set(arrays) == {*flat, "H_init", "L_init", "puzzle_emb"}
  for name, value in flat.items():
    np.testing.assert_array_equal(arrays[name], value, strict=True)
  assert arrays["puzzle_emb"].shape == (1, 16)
  assert all(value.dtype == np.float32 for value in arrays.values())


def test_bfloat16_states_and_the_rows_of_a_run_come_back(tmp_path):
  model = toy_model(forward_dtype="bfloat16", pos_encodings="learned")
  shapes = weight_shapes(model)
  weights = random_like(shapes, seed=3)
  assert weights.puzzle_table is not None
  weights = weights._replace(puzzle_table=weights.puzzle_table.at[6:].set(0))
  path = tmp_path / "model.safetensors"
  safetensors_file.write(path, safetensors_file.to_named(weights, 6))
  assert load_file(path)["puzzle_emb"].shape == (6, 16)
  read = safetensors_file.read(path, shapes, 6)
  for got, want in zip(
    jax.tree.leaves(read), jax.tree.leaves(weights), strict=True
  ):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, np.asarray(want))
  (tmp_path / "plain").touch()
  assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
  with pytest.raises(InputError, match="rows from 5 on"):
    safetensors_file.to_named(weights, 5)


def test_weights_can_be_rounded_for_half_the_bytes(tiny_run, tmp_path, command):
  out = tmp_path / "model"
  command(
    checkpoint,
    "export",
    f"--workdir={tiny_run}",
    f"--out={out}",
    "--dtype=bfloat16",
  )
  arrays = load_file(out / "model.safetensors")
  assert {str(value.dtype) for value in arrays.values()} == {"bfloat16"}
  card = (out / "README.md").read_text()
  assert "| Weights | bfloat16 |" in card
  assert "after update 10 before rounding" in card
  got, want = published.read(str(out)).weights, load(tiny_run).weights
  for rounded, exact in zip(
    jax.tree.leaves(got), jax.tree.leaves(want), strict=True
  ):
    assert rounded.dtype == exact.dtype
    np.testing.assert_allclose(rounded, np.asarray(exact), rtol=2**-8)
  assert any(
    (np.asarray(a) != np.asarray(b)).any()
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
  )


def test_the_commands_take_a_folder_and_say_what_the_run_says(
  tiny_run, exported, command, tmp_path
):
  flags = "--json", PUZZLE
  want = command(solve, f"--workdir={tiny_run}", *flags)
  assert command(solve, f"--model={exported}", *flags) == want
  result = command(
    evaluate,
    f"--model={exported}",
    f"--data={tiny_run}/data",
    f"--save-predictions={tmp_path}/answers",
  )
  run = load(tiny_run).run
  assert result["sets"] == run["evaluation"]["sets"]
  assert result["step"] == 10
  assert result["predictions"] == str(tmp_path / "answers")
  saved = np.load(tmp_path / "answers/all__predictions.npy")
  assert saved.shape == (27, 16)


def test_the_card_says_what_was_trained_and_how_it_scored(tiny_run, exported):
  card = (exported / "README.md").read_text()
  run = load(tiny_run).run
  accuracy = run["evaluation"]["sets"]["all"]["exact_accuracy"]
  for fact in (
    'license: "apache-2.0"\n',
    "| Task | Sudoku puzzles, 16 cells, 6 tokens |",
    f"test `{run['digests']['test']}`",
    f"| Seed | {run['config']['seed']} |",
    f"| all | exact_accuracy | {accuracy:.4%} |",
    "hrm_jax.evaluate --model=FOLDER --data=DIR --halt=full",
    "model.hidden_size = 16",
  ):
    assert fact in card, fact
  assert card.startswith("---\n")


def test_nobody_reads_where_the_data_lay(
  tiny_run, tmp_path, command, monkeypatch
):
  out = tmp_path / "model"
  run = load(tiny_run).run
  run["config"]["data"]["path"] = "/home/somebody/data/set"
  run["changes"] = [{"step": 5, "keys": {"config.data.path": "/home/other"}}]
  run["init_from"] = {"model": "/home/somebody/model", "table": "keep"}
  loaded = load(tiny_run)._replace(run=run)
  monkeypatch.setattr("hrm_jax.checkpoint.load.load", lambda *_, **__: loaded)
  command(
    checkpoint,
    "export",
    f"--workdir={tiny_run}",
    f"--out={out}",
    f"--data={tiny_run}/data",
  )
  for name, content in files_of(out).items():
    assert b"/home" not in content, name
  description = model_folder.describe(out)
  assert description.config.data.path == "set"
  message = command.error(evaluate, f"--model={out}")
  assert message == (
    f"--model={out}: it was trained on set, which is not here; say with "
    "--data=DIR which data set to take."
  )


def test_without_the_data_no_names_are_invented(
  tiny_run, tmp_path, command, lines
):
  run = tmp_path / "run"
  shutil.copytree(tiny_run / "checkpoints", run / "checkpoints")
  out = tmp_path / "model"
  command(checkpoint, "export", f"--workdir={run}", f"--out={out}")
  assert any("no identifiers.json is written" in line for line in lines)
  assert published.read(str(out)).identifiers is None
  assert "no identifiers.json" in (out / "README.md").read_text()


def test_other_data_than_the_run_had_are_refused(tiny_run, tmp_path, command):
  other = shutil.copytree(tiny_run / "data", tmp_path / "data")
  labels = np.load(other / "test/all__labels.npy")
  np.save(other / "test/all__labels.npy", labels[::-1])
  message = command.error(
    checkpoint,
    "export",
    f"--workdir={tiny_run}",
    f"--out={tmp_path}/model",
    f"--data={other}",
  )
  assert message.startswith(f"{other}/test: expected the data that the run was")
  assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


def test_a_folder_appears_whole_or_not_at_all(
  tiny_run, tmp_path, command, monkeypatch
):
  out = tmp_path / "model"
  flags = "export", f"--workdir={tiny_run}", f"--out={out}"
  command(checkpoint, *flags, "--step=5")
  before = files_of(tmp_path)

  def fail(folder, *_):
    assert (folder / "model.safetensors").exists()
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(model_folder, "write_config", fail)
    message = command.error(checkpoint, *flags)
  assert message == f"{out}: cannot be written (No space left on device)."
  assert files_of(tmp_path) == before
  # An earlier export is replaced by a later one.
  assert command(checkpoint, *flags)["step"] == 10
  assert model_folder.describe(out).step == 10
  assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_what_is_no_export_is_not_replaced(tiny_run, tmp_path, command):
  flags = "export", f"--workdir={tiny_run}"
  for name in ("thesis.tex", "README.md"):
    out = tmp_path / name
    out.mkdir()
    (out / name).write_text("mine")
    message = command.error(checkpoint, *flags, f"--out={out}")
    assert f"got one with {name}; choose another --out." in message
    assert (out / name).read_text() == "mine"
  link = tmp_path / "link"
  link.symlink_to(tmp_path / "nothing")
  assert "got a file." in command.error(checkpoint, *flags, f"--out={link}")


def test_each_flipped_or_missing_byte_is_told(folder, command):
  flags = f"--model={folder}", PUZZLE
  path = folder / "model.safetensors"
  data = path.read_bytes()
  for bad, message in (
    (data[:-1], f"expected {len(data)} bytes, got {len(data) - 1}; copy the"),
    (data[:-1] + bytes([data[-1] ^ 1]), "its digest differs from that in"),
  ):
    path.write_bytes(bad)
    assert message in command.error(solve, *flags)
  path.unlink()
  assert command.error(solve, *flags) == f"{path}: no such file."
  shutil.rmtree(folder)
  assert command.error(solve, *flags) == f"--model={folder}: no such folder."


def test_a_folder_is_not_called_as_pytorch_is(tiny_run, tmp_path, command):
  out = tmp_path / "torch"
  flags = ("export", f"--workdir={tiny_run}", f"--out={out}")
  for kind in ("safetensors", "torch"):
    error = command.error(checkpoint, *flags, f"--format={kind}")
    assert error.startswith(f"{out}: a folder of that name would be taken for")
    assert not out.exists()


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("hrm_jax_model", 2, "expected hrm_jax_model 1, got 2; update hrm_jax."),
    ("hrm_jax_model", None, "got None; it is no model of hrm_jax."),
    ("step", -1, "key 'step': expected a whole number from 0 on, got -1."),
    ("run", [], "key 'run': expected a JSON object, got []."),
    ("files", {}, "key 'files': 'model.safetensors' is missing."),
    ("files.x", {}, "expected size and digest of model.safetensors and"),
    ("run.config", None, "key 'run.config': expected a JSON object, got None"),
    ("run.dataset.seq_len", "4", "key 'seq_len': expected an integer >= 0"),
    ("run.config.model.depth", 3, "config.model.depth: unknown key; perhaps"),
    ("run.config.model.H_layers", None, "config.model.H_layers: missing."),
    ("run.config.model.H_layers", 10**6, "H_layers: expected 1, as model.saf"),
    ("run.config.model.hidden_size", "x", "expected a whole number, at least"),
    ("run.config.model.num_heads", 3, "expected a divisor of hidden_size=16"),
    (
      "run.config.model.hidden_size",
      32,
      "expected F32 [256, 32], got F32 [256, ",
    ),
    ("run.evaluation", 3, "key 'run.evaluation': expected a JSON object or"),
  ],
)
def test_a_config_that_does_not_fit_is_told_by_its_key(
  folder, command, key, value, message
):
  change(folder, key, value)
  got = command.error(solve, f"--model={folder}", PUZZLE)
  assert message in got
  assert str(folder) in got or "config.model" in got


@pytest.mark.parametrize("key", ["shared_level", "H_only"])
def test_a_network_that_lacks_a_module_is_read_again(tiny_run, tmp_path, key):
  workdir = write_run(
    tmp_path / "run", tiny_run / "data", **{f"model.{key}": True}
  )
  export(workdir, None, tmp_path / "model")
  got = published.read(str(tmp_path / "model"))
  jax.tree.map(
    np.testing.assert_array_equal, got.weights, load(workdir).weights
  )


def test_a_key_that_is_younger_than_the_folder_has_its_default(folder):
  change(folder, "run.config.watchdog_seconds", None)
  assert published.read(str(folder)).network.config.watchdog_seconds == 600


@pytest.mark.parametrize(
  ("change_arrays", "message"),
  [
    (lambda a: a.pop("lm_head.kernel"), "'lm_head.kernel' is missing."),
    (
      lambda a: a.update(extra=np.zeros(2)),
      "'extra' belongs to no part of this network.",
    ),
    (
      lambda a: a.update(H_init=np.zeros(16)),
      "'H_init': expected F32 [16], got F64 [16].",
    ),
    (
      lambda a: a.update(puzzle_emb=np.zeros((2, 16), np.float32)),
      "'puzzle_emb': expected F32 [1, 16], got F32 [2, 16].",
    ),
  ],
)
def test_arrays_that_do_not_fit_are_told_by_name(
  folder, command, change_arrays, message
):
  rewrite(folder, change_arrays)
  got = command.error(solve, f"--model={folder}", PUZZLE)
  assert got == f"{folder}/model.safetensors: array {message}"


def test_a_header_that_lies_is_refused_though_its_digest_is_right(
  folder, command
):
  path = folder / "model.safetensors"
  for bad in (path.read_bytes()[:-4], b"\xff" * 100, b"PK\3\4", b""):
    path.write_bytes(bad)
    config = json.loads((folder / "config.json").read_text())
    model_folder.write_config(folder, config["step"], config["run"])
    got = command.error(solve, f"--model={folder}", PUZZLE)
    assert got.startswith(f"{path}: expected a whole safetensors file, got one")


@pytest.mark.parametrize("name", model_folder.NAMES[:3])
def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path, name):
  secret = (folder / name).rename(tmp_path / "elsewhere")
  (folder / name).symlink_to(secret)
  with pytest.raises(InputError, match="leads out of its folder is not fol"):
    published.read(str(folder))
  # Within the folder, and to the blobs of the Hub's cache, links are usual.
  blobs = tmp_path / "models--o--n/blobs"
  blobs.mkdir(parents=True)
  shutil.copy(secret, blobs / "a")
  cached = tmp_path / "models--o--n/snapshots/abc"
  shutil.copytree(folder, cached, symlinks=True)
  (cached / name).unlink()
  (cached / name).symlink_to("../../blobs/a")
  assert published.read(str(cached)).step == 10
  (cached / name).unlink()
  (cached / name).symlink_to("../../../elsewhere")
  with pytest.raises(InputError, match="leads out of its folder is not fol"):
    published.read(str(cached))


def test_a_pipe_is_no_model(folder):
  (folder / "config.json").unlink()
  os.mkfifo(folder / "config.json")
  with pytest.raises(InputError, match=r"config\.json: no regular file"):
    published.read(str(folder))


def test_a_text_too_large_or_no_json_is_told(folder, monkeypatch):
  (folder / "config.json").write_text("[" * 100_000)
  with pytest.raises(InputError, match=r"config\.json: not valid JSON"):
    published.read(str(folder))
  monkeypatch.setitem(model_folder._MOST_BYTES, "config.json", 10)
  with pytest.raises(InputError, match="expected at most 10 bytes, got 100,0"):
    published.read(str(folder))


def test_identifiers_are_as_many_names_as_the_table_has_rows(folder):
  for names in ([], ["a", "b"], [1], {"a": 0}):
    (folder / "identifiers.json").write_text(json.dumps(names))
    config = json.loads((folder / "config.json").read_text())
    model_folder.write_config(folder, config["step"], config["run"])
    with pytest.raises(InputError, match=r"expected a list of 1 name, got"):
      published.read(str(folder))


def test_flags_that_contradict_each_other_get_one_line(
  tiny_run, exported, command, tmp_path
):
  model, workdir = f"--model={exported}", f"--workdir={tiny_run}"
  message = command.error(solve, PUZZLE)
  assert message.startswith("one of the arguments --workdir --model is requir")
  message = command.error(solve, str(tmp_path), PUZZLE)
  assert f"; write --workdir={tmp_path}; see" in message
  message = command.error(solve, model, workdir, PUZZLE)
  assert "not allowed with argument" in message
  message = command.error(solve, model, "--step=5", PUZZLE)
  assert message == "--step=5: only a --workdir has steps; leave it out."
  message = command.error(evaluate, model, "--save-predictions")
  assert "say where: --save-predictions=DIR." in message
  message = command.error(evaluate, workdir, f"--save-predictions={tiny_run}")
  assert "expected predictions, which are replaced, or nothing, got" in message
  # Nobody can make a directory in /proc, whoever asks.
  message = command.error(evaluate, workdir, "--save-predictions=/proc/x/y")
  assert message.startswith(
    "/proc/x/y: no directory can be made there: /proc cannot be written ("
  )
  message = command.error(evaluate, model)
  assert "data that its run generated, which is not here" in message
  (tmp_path / "all__predictions.npy").touch()
  message = command.error(arc_vote, f"--predictions={tmp_path}")
  assert "expected --data=DIR too" in message
  for name in ("../x", "o", "o/n/m", "o/..", "/o/n", "o/n@", "o/n@../x", ""):
    message = command.error(solve, f"--model=hf://{name}", PUZZLE)
    assert f"expected ORG/NAME or ORG/NAME@REVISION, got '{name}'" in message

"""Names and arrays from data: never a path, a command or a program."""

import ast
import contextlib
import json
import logging
import sys

import numpy as np
import pytest

from data_tools import show
from hrm_jax import console
from hrm_jax.arc_vote import tally as arc_tally
from hrm_jax.checkpoint import __main__ as checkpoint_cli
from hrm_jax.checkpoint import manifest
from hrm_jax.console import InputError
from hrm_jax.data import puzzle
from hrm_jax.data.split import open_split
from tests.commands import Commands
from tests.datasets import write_split
from tests.test_layering import modules, packages, sources

EVIL = "a\x1b]0;title\x07\x9b31m\r\nerror: b\u202e\ud800"


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def bomb(tmp_path):
  """Writes a pickle that makes a canary file; fails if it was made."""

  class Bomb:
    def __reduce__(self):
      return (tmp_path.joinpath("canary").touch, ())

  def write(path):
    np.save(path, np.array([Bomb()], object), allow_pickle=True)

  yield write
  assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("package", ["hrm_jax", "data_tools", "configs"])
def test_no_file_reads_pickles(package):
  for module in modules(package):
    assert not {"pickle", "cloudpickle", "joblib", "dill"} & packages(module)
    tree = ast.parse(sources()[module])
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
    for name in names:
      is_numpy = isinstance(name.value, ast.Name) and name.value.id == "np"
      # open_memmap reads no pickle; nothing here needs np.load.
      assert not (is_numpy and name.attr in ("load", "fromfile")), module


@pytest.mark.parametrize("column", arc_tally.COLUMNS)
def test_a_pickle_among_predictions_does_not_run(tmp_path, bomb, column):
  for name in arc_tally.COLUMNS:
    np.save(tmp_path / f"all__{name}.npy", np.zeros((1, 900)))
  bomb(tmp_path / f"all__{column}.npy")
  questions = arc_tally.Questions([], {}, {}, "")
  with pytest.raises(InputError, match=f"all__{column}.npy: expected a compl"):
    arc_tally.tally_file(tmp_path, "all", questions)


@pytest.mark.parametrize(
  "name",
  [
    *("../../x", "a/b", "/etc/x", "a\\b", "c:a", "..", ".a", "-a", ""),
    *("a\nb", "a\x1b[31m", "a\x00", "a\u202eb", "\ud800"),
    "a" * 101,
    3,
    None,
  ],
)
def test_a_set_name_that_is_no_file_name_is_refused(tmp_path, name):
  path = write_split(tmp_path, groups=[[1]], sets=[name]) / "dataset.json"
  with pytest.raises(InputError) as error_info:
    open_split(tmp_path, "train")
  message = str(error_info.value)
  assert message.startswith(f"{path}: key 'sets': expected a list of names")
  assert message.isprintable()


@pytest.mark.parametrize("name", ["all", "my set", "a.b-c_d", "größe", "a__b"])
def test_a_plain_set_name_is_accepted(tmp_path, name):
  write_split(tmp_path, groups={name: [[1]]})
  assert open_split(tmp_path, "train").metadata.sets == (name,)


def test_a_name_inside_kept_votes_is_no_path(tmp_path):
  path = tmp_path / "all__votes.json"
  tally = [["task", "input", {"answer": [1, 2, "../../../x", 0, 0]}]]
  path.write_text(json.dumps({"made_from": {}, "tally": tally}))
  kept = arc_tally._read_tally(path, {})
  assert kept["task", "input"]["answer"].file == "all"


def test_printable_text_is_one_harmless_line():
  text = console.printable(EVIL)
  assert text.isprintable()
  assert text.startswith(r"a\x1b]0;title\x07\x9b31m\r\nerror: b\u202e\ud800")
  assert console.printable("größe ✓ C:\\x") == "größe ✓ C:\\x"


def test_a_name_in_a_log_line_cannot_make_lines_of_its_own(monkeypatch, capsys):
  for name in ("handlers", "level", "propagate"):
    monkeypatch.setattr(console.log, name, getattr(console.log, name))
  monkeypatch.setattr(console.log, "handlers", [])
  logging_levels = {n: logging.getLogger(n).level for n in ("absl", "jax")}
  console.set_up_logging()
  for name, level in logging_levels.items():
    logging.getLogger(name).setLevel(level)
  console.log.info(EVIL)
  [line] = capsys.readouterr().err.split("\n")[:-1]
  assert line.isprintable()


def test_an_error_that_quotes_a_name_is_one_printable_line(command):
  class Module:
    @staticmethod
    def main():
      raise InputError(f"{EVIL}: no such task.")

  assert command.error(Module).isprintable()


def test_identifiers_are_escaped_where_they_are_shown(tmp_path):
  for split in ("train", "test"):
    write_split(tmp_path, split, groups=[[1]])
  names = ["<blank>", EVIL]
  (tmp_path / "identifiers.json").write_text(json.dumps(names))
  assert all(line.isprintable() for line in show.show(tmp_path))


@pytest.mark.parametrize("name", ["list", "verify"])
def test_a_file_inside_a_checkpoint_is_escaped_where_it_is_shown(
  tmp_path, name, monkeypatch, capsys
):
  directory = tmp_path / "checkpoints"
  (directory / "1").mkdir(parents=True)
  manifest.write(directory / "1", 1)
  on_disk = EVIL.removesuffix("\ud800")  # Which no file system takes.
  (directory / "1" / on_disk).write_text("")
  (directory / f"2.orbax-checkpoint-tmp{on_disk}").mkdir()
  monkeypatch.setattr(sys, "argv", ["checkpoint", name, str(tmp_path)])
  with contextlib.suppress(SystemExit):
    checkpoint_cli.main()
  captured = capsys.readouterr()
  lines = (captured.out + captured.err).split("\n")
  assert all(line.isprintable() for line in lines)
  named = [line for line in lines if line.startswith(("/", " ", "half-"))]
  assert sum(r"]0;title\x07\x9b31m\r\n" in line for line in named) == (
    2 if name == "list" else 1
  )


def test_metadata_inside_a_checkpoint_is_checked_likewise():
  value = json.loads('{"sets": ["../x"]}')
  good = {
    field: 1
    for field in puzzle.DatasetMetadata.__dataclass_fields__
    if field != "sets"
  }
  with pytest.raises(InputError, match="key 'sets'"):
    puzzle.metadata_from_json({**good, **value}, "checkpoints/5")

"""`~` in a path of a data tool is the home of whoever runs it."""

import pytest

from data_tools import (
  build_arc,
  build_grid,
  build_maze,
  build_sudoku,
  check,
  generate_maze,
  generate_sudoku,
  show,
)
from tests import sudoku_tables, test_build_maze
from tests.commands import Commands
from tests.test_build_arc import make_task, write_json
from tests.test_build_grid import GOOD, write_jsonl


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def home(tmp_path, monkeypatch):
  """A home with a source for each builder; the work is done elsewhere."""
  home = tmp_path / "home"
  for name, text in (
    ("sudoku", sudoku_tables.PLAIN),
    ("maze", test_build_maze.PLAIN),
  ):
    (home / name).mkdir(parents=True)
    for split in ("train", "test"):
      (home / name / f"{split}.csv").write_text(text)
  write_json(home / "arc" / "evaluation" / "a.json", make_task(0))
  write_jsonl(home / "task.jsonl", GOOD)
  (tmp_path / "elsewhere").mkdir()
  monkeypatch.chdir(tmp_path / "elsewhere")
  monkeypatch.setenv("HOME", str(home))
  return home


@pytest.mark.parametrize(
  ("builder", "flags"),
  [
    (build_sudoku, ["--source-csv=~/sudoku"]),
    (build_maze, ["--source-csv=~/maze"]),
    (build_arc, ["--num-aug=0", "--dataset-dirs", "~/arc"]),
    (build_grid, ["--source=~/task.jsonl"]),
    (generate_sudoku, ["--num-train=2", "--num-test=2"]),
    (generate_maze, ["--size=5", "--num-train=2", "--num-test=2"]),
  ],
)
def test_a_data_set_is_built_and_checked_in_the_home(
  builder, flags, home, tmp_path, commands, capsys
):
  made = commands(builder, *flags, "--output-dir=~/out")
  assert made["path"] == str(home / "out")
  assert commands(check, "~/out")["good"] is True
  commands._run(show, ["~/out"])
  assert capsys.readouterr().out
  assert list((tmp_path / "elsewhere").iterdir()) == []

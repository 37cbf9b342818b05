"""Puzzles on the terminal."""

import json
import re
import sys

import numpy as np
import pytest

from data_tools import build_grid, show
from hrm_jax.data import sudoku, sudoku_generator
from tests.commands import Commands
from tests.datasets import write_split
from tests.drawn import drawn

STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def root(tmp_path):
  sudoku_generator.generate(tmp_path / "set", num_train=3, num_test=3)
  return tmp_path / "set"


def test_a_sudoku_stands_beside_its_answer(root):
  title, *lines = show.show(root, index=1)
  assert title == "test 1: set all, puzzle 1, group 1, identifier 0 <blank>"
  for side, field in ((0, "inputs"), (1, "labels")):
    grid = np.load(root / "test" / f"all__{field}.npy")[1]
    part = [line.split("    ")[side] for line in lines[:-1]]
    assert part == drawn("sudoku", grid).splitlines()


def test_it_stands_below_where_the_terminal_is_narrow(root):
  wide, narrow = (show.show(root, columns=columns) for columns in (80, 12))
  assert len(wide) == 1 + 5 + 1
  assert len(narrow) == 1 + 5 + 1 + 5 + 1


def test_colour_changes_nothing_but_the_style(root):
  plain, styled = (show.show(root, colour=colour) for colour in (False, True))
  assert not STYLE.search("\n".join(plain))
  assert STYLE.search("\n".join(styled))
  assert [STYLE.sub("", line) for line in styled] == plain


def test_clues_are_bold_and_answers_are_not(root):
  text = "\n".join(show.show(root, colour=True)[1:])
  question = np.load(root / "test" / "all__inputs.npy")[0]
  clues = (question > sudoku.BLANK_ID).sum()
  # Every clue stands in the question and in the answer.
  assert len(re.findall(r"\x1b\[1m[1-4]\x1b", text)) == 2 * clues
  assert len(re.findall(r"\x1b\[36m[1-4]\x1b", text)) == 16 - clues


def test_output_that_is_no_terminal_is_plain(root, monkeypatch, capsys):
  commands = Commands(monkeypatch, capsys)
  monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: 0, False)
  commands._run(show, (root, "--split", "train", "--index", 1, "--count", 9))
  out = capsys.readouterr().out
  assert not STYLE.search(out)
  assert [line for line in out.splitlines() if line.startswith("train")] == [
    f"train {i}: set all, puzzle {i}, group {i}, identifier 0 <blank>"
    for i in (1, 2)
  ]


@pytest.mark.parametrize(("no_color", "styled"), [("", True), ("1", False)])
def test_no_color_is_respected(no_color, styled, root, monkeypatch, capsys):
  monkeypatch.setenv("NO_COLOR", no_color)
  commands = Commands(monkeypatch, capsys)
  monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: 0, False)
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True, False)
  commands._run(show, (root,))
  assert bool(STYLE.search(capsys.readouterr().out)) is styled


def test_names_cannot_command_the_terminal(root):
  evil = "a\x1b]0;title\x07\x9b31m\nb\u202e"
  (root / "identifiers.json").write_text(json.dumps([evil]))
  text = "\n".join(show.show(root))
  assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
  assert r"a\x1b]0;title\x07\x9b31m\nb" in text


def test_an_arc_grid_is_drawn_in_its_colours_without_its_frame(tmp_path):
  path = write_split(tmp_path, "test", groups=[[1]], seq_len=900, vocab_size=12)
  tokens = np.zeros((1, 30, 30), np.uint8)
  tokens[0, 3:5, 4:6] = [[2, 3], [4, 11]]
  tokens[0, 5, 4:6] = tokens[0, 3:5, 6] = 1
  np.save(path / "all__inputs.npy", tokens.reshape(1, 900))
  np.save(path / "all__labels.npy", np.zeros((1, 900), np.uint8))
  (tmp_path / "identifiers.json").write_text('["<blank>", "task"]')
  lines = show.show(tmp_path, colour=True)
  assert [STYLE.sub("", line).rstrip() for line in lines[1:3]] == [
    "0 1     (not known)",
    "2 9",
  ]
  assert lines[1].count("48;2;0;0;0m0 ") == 1
  assert "48;2;0;116;217m1 " in lines[1]


def test_own_symbols_are_drawn_and_control_characters_escaped(tmp_path):
  source = tmp_path / "task.jsonl"
  lines = [
    {"input": "#é\n\x1b#", "output": "#", "split": split}
    for split in ("train", "test")
  ]
  source.write_text("\n".join(map(json.dumps, lines)))
  build_grid.build(tmp_path / "set", source=source, charset="#é\x1b")
  lines = show.show(tmp_path / "set")
  assert lines[1].rstrip() == "# é     #"
  assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--index", 3], "--index: expected 0..2, as"),
    (["--index", -1], "--index: expected 0..2, as"),
    (["--count", 0], "--count: expected at least 1, got 0"),
  ],
)
def test_impossible_requests_get_one_line(flags, message, root, commands):
  assert message in commands.error(show, root, *flags)

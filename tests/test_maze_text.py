"""Mazes are read as people and programs write them."""

import numpy as np
import pytest

from data_tools import generate_maze, show
from hrm_jax.console import InputError
from hrm_jax.data import maze, maze_text, question

MAZE, OTHER = "S  \n # \n  G", "S #\n#  \n# G"
OPEN = "S  \n   \n  G"


def read(text, cells=9):
  lines = question.numbered("f", text)
  return [
    (name, maze.to_text(tokens))
    for name, tokens in maze_text.read(lines, cells)
  ]


def flat(text):
  return text.replace("\n", "")


FORMS = {
  "grid": MAZE,
  "dots": MAZE.replace(" ", "."),
  "empty lines around": f"\n\n{MAZE}\n\n",
  "Windows": MAZE.replace("\n", "\r\n"),
  "byte order mark": f"\ufeff{MAZE}",
  "a line": flat(MAZE),
  "a path is not read": "Soo\n #o\n  G",
  "beside its answer": "S      Soo\n #      #o\n  G      G",
  "table": f"source,question,answer\nx,{flat(MAZE)},{flat(MAZE)}\n",
  "rows in a table": f'question;answer\n"{MAZE}";x\n',
  "printed": f"test 0: set all\npuzzle:\n{MAZE}\n\nafter segment 1:\nSo?\n #?\n"
  f"???\n\nanswer:\n{MAZE}\n\nsegments used: 3\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_maze_is_read_in_each_form(form):
  ((_, cells),) = read(FORMS[form])
  assert cells == flat(MAZE)


def test_several_mazes_are_read_with_their_names():
  text = f"{MAZE}\n\n{OTHER}\n{flat(MAZE)}\n{OPEN}"
  assert read(text) == [
    ("f: line 1", flat(MAZE)),
    ("f: line 5", flat(OTHER)),
    ("f: line 8", flat(MAZE)),
    ("f: line 9", flat(OPEN)),
  ]


def test_what_show_prints_of_a_generated_maze_is_read(tmp_path):
  generate_maze.generate(
    tmp_path / "set", size=7, num_train=2, num_test=3, style="carved"
  )
  inputs = np.load(tmp_path / "set/test/all__inputs.npy")
  lines = show.show(tmp_path / "set", count=3)
  found = [cells for _, cells in read("\n".join(lines), 49)]
  assert found == [maze.to_text(each) for each in inputs]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (
      "S  \n #\n  G",
      "f: line 2: expected 3 cells in row 2 of a maze, got 2 (write dots",
    ),
    ("S  \n\n  G", "f: line 2: expected 3 cells in row 2 of a maze, got 0"),
    ("S  \n #  \n  G", "f: line 2: expected 3 cells in row 2 of a maze, got 4"),
    (
      "S  \n X \n  G",
      "f: line 2: expected at row 2, column 2 # (wall), a space (free), S or "
      "G, got 'X'",
    ),
    ("S  \n # ", "f: line 1: expected a maze of 3 rows from here, got 2"),
    ("S  \n   \n   ", "f: line 1: expected exactly one G, got 0"),
    ("S S\n   \n  G", "f: line 1: expected exactly one S, got 2"),
    ("S# \n## \n  G", "f: line 1: expected a way from S to G, got none"),
    ("a,question\nx,S  G\n", "f: line 2: expected 9 cells, got 4"),
    ("a,question\nx\n", "f: line 2: expected at least 2 fields, got 1"),
  ],
)
def test_a_wrong_maze_gets_one_line(text, message):
  with pytest.raises(InputError) as error:
    read(text)
  assert str(error.value).startswith(message)

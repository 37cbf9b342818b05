"""Sudokus are read as people and programs write them."""

import re

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import sudoku, sudoku_solver, sudoku_text
from tests.drawn import drawn

TINY = "1....2.3..4.2..."
OTHER = ".41..3.231....31"


def read(text, cells=16):
  lines = [
    (f"f: line {i}", line) for i, line in enumerate(text.splitlines(), 1)
  ]
  return [
    (name, sudoku.to_text(puzzle))
    for name, puzzle in sudoku_text.read(lines, cells)
  ]


def puzzles_in(text, cells=16):
  return [puzzle for _, puzzle in read(text, cells)]


# ------------------------------------------------------------------- forms


def rows(cells):
  side = sudoku.side_of(len(cells))
  return [cells[i : i + side] for i in range(0, len(cells), side)]


def boxed(row, mark):
  _, width = sudoku.box_shape(len(row))
  return mark.join(row[i : i + width] for i in range(0, len(row), width))


def ss(cells):
  lines = [boxed(row, "|") for row in rows(cells)]
  height, _ = sudoku.box_shape(len(lines))
  for i in range(len(lines) - height, 0, -height):
    lines.insert(i, "-" * len(lines[0]))
  return "\n".join(lines)


def framed(cells):
  lines = [f"|{boxed(row, '|')}|" for row in rows(cells)]
  height, _ = sudoku.box_shape(len(lines))
  rule = re.sub(r"[^|]", "-", lines[0])[1:-1].replace("|", "+")
  for i in range(len(lines) - height, 0, -height):
    lines.insert(i, f"|{rule}|")
  frame = f"*{rule.replace('+', '-')}*"
  return "\n".join([frame, *lines, frame])


def as_list(cells):
  inner = ",\n ".join(
    "[" + ", ".join(row.replace(".", "0")) + "]" for row in rows(cells)
  )
  return f"[{inner}]\n"


FORMS = {
  "line": lambda c: c,
  "zeros": lambda c: c.replace(".", "0"),
  "stars": lambda c: c.replace(".", "*"),
  "underscores": lambda c: c.replace(".", "_"),
  "x": lambda c: c.replace(".", "x"),
  "dashes": lambda c: c.replace(".", "-"),
  "spaced": " ".join,
  "rows on one line": lambda c: " ".join(rows(c)),
  "grid": lambda c: "\n".join(rows(c)),
  "grid of stars": lambda c: "\n".join(rows(c.replace(".", "*"))),
  "grid of dashes": lambda c: "\n".join(rows(c.replace(".", "-"))),
  "spaced grid": lambda c: "\n".join(map(" ".join, rows(c))),
  "blank lines": lambda c: "\n\n".join(rows(c)),
  "crlf": lambda c: "\r\n".join(rows(c)),
  "drawing": lambda c: drawn("sudoku", sudoku.parse(c)),
  "ss": ss,
  "framed": framed,
  "framed stars": lambda c: framed(c).replace(".", "X"),
  "lines drawn": lambda c: ss(c).replace("|", "│").replace("-", "─"),
  "sdk": lambda c: "#A Jo\n#D a-b 12\n[Puzzle]\n" + "\n".join(rows(c)),
  "sdk with state": lambda c: "[Puzzle]\n{0}\n[State]\n{0}\n".format(
    "\n".join(rows(c))
  ),
  "label": lambda c: "Grid 01\n" + "\n".join(rows(c)),
  "label on the line": lambda c: f"Puzzle 3: {c}",
  "number and rating": lambda c: f"12 {c} 4.5 easy",
  "comment": lambda c: f"{c} # 12 easy-ish",
  "answer beside": lambda c: f"{c},{c.replace('.', '1')}",
  "library": lambda c: f":0000:x:{c}:::",
  "commas": lambda c: "\n".join(map(",".join, rows(c))),
  "empty fields": lambda c: "\n".join(
    ",".join(row).replace(".", "") for row in rows(c)
  ),
  "empty fields and tabs": lambda c: "\n".join(
    "\t".join(row).replace(".", "") for row in rows(c)
  ),
  "list": as_list,
  "lines of json": lambda c: f'{{"id": 7, "puzzle": "{c}"}}',
  "markdown": lambda c: "\n".join(
    f"| {' | '.join(row)} |".replace(".", " ") for row in rows(c)
  ),
  "dots and dashes": lambda c: (
    ".---.---.\n:---+---:\n".join(
      "".join(f"| {' '.join(row)} |\n" for row in part)
      for part in (rows(c)[:2], rows(c)[2:])
    )
    + "'---'---'\n"
  ),
  "mark": lambda c: "\ufeff" + c,
  "table": lambda c: f"puzzle\n{c}\n",
  "kaggle": lambda c: f"quizzes,solutions\n{c.replace('.', '0')},1\n",
  "table in order": lambda c: f"id;rating;Question\n1;0.5;{c}\n",
  "quoted": lambda c: '"a","puzzle"\n"x","' + "\n".join(rows(c)) + '"\n',
  "table with note": lambda c: f"# mine\n\nsource,puzzle\n'x',{c}\n",
}


TABLES = {"kaggle", "quoted", "table in order", "table with note"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", sudoku.SIDES)
def test_what_is_written_in_any_form_is_read_again(form, side):
  rng = np.random.default_rng(side)
  empty = np.ones((3, side * side), np.uint8)
  grids, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  # One with many clues; one with few, so that rows without any are there.
  for share, grid in zip((0.2, 0.5, 0.85), grids, strict=True):
    cells = sudoku.to_text(np.where(rng.random(side * side) < share, 1, grid))
    assert puzzles_in(FORMS[form](cells), side * side) == [cells]


# Where two of them follow each other, nothing else need stand between.
@pytest.mark.parametrize("form", sorted(set(FORMS) - TABLES))
def test_two_in_a_file_are_two(form):
  text = f"{FORMS[form](TINY)}\n{FORMS[form](OTHER)}"
  assert puzzles_in(text) == [TINY, OTHER]


def test_a_puzzle_is_named_by_its_first_line():
  text = f"# two\n{TINY}\n\n" + "\n".join(rows(OTHER)) + f"\n{TINY}\n"
  names = [name for name, _ in read(text)]
  assert names == ["f: line 2", "f: line 4", "f: line 8"]
  table = f'a,puzzle\n1,"{" ".join(rows(TINY))}"\n\n2,{OTHER}\n'
  assert [name for name, _ in read(table)] == ["f: line 2", "f: line 4"]


def test_answers_and_notes_are_passed_over():
  text = (
    f"Author: Jo\npuzzle:\n{drawn('sudoku', sudoku.parse(TINY))}\n\n"
    f"answer:\n{drawn('sudoku', sudoku.parse(OTHER))}\n\n"
    f"segments used: 3\nobeys the rules: no\n\nafter segment 1:\n????\n"
    f"puzzle:\n{OTHER}\n"
  )
  assert puzzles_in(text) == [TINY, OTHER]


def test_nothing_is_no_puzzle():
  for text in ("", "\n \n", "# only this\n", "puzzle\n", "Author: Jo\n"):
    assert puzzles_in(text) == []


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (f"{TINY}\n12\n", "f: line 2: expected 16 cells, or 4 of a row, got 2;"),
    (TINY[:15], "f: line 1: expected 16 cells, or 4 of a row, got 15;"),
    (
      "1...\n.2..\n..3.\n",
      "1: expected a grid of 4 rows from here, got 3;",
    ),
    (
      "1...\n.2..\n\n" + TINY,
      "1: expected a grid of 4 rows from here, got 2;",
    ),
    ("1...\n", "f: line 1: expected 16 cells, got 4;"),
    ("hello\n", "f: line 1: expected at cell 1 1-4 or a blank, got 'h';"),
    ("1.a.\n", "at cell 3 1-4 or a blank, got 'a'"),
    (
      "12|..\n.2|.\n",
      "f: line 2: expected 4 cells in row 2 of a grid, got 3;",
    ),
    ("12 .\n", "f: line 1: expected 16 cells, or 4 of a row, got 3;"),
    ("123 .\n", "expected pieces of equal length, got 3, 1 cells"),
    ("5" + TINY[1:], "f: line 1: cell 1: expected 1-4, '.' or '0', got '5'"),
    (f"{TINY} {OTHER}", "f: line 1: expected one puzzle on a line, got 2;"),
    (f"a,puzzle\n1,{TINY[1:]}\n", "f: line 2: expected 16 cells, got 15;"),
    ("a,puzzle\n1\n", "f: line 2: expected at least 2 fields, got 1;"),
    (
      "11" + TINY[2:],
      "f: line 1: the clues contradict each other: row 1",
    ),
    ("٣" + TINY[1:], "at cell 1 1-4 or a blank"),
  ],
)
def test_what_is_no_puzzle_gets_one_line(text, message):
  with pytest.raises(InputError) as error:
    read(text)
  assert message in str(error.value)
  if ";" in message:
    assert str(error.value).endswith(f"read is {sudoku_text.FORMS}.")


def test_a_large_field_of_a_table_gets_one_line():
  with pytest.raises(InputError, match="line 2: expected a row of a table"):
    read(f"a,puzzle\n{'1' * 200_000},{TINY}\n")

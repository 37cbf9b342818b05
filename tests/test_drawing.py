"""How puzzles of each kind are drawn."""

import numpy as np

from hrm_jax.console import Pen
from hrm_jax.data import arc, drawing, puzzle_kind, sudoku
from hrm_jax.data.puzzle_kind import Board
from tests.drawn import drawn


def test_a_sudoku_has_lines_between_its_boxes():
  puzzle = sudoku.parse("12.." + "." * 12)
  assert drawn(puzzle_kind.SUDOKU, puzzle).splitlines() == [
    "1 2 | . .",
    ". . | . .",
    "----+----",
    ". . | . .",
    ". . | . .",
  ]
  lines = drawn(puzzle_kind.SUDOKU, sudoku.parse("." * 36)).splitlines()
  assert lines[2] == "------+------"
  assert len({len(line) for line in lines}) == 1


def test_what_is_no_cell_is_a_question_mark():
  tokens = np.array([0, 2, 99, -1])
  assert drawn(puzzle_kind.MAZE, tokens) == "? \n??"
  assert drawn(puzzle_kind.GRID, tokens, "ab") == "  b \n? ? "
  tokens = np.array([0, 2, 99, -1] * 4)
  line = "? 1 | ? ?"
  rule = "----+----"
  assert drawn(puzzle_kind.SUDOKU, tokens).splitlines() == [
    *[line] * 2,
    rule,
    *[line] * 2,
  ]


def test_an_arc_grid_has_the_usual_colours():
  tokens = arc.to_tokens(np.array([[0, 4]]))
  board = Board(puzzle_kind.ARC, (30, 30), None)
  text = str(drawing.draw(board, tokens, tokens, Pen(True)))
  assert text == (
    "\x1b[37;48;2;0;0;0m0 \x1b[0m\x1b[30;48;2;255;220;0m4 \x1b[0m"
  )
  assert drawn(puzzle_kind.ARC, np.zeros(900, int)) == "(not known)"

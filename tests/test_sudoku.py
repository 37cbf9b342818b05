"""Sudoku text, rules and the solver that counts solutions."""

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import sudoku, sudoku_solver

PUZZLE = (
  "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5"
  "....8..79"
)
ANSWER = (
  "534678912672195348198342567859761423426853791713924856961537284287419635"
  "345286179"
)


def edited(grid, changes):
  """A copy of a grid with the token ids of some cells changed."""
  grid = grid.astype(np.int32)
  for cell, token in changes.items():
    grid[cell] = token
  return grid


@pytest.mark.parametrize(
  ("side", "box"), [(4, (2, 2)), (6, (2, 3)), (8, (2, 4)), (9, (3, 3))]
)
def test_box_is_the_widest_that_is_no_taller_than_wide(side, box):
  assert sudoku.box_shape(side) == box


def test_parse_gives_token_ids():
  np.testing.assert_array_equal(
    sudoku.parse("1.0432..." + "." * 7), [2, 1, 1, 5, 4, 3] + [1] * 10
  )


def test_parse_and_to_text_are_inverse():
  assert sudoku.to_text(sudoku.parse(PUZZLE)) == PUZZLE
  assert sudoku.to_text(sudoku.parse(ANSWER.replace("1", "0"))) == (
    ANSWER.replace("1", ".")
  )


@pytest.mark.parametrize(
  "separator", ["\n", " ", "\r\n"], ids=["lines", "spaces", "crlf"]
)
@pytest.mark.parametrize("width", [1, 3, 9])
def test_parse_reads_pieces_of_equal_length(separator, width):
  pieces = [PUZZLE[i : i + width] for i in range(0, 81, width)]
  text = f"\n{separator.join(pieces)}\n"
  np.testing.assert_array_equal(sudoku.parse(text), sudoku.parse(PUZZLE))


@pytest.mark.parametrize(
  ("text", "side", "message"),
  [
    (PUZZLE[:-1], None, "expected 16, 36, 64 or 81 cells, got 80"),
    ("", None, "cells, got 0"),
    (PUZZLE[:16], 9, "expected 81 cells, got 16"),
    (PUZZLE[:40] + "x" + PUZZLE[41:], None, "cell 41: expected 1-9, '.' or"),
    ("5" + "." * 15, None, "cell 1: expected 1-4, '.' or '0', got '5'"),
    ("٣" + "." * 15, None, "cell 1: expected 1-4"),
    (PUZZLE[:30] + " " + PUZZLE[30:], None, "pieces of 30, 51 cells"),
  ],
)
def test_parse_refuses_what_is_no_puzzle(text, side, message):
  with pytest.raises(InputError, match=f"^board: .*{message}"):
    sudoku.parse(text, side=side, name="board")


@pytest.mark.parametrize(
  ("cell", "message"),
  [
    (2, "row 1 holds 5 twice, in columns 1 and 3"),
    (27, "column 1 holds 5 twice, in rows 1 and 4"),
    (20, "box 1 holds 5 twice, in row 1, column 1 and row 3, column 3"),
  ],
)
def test_contradicting_clues_are_named(cell, message):
  clues = edited(sudoku.parse(PUZZLE), {cell: 6})
  with pytest.raises(InputError, match=message):
    sudoku.check_clues(clues)


def test_boxes_wider_than_tall_are_checked():
  clues = sudoku.parse("1..." + "." * 4 + "1" + "." * 27)
  assert "box 1 holds 1 twice" in sudoku.contradiction(clues)
  assert sudoku.contradiction(edited(clues, {8: 1, 9: 2})) is None


def test_good_clues_pass():
  sudoku.check_clues(sudoku.parse(PUZZLE))


def test_rules_hold_for_the_answer_and_for_no_damaged_one():
  answer = sudoku.parse(ANSWER)
  grids = [
    edited(answer, {}),
    edited(answer, {0: 1}),  # a blank
    edited(answer, {0: 0}),  # padding
    edited(answer, {0: 11}),  # no token of this vocabulary
    edited(answer, {0: -100}),
    edited(answer, {0: answer[1], 1: answer[0]}),
  ]
  np.testing.assert_array_equal(
    sudoku.obeys_rules(np.stack(grids)),
    [True] + [False] * 5,
  )
  assert sudoku.obeys_rules(answer).shape == ()


def test_rules_need_boxes_too():
  # Rows and columns of a cyclic square are right, its boxes are not.
  latin = (np.arange(9)[:, None] + np.arange(9)) % 9 + 2
  assert not sudoku.obeys_rules(latin.reshape(81))


def test_keeps_clues_compares_clues_only():
  puzzle, answer = sudoku.parse(PUZZLE), sudoku.parse(ANSWER)
  answers = np.stack(
    [edited(answer, {}), edited(answer, {2: 2}), edited(answer, {0: 2})]
  )
  np.testing.assert_array_equal(
    sudoku.keeps_clues(puzzle[None], answers), [True, True, False]
  )


def test_solver_finds_the_answer():
  solutions, counts = sudoku_solver.solve(sudoku.parse(PUZZLE)[None])
  assert sudoku.to_text(solutions[0]) == ANSWER
  assert counts.tolist() == [1]


def test_solver_counts_up_to_its_limit():
  puzzle = sudoku.parse(PUZZLE)
  several = edited(puzzle, {0: 1, 1: 1, 4: 1})
  none = edited(puzzle, {2: 2})
  assert sudoku.contradiction(none) is None
  contradicting = edited(puzzle, {2: 6})
  puzzles = np.stack([several, edited(puzzle, {}), none, contradicting])
  assert sudoku_solver.count_solutions(puzzles).tolist() == [2, 1, 0, 0]
  assert sudoku_solver.count_solutions(puzzles, 1).tolist() == [1, 1, 0, 0]
  # 288 grids of side 4 are known to exist.
  empty = np.ones((1, 16), np.uint8)
  assert sudoku_solver.count_solutions(empty, 1000).tolist() == [288]


@pytest.mark.parametrize("side", [4, 6, 8, 9])
def test_random_search_fills_the_empty_grid_in_many_ways(side):
  empty = np.ones((20, side * side), np.uint8)
  rng = np.random.default_rng(0)
  solutions, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  assert sudoku.obeys_rules(solutions).all()
  assert len(np.unique(solutions, axis=0)) > 10


def test_solver_agrees_with_trying_everything():
  rng = np.random.default_rng(0)
  grids, _ = sudoku_solver.solve(
    np.ones((288 * 20, 16), np.uint8), limit=1, rng=rng
  )
  everything = np.unique(grids, axis=0)
  assert len(everything) == 288
  puzzles = np.where(rng.random((200, 16)) < 0.3, grids[:200], 1)
  expected = [
    sudoku.keeps_clues(puzzle[None], everything).sum() for puzzle in puzzles
  ]
  np.testing.assert_array_equal(
    sudoku_solver.count_solutions(puzzles, 1000), expected
  )

"""What Sudoku look like in a table: `.` or `0` for a blank, 81 characters."""

import os

import numpy as np

from data_tools import puzzle_csv
from hrm_jax.data import sudoku, sudoku_solver

SIDE = 9
CELLS = SIDE * SIDE

_DIGITS = {str(d): sudoku.BLANK_ID + d for d in range(1, SIDE + 1)}
_BLANKS = {".": sudoku.BLANK_ID, "0": sudoku.BLANK_ID}


def read_table(path: str | os.PathLike) -> puzzle_csv.Table:
  """Reads a file of Sudoku; see `puzzle_csv.read_table`."""
  return puzzle_csv.read_table(path, _FORM)


def check_unique(table: puzzle_csv.Table) -> None:
  """Refuses puzzles with several solutions; see `puzzle_csv.check_unique`."""
  puzzle_csv.check_unique(table, _are_unique, "solution")


def _are_unique(puzzles: np.ndarray) -> np.ndarray:
  return sudoku_solver.count_solutions(puzzles) == 1


def _are_right(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
  return sudoku.obeys_rules(answers) & sudoku.keeps_clues(questions, answers)


def _error(clues: np.ndarray, digits: np.ndarray) -> str:
  if found := sudoku.contradiction(clues):
    return f"question: the clues contradict each other: {found}"
  if found := sudoku.contradiction(digits):
    return f"answer: breaks the rules: {found}"
  cell = int(np.argmax((clues > sudoku.BLANK_ID) & (clues != digits)))
  return (
    f"answer: row {cell // SIDE + 1}, column {cell % SIDE + 1}: expected "
    f"{clues[cell] - sudoku.BLANK_ID} as in the question, got "
    f"{digits[cell] - sudoku.BLANK_ID}"
  )


_FORM = puzzle_csv.Form(
  cells=CELLS,
  question_ids=puzzle_csv.character_ids(_BLANKS | _DIGITS),
  answer_ids=puzzle_csv.character_ids(_DIGITS),
  question_characters="1-9, '.' or '0'",
  answer_characters="1-9",
  are_right=_are_right,
  error=_error,
)

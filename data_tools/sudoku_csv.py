"""What Sudokus look like in a table: row by row, one character a cell.

Blanks are those that `hrm_jax.solve` reads.
"""

from collections.abc import Mapping

import numpy as np

from data_tools import puzzle_csv
from hrm_jax.console import InputError
from hrm_jax.data import sudoku, sudoku_solver, sudoku_text

_BLANKS = sudoku_text.BLANKS + "-"


def form_of(
  path: str, columns: Mapping[str, str] | None = None
) -> puzzle_csv.Form:
  """What Sudoku look like in tables of the side of this file's first one.

  Args:
    path: the file.
    columns: as for `puzzle_csv.read_table`.

  Raises:
    InputError: it has no row, or no Sudoku has cells in that number.
  """
  text, line, column = puzzle_csv.first_question(path, columns)
  text = text.strip()
  try:
    side = sudoku.side_of(len(text))
  except InputError:
    known = ", ".join(str(side * side) for side in sudoku.SIDES)
    raise InputError(
      f"{path}: line {line}: {column}: expected as many characters as a Sudoku "
      f"has cells ({known}), got {len(text)}; read is one character a cell, "
      f"row by row, digits and blanks ({' '.join(_BLANKS)})."
    ) from None
  digits = {str(d): sudoku.BLANK_ID + d for d in range(1, side + 1)}
  blanks = dict.fromkeys(_BLANKS, sudoku.BLANK_ID)
  return puzzle_csv.Form(
    cells=side * side,
    question_ids=puzzle_csv.character_ids(blanks | digits),
    answer_ids=puzzle_csv.character_ids(digits),
    question_characters=f"1-{side} or a blank ({' '.join(_BLANKS)})",
    answer_characters=f"1-{side}",
    are_right=_are_right,
    error=_error,
    length_from=f" (as on line {line} of {path})",
    strips=True,
  )


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
  side = sudoku.side_of(len(clues))
  return (
    f"answer: row {cell // side + 1}, column {cell % side + 1}: expected "
    f"{clues[cell] - sudoku.BLANK_ID} as in the question, got "
    f"{digits[cell] - sudoku.BLANK_ID}"
  )

"""What an answer can be held against when nobody knows the right one."""

from collections.abc import Callable

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import maze, puzzle_kind, sudoku

# From puzzles [n, G] and answers [n, G] to whether each obeys the rules, [n].
Rules = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _solves_sudoku(puzzles: np.ndarray, answers: np.ndarray) -> np.ndarray:
  return sudoku.obeys_rules(answers) & sudoku.keeps_clues(puzzles, answers)


_RULES: dict[str, Rules] = {
  puzzle_kind.SUDOKU: _solves_sudoku,
  puzzle_kind.MAZE: maze.is_shortest_path,
}


def of_kind(kind: str) -> Rules:
  """The rules of a kind of puzzle.

  Raises:
    InputError: an answer to such a puzzle obeys none that are known.
  """
  if kind not in _RULES:
    raise InputError(
      f"--verify: expected puzzles of the kind {' or '.join(_RULES)}, whose "
      f"rules are known, got {kind}."
    )
  return _RULES[kind]

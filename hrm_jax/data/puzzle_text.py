"""Puzzles as text, by their kind: how they are read, written and judged.

One place for what `solve`, and whatever else shows puzzles to people, must
know of a kind. Another kind that can be solved is another entry of `_KINDS`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from hrm_jax.console import Pen
from hrm_jax.data import (
  arc,
  arc_task,
  drawing,
  grid,
  grid_text,
  maze,
  maze_text,
  puzzle_kind,
  sudoku,
  sudoku_text,
)
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.question import Line, Question, Source


class Rule(NamedTuple):
  """Something that a right answer does.

  Attributes:
    words: what it does, to be answered with yes or no.
    is_kept: from a [G] puzzle and a [G] answer to whether it does.
  """

  words: str
  is_kept: Callable[[np.ndarray, np.ndarray], bool]


class _Kind(NamedTuple):
  """What differs between kinds; see `PuzzleText`."""

  read: Callable[[Source, Board, DatasetMetadata], list[Question]]
  forms: str
  to_json: Callable[[np.ndarray, Board], Any]
  rules: Mapping[str, Rule] = {}
  # What of an answer counts, where not all of it does.
  shown: Callable[[np.ndarray], np.ndarray] = lambda tokens: tokens


def _of_lines(
  read: Callable[[Iterable[Line], int], list[tuple[str, np.ndarray]]],
) -> Callable[[Source, Board, DatasetMetadata], list[Question]]:
  def read_source(source, board, metadata):
    found = read(source.lines, metadata.seq_len)
    return [Question(name, tokens) for name, tokens in found]

  return read_source


def _corner(tokens: np.ndarray) -> np.ndarray:
  """An ARC answer without what stands outside its grid."""
  return arc.to_tokens(arc.from_tokens(tokens))


_KINDS = {
  puzzle_kind.SUDOKU: _Kind(
    read=_of_lines(sudoku_text.read),
    forms=sudoku_text.FORMS,
    to_json=lambda tokens, board: sudoku.to_text(tokens),
    rules={
      "obeys_rules": Rule(
        "obeys the rules",
        lambda puzzle, answer: bool(sudoku.obeys_rules(answer)),
      ),
      "keeps_clues": Rule(
        "keeps the clues",
        lambda puzzle, answer: bool(sudoku.keeps_clues(puzzle, answer)),
      ),
    },
  ),
  puzzle_kind.MAZE: _Kind(
    read=_of_lines(maze_text.read),
    forms=maze_text.FORMS,
    to_json=lambda tokens, board: maze.to_text(tokens),
    rules={
      "keeps_cells": Rule(
        "keeps walls, S and G",
        lambda puzzle, answer: bool(maze.keeps_cells(puzzle, answer).all()),
      ),
      "is_shortest_path": Rule(
        "is a shortest path",
        lambda puzzle, answer: bool(maze.is_shortest_path(puzzle, answer)),
      ),
    },
  ),
  puzzle_kind.ARC: _Kind(
    read=lambda source, board, metadata: arc_task.read_questions(source),
    forms=arc_task.FORMS,
    to_json=lambda tokens, board: arc.from_tokens(tokens).tolist(),
    shown=_corner,
  ),
  puzzle_kind.GRID: _Kind(
    read=lambda source, board, metadata: grid_text.read(
      source, board, metadata.vocab_size
    ),
    forms=grid_text.FORMS,
    to_json=lambda tokens, board: grid.to_json(
      tokens, board.shape, board.charset
    ),
  ),
}


class PuzzleText:
  """The text of the puzzles that a checkpoint solves.

  Args:
    metadata: of the data that it was trained on.
    board: what these puzzles look like.

  Attributes:
    board: what these puzzles look like.
    kind: one of `puzzle_kind.KINDS`.
    forms: the forms of text that `read` knows, in a phrase.
    rules: what a right answer does, by the key in JSON.
  """

  def __init__(self, metadata: DatasetMetadata, board: Board):
    self._metadata, self.board = metadata, board
    self._of_kind = _KINDS[board.kind]
    self.kind = board.kind
    self.forms = self._of_kind.forms
    self.rules = self._of_kind.rules

  def read(self, source: Source) -> list[Question]:
    """The puzzles of a text, in order.

    Raises:
      InputError: something is no puzzle of this kind and size; names the line,
        or the key in JSON.
    """
    return self._of_kind.read(source, self.board, self._metadata)

  def to_json(self, tokens: np.ndarray) -> Any:
    """[G] token ids as JSON types that `read` knows, if all are of cells."""
    return self._of_kind.to_json(tokens, self.board)

  def draw(self, tokens: np.ndarray, puzzle: np.ndarray, pen: Pen) -> str:
    """Draws [G] token ids of a puzzle, or of an answer to it, over lines."""
    shown = self._of_kind.shown(tokens)
    return str(drawing.draw(self.board, shown, puzzle, pen))

  def is_right(self, question: Question, answer: np.ndarray) -> bool | None:
    """Whether an answer is the one that came with the puzzle; None: none did.

    Cells of a grid that it leaves open are not compared.
    """
    if question.answer is None:
      return None
    same = self._of_kind.shown(answer) == question.answer
    if self.kind == puzzle_kind.GRID:
      same |= question.answer == grid.PAD_ID
    return bool(same.all())

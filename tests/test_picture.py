"""How a puzzle is drawn segment by segment, in pixels."""

import numpy as np
import pytest

from hrm_jax.data import arc, puzzle_kind, sudoku
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.train.dashboard import glyphs, picture

SUDOKU = Board(puzzle_kind.SUDOKU, (4, 4), None)
SOLVED = sudoku.parse("1234341221434321")
GIVEN = np.arange(16) % 3 == 0


def drawn(wrong=(), *, board=SUDOKU, labels=SOLVED, inputs=None, segments=1):
  """A puzzle whose last answer is wrong in some cells; the others are right."""
  labels = labels.astype(int)
  if inputs is None:
    inputs = np.where(GIVEN, labels, sudoku.BLANK_ID)
  answers = np.tile(np.maximum(labels, 1), (segments, 1))
  answers[-1, list(wrong)] = np.where(answers[-1, list(wrong)] == 2, 3, 2)
  return picture.draw(
    board,
    12,
    inputs=inputs,
    labels=labels,
    answers=answers,
    halt_probability=np.linspace(0.25, 1, segments),
  )


def places(sheet, pattern):
  """Where a pattern stands in a sheet: [n, 2] rows and columns."""
  windows = np.lib.stride_tricks.sliding_window_view(sheet, pattern.shape)
  return np.argwhere((windows == pattern).all((2, 3)))


def count(sheet, text, scale=2):
  """How often a text stands there in ink."""
  return len(places(sheet == picture.INK, glyphs.bitmap(text, scale)))


def test_panels_say_how_many_cells_are_wrong_and_how_sure_it_is():
  sheet = drawn([1, 2, 6], segments=2)
  for text in ("QUESTION", "1: RIGHT", "HALT 25%", "2: 3 WRONG", "HALT 100%"):
    assert count(sheet, text) == 1, text
  assert count(sheet, "SOLUTION") == 1


def test_wrong_cells_are_dark_and_the_given_ones_grey():
  right, wrong = drawn(), drawn([1, 2, 6])
  assert (right == picture.WRONG).sum() == 0
  cell = 27**2  # Without its lines.
  dark = (wrong == picture.WRONG).sum()
  assert 3 * cell * 0.6 < dark < 3 * cell
  # In the question, in the answer and in the solution.
  grey = (right == picture.GIVEN).sum()
  assert 3 * GIVEN.sum() * cell * 0.6 < grey < 3 * GIVEN.sum() * cell
  # Wrong at a given cell is wrong.
  assert (drawn([0]) == picture.GIVEN).sum() < grey


def test_cells_can_be_told_apart_without_colours():
  weights = 0.299, 0.587, 0.114
  light = {
    name: np.dot(picture.PALETTE[getattr(picture, name)], weights)
    for name in ("RIGHT", "GIVEN", "WALL", "WRONG", "INK")
  }
  steps = -np.diff(list(light.values()))
  assert (steps > 30).all(), light


def test_a_wrong_cell_with_a_colour_of_its_own_has_a_frame():
  labels = arc.to_tokens(np.array([[4, 5], [6, 7]])).astype(int)
  labels = np.where(labels == arc.PAD_ID, IGNORE_LABEL_ID, labels)
  inputs = arc.to_tokens(np.array([[1, 2, 3]]))
  board = Board(puzzle_kind.ARC, (30, 30), None)
  right = drawn(board=board, labels=labels, inputs=inputs)
  wrong = drawn([0], board=board, labels=labels, inputs=inputs)
  assert (right == picture.WRONG).sum() == 0
  assert (wrong == picture.WRONG).sum() > 50
  # Of 30 x 30 cells only those are drawn that hold something: the three of the
  # question and the mark of its end, the two rows and theirs.
  tile = 28
  height = 3 * tile + 1 + 2 * (2 * glyphs.HEIGHT + 4) + 4
  assert right.shape == (height + 20, 3 * (4 * tile + 11) + 10)


def test_what_is_not_asked_is_not_drawn():
  labels = SOLVED.astype(int)
  labels[1] = IGNORE_LABEL_ID
  assert (drawn([1], labels=labels) == picture.WRONG).sum() == 0
  assert count(drawn([1], labels=labels), "1: RIGHT") == 1


def test_of_many_segments_some_are_drawn_with_the_first_and_the_last():
  assert picture._some(1) == [0]
  assert picture._some(16) == list(range(16))
  some = picture._some(64)
  assert (len(some), some[0], some[-1]) == (16, 0, 63)
  assert count(drawn([1], segments=64), "64: 1 WRONG") == 1


@pytest.mark.parametrize("shape", [(1, 7), (12, 2), (30, 30)])
def test_boards_of_any_shape_can_be_drawn(shape):
  rng = np.random.default_rng(0)
  labels = rng.integers(1, 12, shape).ravel()
  board = Board(puzzle_kind.GRID, shape, None)
  sheet = drawn([0], board=board, labels=labels, inputs=labels, segments=3)
  assert count(sheet, "3: 1 WRONG") == 1


def test_no_two_symbols_look_alike():
  known = [glyphs.bitmap(c).tobytes() for c in glyphs._ROWS]
  assert len(set(known)) == len(known)
  assert set(puzzle_kind.SYMBOLS) <= set(glyphs._ROWS)

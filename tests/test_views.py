"""Views of a puzzle can be undone, and show the same puzzle."""

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import arc, maze, sudoku, sudoku_generator, sudoku_solver
from hrm_jax.solve import views

SIDES = [4, 6, 9]
BLANKS = {4: (6, 10), 6: (14, 18), 9: (35, 40)}
MAZE = "S # \n# oo\n  # \n## G".replace("o", " ")


def sudokus(side, count=8, seed=3):
  return views.make("sudoku", count, side * side, seed=seed)


def through(looking, view, boards, identifiers=None):
  if identifiers is None:
    identifiers = np.zeros(len(boards), np.int64)
  return looking.look(view, boards, identifiers)


@pytest.mark.parametrize("side", SIDES)
def test_sudoku_views_undone_are_what_was_seen(side):
  looking = sudokus(side)
  rng = np.random.default_rng(side)
  boards = rng.integers(0, sudoku.vocab_size(side), (5, side * side))
  for view in range(8):
    seen, ids = through(looking, view, boards)
    assert np.any(seen != boards) == (view > 0)
    np.testing.assert_array_equal(looking.undo(view, seen, boards, ids), boards)


@pytest.mark.parametrize("side", SIDES)
def test_the_answer_to_a_view_is_the_view_of_the_answer(side):
  looking = sudokus(side)
  puzzles, solutions = sudoku_generator.make_puzzles(
    np.random.default_rng(side), 3, side, *BLANKS[side]
  )
  for view in range(8):
    seen, ids = through(looking, view, puzzles)
    answers, _ = sudoku_solver.solve(seen.astype(np.uint8), limit=1)
    np.testing.assert_array_equal(answers, through(looking, view, solutions)[0])
    np.testing.assert_array_equal(
      looking.undo(view, answers, puzzles, ids), solutions
    )


def test_more_views_are_the_same_ones_and_others():
  few, many = sudokus(4, 5), sudokus(4, 64)
  for one, other in zip(few.symmetries, many.symmetries, strict=True):
    np.testing.assert_array_equal(one, other[:5])
  names = np.concatenate(many.symmetries, axis=1)
  assert len(np.unique(names, axis=0)) == 64
  other_seed = sudokus(4, 5, seed=4)
  assert np.any(other_seed.symmetries.cells != few.symmetries.cells)


def test_maze_views_are_the_eight_images_with_their_ends():
  question = maze.parse(MAZE)
  levels = maze.search_maze(question).levels
  path = np.any([maze.cells_of(level, 4) for level in levels], 0).ravel()
  answer = np.where(path & (question == maze.FREE_ID), maze.PATH_ID, question)
  assert maze.is_shortest_path(question, answer)
  looking = views.make("maze", 8, 16, seed=0)
  seen = [through(looking, view, question[None])[0][0] for view in range(8)]
  assert len(np.unique(seen, axis=0)) == 8
  for view, image in enumerate(seen):
    answers, ids = through(looking, view, answer[None])
    assert maze.is_shortest_path(image, answers[0])
    np.testing.assert_array_equal(
      looking.undo(view, answers, question[None], ids)[0], answer
    )


def test_what_has_no_such_views_is_refused():
  with pytest.raises(InputError, match=r"at most 8, as a maze .* got 9"):
    views.make("maze", 9, 16, seed=0)
  with pytest.raises(InputError, match="kind grid, whose symmetries"):
    views.make("grid", 2, 16, seed=0)
  assert views.make("grid", 1, 16, seed=0).count == 1


# ------------------------------------------------------------------- ARC

GRID = np.array([[1, 0, 2], [3, 3, 9]], np.uint8)
OUTPUT = np.array([[4, 5], [6, 7], [8, 0]], np.uint8)
TURNED = (1, (0, 2, 1, 4, 3, 5, 6, 7, 9, 8))
FLIPPED = (4, (0, 9, 8, 7, 6, 5, 4, 3, 2, 1))
NAMES = [
  "<blank>",
  "task",
  "other",
  arc.identifier("task", *TURNED),
  arc.identifier("task", *FLIPPED),
]
VARIANTS = [arc.parse_identifier(name) for name in NAMES]


def arc_boards(grid, numbers=(1, 3, 4), corner=(0, 0)):
  """The grid as each of these variants of the task shows it."""
  return np.stack(
    [arc.to_tokens(arc.augment(grid, VARIANTS[n]), *corner) for n in numbers]
  )


def test_arc_views_are_the_variants_of_the_task_under_their_names():
  looking = views.make("arc", 3, arc.CELLS, seed=0, names=NAMES)
  numbers = np.array([1, 3, 4])
  boards, outputs = arc_boards(GRID), arc_boards(OUTPUT)
  for view, others in ((1, (3, 1, 1)), (2, (4, 4, 3))):
    seen, ids = looking.look(view, boards, numbers)
    np.testing.assert_array_equal(ids, others)
    np.testing.assert_array_equal(seen, arc_boards(GRID, others))
    # Answered as the network answers that variant, and seen back.
    answers = arc_boards(OUTPUT, others)
    np.testing.assert_array_equal(
      looking.undo(view, answers, boards, numbers), outputs
    )


@pytest.mark.parametrize("names", [[], NAMES])
def test_without_variants_arc_views_are_drawn_under_the_puzzles_own_name(names):
  looking = views.make("arc", 8, arc.CELLS, seed=0, names=names)
  boards, numbers = arc_boards(GRID, [2]), np.array([2])
  seen = []
  for view in range(8):
    shown, ids = looking.look(view, boards, numbers)
    np.testing.assert_array_equal(ids, numbers)
    assert arc.are_framed(shown).all()
    np.testing.assert_array_equal(
      looking.undo(view, shown, boards, numbers), boards
    )
    seen.append(shown[0])
  np.testing.assert_array_equal(seen[0], boards[0])
  assert len(np.unique(seen, axis=0)) > 5


def test_a_grid_anywhere_on_the_board_is_answered_where_it_stands():
  looking = views.make("arc", 2, arc.CELLS, seed=0, names=NAMES)
  numbers = np.array([1])
  boards = arc_boards(GRID, [1], corner=(5, 7))
  seen, _ = looking.look(1, boards, numbers)
  np.testing.assert_array_equal(seen, arc_boards(GRID, [3]))
  answers = looking.undo(1, arc_boards(OUTPUT, [3]), boards, numbers)
  np.testing.assert_array_equal(answers, arc_boards(OUTPUT, [1], corner=(5, 7)))
  np.testing.assert_array_equal(
    looking.ballots(answers, boards), arc_boards(OUTPUT, [1])
  )


def test_what_stands_around_an_arc_grid_makes_no_other_answer():
  looking = views.make("arc", 2, arc.CELLS, seed=0)
  boards = arc_boards(GRID, [1, 1])
  boards[1, -1] = 5
  ballots = looking.ballots(boards, boards)
  np.testing.assert_array_equal(ballots[0], ballots[1])
  boards[1, 0] = 5
  ballots = looking.ballots(boards, boards)
  assert np.any(ballots[0] != ballots[1])


def test_an_arc_answer_without_a_grid_stays_one():
  looking = views.make("arc", 2, arc.CELLS, seed=0)
  boards, nothing = arc_boards(GRID, [1]), np.zeros((1, arc.CELLS), np.uint8)
  got = looking.undo(1, nothing, boards, np.array([1]))
  # Below and right of an empty grid stands a frame of no length.
  np.testing.assert_array_equal(got, nothing)

"""Test puzzles that stand in the training data: equal ones and images."""

import numpy as np
import pytest

from data_tools import generate_maze, maze_augment, overlap
from hrm_jax.data import sudoku_canonical, sudoku_generator, symmetry


def sudokus(side, count, seed=0):
  rng = np.random.default_rng(seed)
  blanks = {4: (6, 10), 6: (14, 22), 9: (40, 50)}[side]
  return sudoku_generator.make_puzzles(rng, count, side, *blanks)[0]


def images_of(puzzles, seed=1):
  side = round(puzzles.shape[1] ** 0.5)
  rng = np.random.default_rng(seed)
  symmetries = symmetry.draw_sudoku(rng, len(puzzles), side)
  return symmetry.transform(symmetries, puzzles)


@pytest.mark.parametrize("side", [4, 6, 9])
def test_equal_sudokus_are_told_apart_from_images_and_from_others(side):
  puzzles = sudokus(side, 40)  # none an image of another
  test = np.concatenate([puzzles[:3], images_of(puzzles[3:8]), puzzles[30:]])
  found = overlap.count("sudoku", puzzles[:30], test)
  assert found == overlap.Overlap(equal=3, images=5, asked=18)
  assert overlap.count("sudoku", puzzles[:30], puzzles[30:])[:2] == (0, 0)


def test_turned_and_mirrored_mazes_are_images():
  rng = np.random.default_rng(0)
  mazes, _ = generate_maze.make_mazes(rng, 20, 7, style="carved", min_moves=5)
  turned = maze_augment.images(mazes[:8])[np.arange(8), np.arange(8)]
  test = np.concatenate([turned, mazes[10:]])
  found = overlap.count("maze", mazes[:10], test)
  # The first image is the maze itself, and a maze can be its own mirror.
  assert found.equal + found.images == 8
  assert found.equal == sum(
    (a == b).all() for a, b in zip(turned, mazes[:8], strict=True)
  )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_equal_means_every_cell_whatever_the_dtype(dtype):
  train = np.array([[1, 2, 3, 4, 5], [1, 1, 1, 1, 1]], np.uint8)
  test = np.array([[1, 2, 3, 4, 5], [2, 1, 3, 4, 5], [1, 1, 1, 1, 0]], dtype)
  assert overlap.count("grid", train, test) == (1, None, 3)


def test_the_same_cells_at_other_places_are_another_puzzle():
  train = np.arange(1, 17, dtype=np.uint8)[None]
  assert overlap.count("grid", train, np.roll(train, 4, axis=1)).equal == 0


def test_a_grid_under_another_identifier_is_another_puzzle():
  grids = np.ones((2, 4), np.uint8)
  numbers = np.array([1, 2]), np.array([2, 3])
  assert overlap.count("grid", grids, grids, numbers).equal == 1


@pytest.mark.parametrize("side", [4, 6, 9])
def test_images_share_the_key_by_which_a_table_is_split(side):
  puzzles = sudokus(side, 20)
  both = np.concatenate([puzzles, images_of(puzzles)])
  keys = overlap.class_keys("sudoku", both)
  np.testing.assert_array_equal(keys[:20], keys[20:])
  assert len(np.unique(keys)) == 20
  signatures = sudoku_canonical.signatures(both)
  np.testing.assert_array_equal(signatures[:20], signatures[20:])


def test_nothing_is_warned_of_where_nothing_is_found(monkeypatch):
  lines = []
  monkeypatch.setattr(overlap.log, "warning", lines.append)
  overlap.Overlap(0, None, 5).warn("a")
  overlap.Overlap(0, 0, 5).warn("a")
  assert lines == []
  overlap.Overlap(2, None, 5).warn("a")
  assert (
    "2 of 5 test puzzles stand in the training data (2 as they are)" in lines[0]
  )

"""The ARC contract: boards, the eight transforms, identifiers, crops."""

import json

import numpy as np
import pytest

from hrm_jax.data import arc


def random_grid(rng, largest=arc.SIDE):
  shape = rng.integers(1, largest + 1, size=2)
  return rng.integers(10, size=shape).astype(np.uint8)


def random_augmentation(rng, name="task"):
  permutation = (0, *(1 + rng.permutation(9)).tolist())
  return arc.Augmentation(name, int(rng.integers(8)), permutation)


@pytest.mark.parametrize(
  ("transform", "expected"),
  list(
    enumerate(
      [
        [[1, 2, 3], [4, 5, 6]],
        [[3, 6], [2, 5], [1, 4]],
        [[6, 5, 4], [3, 2, 1]],
        [[4, 1], [5, 2], [6, 3]],
        [[3, 2, 1], [6, 5, 4]],
        [[4, 5, 6], [1, 2, 3]],
        [[1, 4], [2, 5], [3, 6]],
        [[6, 3], [5, 2], [4, 1]],
      ]
    )
  ),
)
def test_each_transform_is_the_numbered_one_and_has_its_inverse(
  transform, expected
):
  grid = np.array([[1, 2, 3], [4, 5, 6]])
  moved = arc.dihedral(grid, transform)
  assert moved.tolist() == expected
  back = arc.dihedral(moved, arc.INVERSE[transform])
  np.testing.assert_array_equal(back, grid)


def test_a_board_has_end_lines_below_and_right_but_no_corner():
  board = arc.to_tokens(np.array([[0, 1, 2], [3, 4, 9]], np.uint8))
  board = board.reshape(30, 30)
  assert board[:4, :5].tolist() == [
    [2, 3, 4, 1, 0],
    [5, 6, 11, 1, 0],
    [1, 1, 1, 0, 0],
    [0, 0, 0, 0, 0],
  ]
  assert board.sum() == board[:4, :5].sum()


def test_a_moved_board_has_no_end_line_where_there_is_no_room():
  board = arc.to_tokens(np.zeros((2, 3), np.uint8), 28, 5).reshape(30, 30)
  assert board[27:, 4:10].tolist() == [
    [0, 0, 0, 0, 0, 0],
    [0, 2, 2, 2, 1, 0],
    [0, 2, 2, 2, 1, 0],
  ]
  full = arc.to_tokens(np.zeros((30, 30), np.uint8))
  assert (full == 2).all()


@pytest.mark.parametrize(
  ("rows", "shape"),
  [
    ([[2, 3, 1], [4, 5, 1], [1, 1, 0]], (2, 2)),
    ([[2, 3, 4, 5], [2, 0]], (1, 4)),
    # Of 1x2 and 2x1 the one with fewer rows.
    ([[2, 3], [4, 0]], (1, 2)),
    ([[2, 0], [4, 0], [5, 0]], (3, 1)),
    ([[0, 5], [5, 5]], (0, 0)),
    ([[12, 5]], (0, 0)),
    ([[2, 12, 5], [2, 2, 5]], (2, 1)),
    ([[2, 2, 2], [2, 2, 0], [2, 2, 2]], (3, 2)),
  ],
)
def test_the_crop_is_the_largest_rectangle_of_colours_at_the_corner(
  rows, shape
):
  board = np.zeros((30, 30), np.int32)
  for i, row in enumerate(rows):
    board[i, : len(row)] = row
  heights, widths = arc.crop_shapes(board.reshape(1, 900))
  assert (heights[0], widths[0]) == shape
  assert arc.from_tokens(board.ravel()).shape == shape


def test_identifiers_say_what_was_done():
  text = arc.identifier("a_t1_b", 7, [0, 2, 1, 3, 4, 5, 6, 7, 8, 9])
  assert text == "a_t1_b_t7_0213456789"
  assert arc.parse_identifier(text) == arc.Augmentation(
    "a_t1_b", 7, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)
  )


def test_the_identifiers_of_trm_say_the_same():
  text = "a_t1_b|||t7|||0213456789"
  assert arc.parse_identifier(text) == arc.Augmentation(
    "a_t1_b", 7, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9)
  )


@pytest.mark.parametrize(
  "name",
  [
    "007bbfb7",
    "a_t1_b",
    "x_t8_0123456789",
    "x_t1_0113456789",
    "x_t1_1023456789",
    "x|||t8|||0123456789",
    "x|||t1_0123456789",
    "_",
  ],
)
def test_other_names_are_those_of_tasks(name):
  plain = arc.Augmentation(name, 0, tuple(range(10)))
  assert arc.parse_identifier(name) == plain


def round_trip(rng, grid, name):
  augmentation = random_augmentation(rng, name)
  parsed = arc.parse_identifier(arc.identifier(*augmentation))
  assert parsed == augmentation
  tokens = arc.to_tokens(arc.augment(grid, augmentation))
  back = arc.undo(arc.from_tokens(tokens), parsed)
  np.testing.assert_array_equal(back, grid)
  assert back.dtype == np.uint8


def test_every_augmentation_is_undone_exactly():
  rng = np.random.default_rng(0)
  for _ in range(300):
    round_trip(rng, random_grid(rng), "some_task")


def test_augmentations_of_the_real_tasks_are_undone_exactly(hrm_data_dir):
  rng = np.random.default_rng(0)
  paths = sorted((hrm_data_dir / "arc/ARC-AGI/data/evaluation").glob("*.json"))
  assert len(paths) == 400
  for path in paths:
    task = json.loads(path.read_text())
    for pair in task["train"] + task["test"]:
      for grid in pair.values():
        round_trip(rng, np.array(grid, np.uint8), path.stem)

"""Images and hints in training: the same puzzles, anywhere the same bits."""

import numpy as np
import pytest

from configs import sudoku as sudoku_config
from data_tools import generate_maze, maze_augment
from hrm_jax.config import check_config
from hrm_jax.console import InputError
from hrm_jax.data import (
  maze,
  rewriting,
  sudoku,
  sudoku_canonical,
  sudoku_generator,
  train_batches,
)
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch
from hrm_jax.data.split import open_split
from tests.datasets import rewrite_field, write_split

PUZZLES = 40
BATCH = 16
BOXES = ["2x2", "2x3", "3x3"]
BOTH = {"augment": True, "hint_mix": 0.3}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
  """Small data sets, by their name."""
  parent = tmp_path_factory.mktemp("rewriting")
  for box in BOXES:
    sudoku_generator.generate(
      parent / box, box=box, num_train=PUZZLES, num_test=1
    )
  generate_maze.generate(
    parent / "maze", size=6, num_train=PUZZLES, num_test=1, min_moves=4
  )
  write_split(parent / "grid", groups=[[1]] * PUZZLES)
  return parent


def make_train(root, *, seed=0, epochs=8, kind=None, **options):
  """Batches of a data set; `kind`: "maze", or by default "sudoku"."""
  split = open_split(root, "train")
  kind = kind or ("maze" if root.name == "maze" else "sudoku")
  options = {"augment": False, "hint_mix": 0.0, **options}
  return train_batches.TrainData(
    split,
    global_batch_size=BATCH,
    seed=seed,
    epochs=epochs,
    eval_interval=epochs // 2,
    rewriting=rewriting.make(split, kind, **options),
  )


def all_batches(train, rows=slice(None)):
  return list(train.batches(0, train.total_steps, rows))


def joined(batches):
  return {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}


def rows_of(root, epochs=40, seed=0, **options):
  """All rows of a run without and with the options, one after the other."""
  plain, changed = (
    joined(all_batches(make_train(root, epochs=epochs, seed=seed, **given)))
    for given in ({}, options)
  )
  np.testing.assert_array_equal(
    plain["puzzle_identifiers"], changed["puzzle_identifiers"]
  )
  assert {a.dtype for a in changed.values()} == {np.dtype(np.int32)}
  return plain, changed


def assert_same(got, expected):
  for field in expected:
    np.testing.assert_array_equal(got[field], expected[field])


# --- images


@pytest.mark.parametrize("box", BOXES)
def test_an_image_is_the_same_sudoku_and_its_answer(roots, box):
  plain, images = rows_of(roots / box, epochs=8, augment=True)
  assert sudoku.obeys_rules(images["labels"]).all()
  assert sudoku.keeps_clues(images["inputs"], images["labels"]).all()
  keys, own = (
    sudoku_canonical.class_keys(rows["inputs"].astype(np.uint8))
    for rows in (images, plain)
  )
  assert keys == own
  assert (images["inputs"] != plain["inputs"]).any(1).mean() > 0.99


def test_an_image_is_the_same_maze_and_its_path(roots):
  plain, images = rows_of(roots / "maze", epochs=8, augment=True)
  assert maze.is_shortest_path(images["inputs"], images["labels"]).all()
  pairs = zip(images["inputs"], plain["inputs"], strict=True)
  for image, own in pairs:
    assert maze_augment.class_key(image) == maze_augment.class_key(own)


def turns_of(roots, seed):
  """Which of the 8 images each row of a run is, in its order."""
  plain, images = rows_of(roots / "maze", epochs=80, seed=seed, augment=True)
  turns = maze_augment.images(plain["inputs"])
  which = (turns == images["inputs"][:, None]).all(2)
  # None of these mazes looks like an image of itself.
  assert (which.sum(1) == 1).all()
  return which.argmax(1)


def test_an_example_comes_as_any_of_its_images_alike(roots):
  turns = turns_of(roots, seed=0)
  counts, expected = np.bincount(turns), len(turns) / 8
  # Chi-squared, 7 degrees of freedom: over 24.3 once in a thousand seeds.
  assert ((counts - expected) ** 2 / expected).sum() < 24.3


def test_what_is_ignored_moves_along_and_is_no_hint(roots):
  plain = make_train(roots / "2x3").batch(0)
  labels = plain["labels"].copy()
  labels[:, ::3] = IGNORE_LABEL_ID
  given: Batch = {**plain, "labels": labels}
  rewrite = rewriting.Rewriting("sudoku", True, 0.99)
  whole, partial = (
    rewrite(np.random.default_rng(0), batch, BATCH, slice(None))
    for batch in (plain, given)
  )
  ignored = partial["labels"] == IGNORE_LABEL_ID
  assert ignored.sum() == BATCH * 12
  np.testing.assert_array_equal(
    partial["labels"][~ignored], whole["labels"][~ignored]
  )
  hinted = (partial["inputs"] > sudoku.BLANK_ID).sum(1)
  assert (hinted > (plain["inputs"] > sudoku.BLANK_ID).sum(1)).mean() > 0.5
  assert (partial["inputs"] >= sudoku.BLANK_ID).all()


# --- hints


def test_hints_are_blanks_filled_in_from_the_answer(roots):
  plain, hinted = rows_of(roots / "3x3", hint_mix=0.5)
  np.testing.assert_array_equal(hinted["labels"], plain["labels"])
  filled = hinted["inputs"] != plain["inputs"]
  assert (plain["inputs"][filled] == sudoku.BLANK_ID).all()
  assert (hinted["inputs"][filled] == plain["labels"][filled]).all()
  assert (hinted["inputs"] == sudoku.BLANK_ID).any(1).all()


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_so_many_examples_get_hints(roots, share):
  plain, hinted = rows_of(roots / "2x2", epochs=400, hint_mix=share)
  got = (hinted["inputs"] != plain["inputs"]).any(1)
  # Four standard errors of 16,000 draws.
  assert abs(got.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(got))


def test_any_number_of_blanks_is_filled_in_and_any_of_them(roots):
  plain, hinted = rows_of(roots / "2x2", epochs=400, hint_mix=0.99)
  blank = plain["inputs"] == sudoku.BLANK_ID
  filled = hinted["inputs"] != plain["inputs"]
  blanks, hints = blank.sum(1), filled.sum(1)
  of_eight = hints[(blanks == 8) & (hints > 0)]
  counts, expected = np.bincount(of_eight)[1:], len(of_eight) / 7
  assert len(counts) == 7
  # Chi-squared, 6 degrees of freedom: over 22.5 once in a thousand seeds.
  assert ((counts - expected) ** 2 / expected).sum() < 22.5
  # The first blank of a puzzle is filled in as often as its last.
  first = filled[np.arange(len(filled)), blank.argmax(1)]
  last = filled[np.arange(len(filled)), 15 - blank[:, ::-1].argmax(1)]
  assert abs(first.mean() - last.mean()) < 4 * np.sqrt(0.5 / len(filled))


def test_a_puzzle_with_one_blank_or_none_keeps_it(roots):
  plain = make_train(roots / "2x2").batch(0)
  inputs = plain["labels"].copy()
  inputs[::2, 3] = sudoku.BLANK_ID
  hinted = rewriting.Rewriting("sudoku", False, 0.99)(
    np.random.default_rng(0), {**plain, "inputs": inputs}, BATCH, slice(None)
  )
  np.testing.assert_array_equal(hinted["inputs"], inputs)


# --- the same bits


def test_neither_changes_nothing(roots):
  split = open_split(roots / "2x2", "train")
  assert rewriting.make(split, "sudoku", augment=False, hint_mix=0) is None
  assert rewriting.make(split, None, augment=False, hint_mix=0) is None


@pytest.mark.parametrize(
  ("name", "options"), [("2x3", BOTH), ("maze", {"augment": True})]
)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_read_their_rows_of_the_same_batches(
  roots, name, options, processes
):
  train = make_train(roots / name, **options)
  steps = [train.batch(step) for step in range(train.total_steps)]
  each = BATCH // processes
  parts = [
    all_batches(
      make_train(roots / name, **options), slice(i * each, (i + 1) * each)
    )
    for i in range(processes)
  ]
  assert [len(part) for part in parts] == [len(steps)] * processes
  for whole, *own in zip(steps, *parts, strict=True):
    assert_same(joined(own), whole)


def test_a_run_that_resumes_sees_the_same_examples(roots):
  whole = all_batches(make_train(roots / "3x3", **BOTH))
  for done in (1, 7, len(whole) // 2, len(whole) - 1):
    train = make_train(roots / "3x3", **BOTH)
    rest = list(train.batches(done, train.total_steps))
    assert len(rest) == len(whole) - done
    assert_same(joined(rest), joined(whole[done:]))


def test_seed_and_update_decide_which_image_comes(roots):
  first, again, other = (turns_of(roots, seed=seed) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  # By chance an eighth of them are the same: 0.03 is four standard errors.
  half = len(first) // 2  # An iteration.
  for one, two in ((first, other), (first[:half], first[half:])):
    assert abs((one == two).mean() - 1 / 8) < 0.04


# --- what a person asks for


def test_the_keys_of_a_run_reach_its_batches(roots):
  config = sudoku_config.get_config("mini")
  config.global_batch_size, config.epochs, config.eval_interval = BATCH, 8, 4
  config.data.update({"augment": True, "hint_mix": 0.3})
  check_config(config)
  split = open_split(roots / "2x2", "train")
  got = train_batches.of_config(config, split, "sudoku").batch(3)
  assert_same(got, make_train(roots / "2x2", **BOTH).batch(3))


@pytest.mark.parametrize(
  ("name", "kind", "options", "message"),
  [
    ("maze", "maze", {"hint_mix": 0.3}, r"hint_mix: .* got 0\.3 for .*of the "),
    ("grid", "arc", {"hint_mix": 0.3}, r"hint_mix: expected 0 .* the kind arc"),
    (
      "grid",
      "arc",
      {"augment": True},
      r"augment: .*when a data set .*kind arc",
    ),
    ("grid", "grid", {"augment": True}, r"augment: expected False .* got True"),
    ("grid", None, {"augment": True}, r"augment: .*whose kind is not known"),
    ("grid", "maze", {"augment": True}, r"augment: .*identifier.*which has 41"),
  ],
)
def test_what_has_no_images_or_no_blanks_is_refused(
  roots, name, kind, options, message
):
  options = {"augment": False, "hint_mix": 0.0, **options}
  split = open_split(roots / name, "train")
  with pytest.raises(InputError, match=rf"^config\.data\.{message}") as error:
    rewriting.make(split, kind, **options)
  assert "\n" not in str(error.value)


def test_boxes_of_another_shape_are_refused(roots, tmp_path):
  # A Sudoku with boxes of 3x2 is one of 2x3, transposed.
  path = tmp_path / "train"
  sudoku_generator.generate(tmp_path, box="2x3", num_train=4, num_test=1)
  for field in ("inputs", "labels"):
    rewrite_field(
      path, field, lambda a: a.reshape(-1, 6, 6).swapaxes(1, 2).reshape(-1, 36)
    )
  split = open_split(tmp_path, "train")
  expected = (
    r"all__labels\.npy: row 0: expected, for config\.data\.augment.*2x3"
  )
  with pytest.raises(InputError, match=expected):
    rewriting.make(split, "sudoku", augment=True, hint_mix=0.0)

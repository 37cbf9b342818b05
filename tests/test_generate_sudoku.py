"""Generated Sudoku: unique solutions, and no image of a training puzzle."""

import json

import numpy as np
import pytest

from data_tools import generate_sudoku
from hrm_jax.console import InputError
from hrm_jax.data import (
  puzzle,
  sudoku,
  sudoku_canonical,
  sudoku_generator,
  sudoku_solver,
  symmetry,
)
from tests.commands import Commands, files_of

TOY = {"num_train": 20, "num_test": 10}


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def load(root, split):
  return tuple(
    np.load(puzzle.field_path(root, split, "all", field), allow_pickle=False)
    for field in ("inputs", "labels")
  )


def random_puzzles(count, side, seed=0, share=0.5):
  """Random clues of random grids; some have several solutions."""
  rng = np.random.default_rng(seed)
  empty = np.ones((count, side * side), np.uint8)
  grids, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  return np.where(rng.random(grids.shape) < share, grids, 1).astype(np.uint8)


def images_of(puzzles, seed=1):
  side = sudoku.side_of(puzzles.shape[1])
  rng = np.random.default_rng(seed)
  symmetries = symmetry.draw_sudoku(rng, len(puzzles), side)
  return symmetry.transform(symmetries, puzzles)


@pytest.mark.parametrize("side", [4, 6, 8, 9])
def test_images_share_their_key(side):
  puzzles = random_puzzles(100, side)
  assert sudoku_canonical.class_keys(images_of(puzzles)) == (
    sudoku_canonical.class_keys(puzzles)
  )


@pytest.mark.parametrize("side", [4, 6])
def test_the_canonical_form_is_itself_an_image(side):
  puzzles = random_puzzles(50, side)
  forms = sudoku_canonical.canonical_forms(puzzles)
  np.testing.assert_array_equal(
    sudoku_canonical.canonical_forms(forms + np.uint8(1)), forms
  )
  np.testing.assert_array_equal(
    sudoku_solver.count_solutions(forms + 1, 100),
    sudoku_solver.count_solutions(puzzles, 100),
  )


def test_canonical_forms_agree_with_making_all_images():
  # Few clues in a 4x4 grid: many of these puzzles are images of each other.
  puzzles = random_puzzles(30, 4, share=0.25)
  forms = sudoku_canonical.canonical_forms(puzzles)
  digits = symmetry.draw_sudoku(np.random.default_rng(0), 1000, 4)[1]
  digits = np.unique(digits, axis=0)
  assert len(digits) == 24
  moves = sudoku_canonical.position_symmetries(4)
  orbits = [
    {image.tobytes() for image in digits[:, p[moves]].reshape(-1, 16)}
    for p in puzzles
  ]
  equal = (forms[:, None] == forms).all(-1)
  expected = [[p.tobytes() in orbit for p in puzzles] for orbit in orbits]
  np.testing.assert_array_equal(equal, expected)
  assert len(puzzles) < equal.sum() < len(puzzles) ** 2


@pytest.mark.parametrize("side", [4, 6, 9])
def test_puzzles_that_are_no_images_differ(side):
  puzzles = random_puzzles(1, side, share=0.7)
  clues = np.flatnonzero(puzzles[0] > 1)
  one_less = puzzles.copy()
  one_less[0, clues[0]] = 1
  # Exchanging two cells of a row keeps the clues, not the structure.
  full = random_puzzles(1, side, share=1)
  exchanged = full.copy()
  exchanged[0, [0, -1]] = full[0, [1, 0]]
  keys = sudoku_canonical.class_keys(
    np.concatenate([puzzles, one_less, full, exchanged])
  )
  assert len(set(keys)) == 4


def test_transposition_is_a_symmetry_of_square_boxes_only():
  for side, same in ((4, True), (6, False), (8, False), (9, True)):
    puzzles = random_puzzles(1, side)
    turned = puzzles.reshape(side, side).T.reshape(1, -1)
    keys = sudoku_canonical.class_keys(np.concatenate([puzzles, turned]))
    assert (keys[0] == keys[1]) == same


def test_real_puzzles_have_different_invariants(hrm_data_dir):
  # They are known to be no images of each other.
  lines = (hrm_data_dir / "sudoku" / "test.csv").read_text().splitlines()[1:]
  puzzles = np.stack([sudoku.parse(line.split(",")[1]) for line in lines])
  assert len(set(sudoku_canonical.invariants(puzzles))) == len(puzzles)


def test_the_table_of_4x4_classes_is_right():
  grids, _ = sudoku_solver.solve(
    np.ones((5000, 16), np.uint8), limit=1, rng=np.random.default_rng(0)
  )
  forms = np.unique(sudoku_canonical.canonical_forms(grids), axis=0)
  assert len(forms) == 2  # as is known
  classes = {}
  for blanks in range(16):
    kept = np.array([m for m in range(1 << 16) if m.bit_count() == 16 - blanks])
    kept = (kept[:, None] >> np.arange(16) & 1).astype(bool)
    puzzles = np.concatenate([np.where(kept, f + 1, 1) for f in forms])
    unique = sudoku_solver.count_solutions(puzzles) == 1
    keys = sudoku_canonical.class_keys(puzzles[unique].astype(np.uint8))
    classes[blanks] = len(set(keys))
  assert [n for n in classes.values() if n] == list(
    sudoku_generator.CLASSES_4X4
  )


@pytest.mark.parametrize("box", sudoku_generator.SIDES)
def test_generated_puzzles_have_one_solution(box, tmp_path):
  sudoku_generator.generate(tmp_path / "out", box=box, num_aug=3, **TOY)
  side = sudoku_generator.SIDES[box]
  least, most = sudoku_generator.BLANKS[box]
  for split, count in (("train", 80), ("test", 10)):
    inputs, labels = load(tmp_path / "out", split)
    assert len(inputs) == count
    assert sudoku.obeys_rules(labels).all()
    assert sudoku.keeps_clues(inputs, labels).all()
    assert (sudoku_solver.count_solutions(inputs) == 1).all()
    blanks = (inputs == 1).sum(1)
    assert least <= blanks.min() < blanks.max() <= most
    metadata = puzzle.read_metadata(tmp_path / "out", split)
    assert metadata.vocab_size == side + 2
    assert metadata.seq_len == side * side
    assert metadata.total_groups == count // (4 if split == "train" else 1)


def test_the_embedded_set_holds_out_no_image_of_a_training_puzzle(tmp_path):
  sudoku_generator.generate(tmp_path / "out", num_aug=10)
  train, _ = load(tmp_path / "out", "train")
  test, _ = load(tmp_path / "out", "test")
  assert (len(train), len(test)) == (11_000, 1024)
  train_keys = set(sudoku_canonical.class_keys(train))
  test_keys = set(sudoku_canonical.class_keys(test))
  assert not train_keys & test_keys
  assert (len(train_keys), len(test_keys)) == (1000, 1024)
  for puzzles in (train, test):
    assert 7.5 < (puzzles == 1).sum(1).mean() < 8.5


def test_the_seed_decides_every_byte(tmp_path):
  for name, seed in (("a", 5), ("b", 5), ("c", 6)):
    sudoku_generator.generate(tmp_path / name, seed=seed, num_aug=2, **TOY)
  first, same, other = (files_of(tmp_path / name) for name in "abc")
  assert first == same
  assert first["train/all__inputs.npy"] != other["train/all__inputs.npy"]
  assert first["test/all__inputs.npy"] != other["test/all__inputs.npy"]


def test_the_command_prints_its_counts(tmp_path, commands):
  out = tmp_path / "out"
  flags = ["--num-train", 20, "--num-test", 10, "--blanks", "5-6", "--seed", 3]
  result = commands(generate_sudoku, "--output-dir", out, *flags)
  assert result["path"] == str(out)
  assert result["test"] == {"groups": 10, "puzzles": 10, "examples": 10}
  build = json.loads((out / "build.json").read_text())
  assert build["arguments"]["blanks"] == [5, 6]
  assert build["seed"] == 3
  error = commands.error(generate_sudoku, "--output-dir", out, *flags)
  assert "already exists; pass --overwrite" in error
  commands(generate_sudoku, "--output-dir", out, *flags, "--overwrite")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--num-train", 3000], "expected 3,895 puzzles in all at most"),
    (["--blanks", "14"], "least <= most <= 13 for side 4"),
    (["--blanks", "8-6"], "got 8 and 6"),
    (["--num-train", 0], "--num-train: expected at least 1, got 0"),
    (["--num-test", -5], "--num-test: expected at least 1, got -5"),
    (["--num-aug", -1], "--num-aug: expected at least 0, got -1"),
    (["--seed", -1], "--seed: expected at least 0, got -1"),
  ],
)
def test_impossible_requests_get_one_line(flags, message, tmp_path, commands):
  out = tmp_path / "out"
  error = commands.error(generate_sudoku, "--output-dir", out, *flags)
  assert message in error
  assert list(tmp_path.iterdir()) == []


def test_a_search_that_finds_nothing_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(sudoku_generator, "_BARREN_DRAWS", 300)
  with pytest.raises(InputError, match=r"got 0 and then none in \d+ tries"):
    sudoku_generator.generate(
      tmp_path / "out", box="2x3", blanks=(31, 31), num_train=5, num_test=5
    )
  assert list(tmp_path.iterdir()) == []

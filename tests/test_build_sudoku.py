"""The Sudoku builder: tables in, augmented data sets out, bad rows refused."""

import errno
import json

import numpy as np
import pytest

from data_tools import build_sudoku, check, overlap
from hrm_jax.data import (
  puzzle,
  ratings,
  sudoku,
  sudoku_augment,
  sudoku_solver,
  symmetry,
)
from hrm_jax.data.split import open_split
from tests.commands import Commands, files_of
from tests.sudoku_tables import (
  HEADER,
  ROWS,
  different_rows,
  make_rows,
  moved,
  to_csv,
)


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def source(tmp_path):
  """A directory with 6 training puzzles and 4 test puzzles."""
  path = tmp_path / "source"
  path.mkdir()
  (path / "train.csv").write_text(to_csv(make_rows(6)))
  (path / "test.csv").write_text(to_csv(make_rows(4, seed=1)))
  return path


def load(root, split):
  return {
    field: np.load(
      puzzle.field_path(root, split, "all", field), allow_pickle=False
    )
    for field in puzzle.FIELDS
  }


def texts(arrays):
  return [
    (sudoku.to_text(q), sudoku.to_text(a))
    for q, a in zip(arrays["inputs"], arrays["labels"], strict=True)
  ]


def test_every_file_is_as_the_format_says(source, tmp_path, commands):
  out = tmp_path / "out"
  result = commands(
    build_sudoku, "--source-csv", source, "--output-dir", out, "--num-aug", 3
  )
  assert result == {
    "path": str(out),
    "train": {"groups": 6, "puzzles": 24, "examples": 24},
    "test": {"groups": 4, "puzzles": 4, "examples": 4},
  }
  train, test = load(out, "train"), load(out, "test")
  for arrays in (train, test):
    assert arrays["inputs"].dtype == arrays["labels"].dtype == np.uint8
    for field in puzzle.FIELDS[2:]:
      assert arrays[field].dtype == np.int32
    assert not arrays["puzzle_identifiers"].any()
  assert train["inputs"].shape == train["labels"].shape == (24, 81)
  np.testing.assert_array_equal(train["puzzle_indices"], np.arange(25))
  np.testing.assert_array_equal(train["group_indices"], np.arange(0, 25, 4))
  np.testing.assert_array_equal(test["group_indices"], np.arange(5))
  assert puzzle.read_metadata(out, "train") == puzzle.DatasetMetadata(
    pad_id=0,
    ignore_label_id=0,
    blank_identifier_id=0,
    vocab_size=11,
    seq_len=81,
    num_puzzle_identifiers=1,
    total_groups=6,
    mean_puzzle_examples=1,
    sets=("all",),
    total_puzzles=24,
  )
  assert json.loads((out / "identifiers.json").read_text()) == ["<blank>"]
  assert texts(test) == [(q, a) for _, q, a, _ in make_rows(4, seed=1)]


def test_a_group_is_the_original_and_images_of_it(source, tmp_path):
  build_sudoku.build(tmp_path / "out", source_csv=source, num_aug=20)
  train = load(tmp_path / "out", "train")
  inputs, labels = train["inputs"], train["labels"]
  assert sudoku.obeys_rules(labels).all()
  assert sudoku.keeps_clues(inputs, labels).all()
  assert texts({"inputs": inputs[::21], "labels": labels[::21]}) == [
    (q, a) for _, q, a, _ in make_rows(6)
  ]
  # An image keeps the number of clues, and how often its digits stand there.
  counts = (inputs[:, :, None] == np.arange(1, 11)).sum(1)
  counts = np.concatenate([counts[:, :1], np.sort(counts[:, 1:])], axis=1)
  groups = counts.reshape(6, 21, -1)
  np.testing.assert_array_equal(groups, groups[:, :1].repeat(21, axis=1))
  assert len(np.unique(inputs[:21], axis=0)) == 21


@pytest.mark.parametrize("side", [4, 6, 8, 9])
def test_images_are_valid_and_question_and_answer_move_alike(side):
  rng = np.random.default_rng(0)
  empty = np.ones((50, side * side), np.uint8)
  answers, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  questions = np.where(rng.random(answers.shape) < 0.6, answers, 1)
  questions = questions.astype(np.uint8)
  pieces = sudoku_augment.augmented(
    rng, questions, answers, 5, boards_at_once=7
  )
  inputs, labels = map(np.concatenate, zip(*pieces, strict=True))
  assert sudoku.obeys_rules(labels).all()
  assert sudoku.keeps_clues(inputs, labels).all()
  np.testing.assert_array_equal(inputs[::6], questions)
  np.testing.assert_array_equal(labels[::6], answers)
  np.testing.assert_array_equal(
    sudoku_solver.count_solutions(inputs).reshape(50, 6)[:, 1:],
    sudoku_solver.count_solutions(questions)[:, None].repeat(5, axis=1),
  )


def test_symmetries_are_drawn_from_the_whole_group():
  cells, digits = symmetry.draw_sudoku(np.random.default_rng(0), 20_000, 4)
  # 128 moves of the cells of a 4x4 grid, 24 ways to name its digits.
  for drawn, size in ((cells, 128), (digits, 24)):
    times = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(times) == size
    assert abs(times / (20_000 / size) - 1).max() < 0.4
  np.testing.assert_array_equal(digits[:, :2], [[0, 1]] * len(digits))
  # Boxes of 2x3 do not survive a transposition.
  cells, _ = symmetry.draw_sudoku(np.random.default_rng(0), 500, 6)
  assert (cells.reshape(-1, 6, 6)[:, 0] // 6 == cells[:, :1] // 6).all()


def test_the_seed_decides_every_byte(source, tmp_path):
  for name, seed in (("a", 5), ("b", 5), ("c", 6)):
    build_sudoku.build(
      tmp_path / name,
      source_csv=source,
      subsample_size=3,
      num_aug=4,
      seed=seed,
    )
  first, same, other = (files_of(tmp_path / name) for name in "abc")
  assert len(first) == 14
  assert first == same
  assert first["train/all__inputs.npy"] != other["train/all__inputs.npy"]
  assert first["test/all__inputs.npy"] == other["test/all__inputs.npy"]
  assert json.loads(first["build.json"])["seed"] == 5
  assert str(tmp_path).encode() not in first["build.json"]


def test_difficulty_filters_both_splits_before_the_subsample(source, tmp_path):
  built = build_sudoku.build(
    tmp_path / "out", source_csv=source, min_difficulty=2, subsample_size=4
  )
  assert built["counts"]["train"]["groups"] == 4
  assert built["counts"]["test"]["groups"] == 2
  rows = make_rows(6)[2:]
  assert sorted(texts(load(tmp_path / "out", "train"))) == sorted(
    (q, a) for _, q, a, _ in rows
  )


def test_every_training_puzzle_may_have_its_identifier(source, tmp_path):
  build_sudoku.build(
    tmp_path / "out",
    source_csv=source,
    num_aug=2,
    min_difficulty=2,
    identifiers="per-puzzle",
  )
  train, test = load(tmp_path / "out", "train"), load(tmp_path / "out", "test")
  np.testing.assert_array_equal(
    train["puzzle_identifiers"], np.repeat([1, 2, 3, 4], 3)
  )
  assert not test["puzzle_identifiers"].any()
  for split in ("train", "test"):
    metadata = puzzle.read_metadata(tmp_path / "out", split)
    assert metadata.num_puzzle_identifiers == 5
  names = json.loads((tmp_path / "out" / "identifiers.json").read_text())
  assert names == ["<blank>", "train:3", "train:4", "train:5", "train:6"]


def test_a_table_without_ratings_has_no_difficulty(source, tmp_path, commands):
  for split in ("train", "test"):
    path = source / f"{split}.csv"
    path.write_text(to_csv([row[1:3] for row in ROWS], HEADER[1:3]))
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_sudoku, *flags, "--min-difficulty", 1)
  assert error == (
    f"{source}/train.csv: line 1: expected a column rating or difficulty for "
    "--min-difficulty, got none; say which one it is with --columns "
    "rating=NAME."
  )
  assert commands(build_sudoku, *flags)["train"]["groups"] == 3


def test_ratings_are_kept_beside_the_test_puzzles(source, tmp_path, commands):
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  rows = [[*row[:3], str(i / 2)] for i, row in enumerate(make_rows(4))]
  (source / "test.csv").write_text(to_csv(rows))
  commands(build_sudoku, *flags, "--keep-ratings", "--min-difficulty", 1)
  test = open_split(tmp_path / "out", "test")
  found = ratings.read(test, test.sets[0])
  assert found.tolist() == [1, 1.5]
  assert not list((tmp_path / "out/train").glob("*ratings*"))
  commands(build_sudoku, *flags, "--overwrite")
  assert not list((tmp_path / "out").rglob("*ratings*"))
  (source / "test.csv").write_text(to_csv([[*ROWS[0][:3], "hard"]]))
  error = commands.error(build_sudoku, *flags, "--keep-ratings", "--overwrite")
  assert f"{source}/test.csv: line 2" in error
  assert "for --keep-ratings, got 'hard'" in error
  (source / "test.csv").write_text(to_csv([ROWS[0][1:3]], HEADER[1:3]))
  error = commands.error(build_sudoku, *flags, "--keep-ratings", "--overwrite")
  assert "expected a column rating or difficulty for --keep-ratings" in error


@pytest.mark.parametrize(
  ("values", "said"),
  [
    (np.ones(2), "expected shape (4,), one rating for each example, got (2,)"),
    (np.array([1, np.nan, 2, 3]), "row 1: expected a number, got nan"),
    (np.array(list("abcd")), "expected a .npy file of numbers"),
    (None, "expected a complete .npy file of numbers"),
  ],
)
def test_the_check_names_ratings_that_are_none(
  source, tmp_path, commands, values, said
):
  out = tmp_path / "out"
  commands(build_sudoku, "--source-csv", source, "--output-dir", out)
  path = out / "test/all__ratings.npy"
  np.save(path, np.ones(4))
  commands(check, out)
  path.write_bytes(b"")
  if values is not None:
    np.save(path, values)
  assert f"{path}: {said}" in commands.error(check, out)


def test_difficulties_may_be_decimal(source, tmp_path, commands):
  rows = [[*row[:3], str(i / 2)] for i, row in enumerate(make_rows(6))]
  (source / "train.csv").write_text(to_csv(rows))
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  result = commands(build_sudoku, *flags, "--min-difficulty", 1.5)
  assert (result["train"]["groups"], result["test"]["groups"]) == (3, 2)
  error = commands.error(build_sudoku, *flags, "--min-difficulty", "hard")
  assert "expected a number, got 'hard'" in error
  (source / "train.csv").write_text(to_csv(rows, [*HEADER[:3], "difficulty"]))
  error = commands.error(
    build_sudoku, *flags, "--min-difficulty", 3, "--overwrite"
  )
  assert error == (
    f"{source}/train.csv: expected puzzles with a difficulty of at least 3 "
    "(--min-difficulty), got 2.5 at most."
  )


def test_one_table_is_split_by_whole_classes(tmp_path, commands):
  rows = [
    r
    for i, row in enumerate(different_rows(20))
    for r in (row, moved(row, seed=i))
  ]
  path = tmp_path / "only" / "sudoku.csv"
  path.parent.mkdir()
  path.write_text(to_csv(rows))
  for name, source, seed in (
    ("a", path, 0),
    ("b", path.parent, 0),
    ("c", path, 1),
  ):
    result = commands(
      build_sudoku,
      *("--source-csv", source, "--output-dir", tmp_path / name),
      *("--test-fraction", 0.25, "--seed", seed),
    )
    assert (result["train"]["groups"], result["test"]["groups"]) == (30, 10)
    build = json.loads((tmp_path / name / "build.json").read_text())
    assert build["test_in_train"] == {"equal": 0, "images": 0}
    assert list(build["source"]["sha256"]) == ["sudoku.csv"]
  a, b, c = (files_of(tmp_path / name) for name in "abc")
  assert a == b
  assert a["test/all__inputs.npy"] != c["test/all__inputs.npy"]
  error = commands.error(
    build_sudoku, "--source-csv", path, "--output-dir", tmp_path / "d"
  )
  assert "pass --test-fraction to hold out a part of it for the test" in error


def test_test_puzzles_that_stand_in_training_are_counted_and_warned_of(
  source, tmp_path, monkeypatch
):
  lines = []
  monkeypatch.setattr(overlap.log, "warning", lines.append)
  rows = different_rows(6)
  (source / "train.csv").write_text(to_csv(rows[:4]))
  (source / "test.csv").write_text(to_csv([*rows[2:5], moved(rows[0], seed=0)]))
  built = build_sudoku.build(tmp_path / "a", source_csv=source, num_aug=3)
  assert built["test_in_train"] == {"equal": 2, "images": 1}
  assert f"{tmp_path / 'a'}: 3 of 4 test puzzles stand in the tr" in lines[0]
  assert "(2 as they are, 1 as images)" in lines[0]
  (source / "test.csv").write_text(to_csv(rows[4:]))
  built = build_sudoku.build(tmp_path / "b", source_csv=source, num_aug=3)
  assert built["test_in_train"] == {"equal": 0, "images": 0}
  assert len(lines) == 1


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--subsample-size", 7], "at least 7 puzzles to choose from"),
    (["--subsample-size", 0], "--subsample-size: expected at least 1, got 0"),
    (["--num-aug", -1], "--num-aug: expected at least 0, got -1"),
    (["--seed", -1], "--seed: expected at least 0, got -1"),
    (["--min-difficulty", 5], "test.csv: expected puzzles with a rating of at"),
    (["--source-csv", "nowhere"], "nowhere/train.csv: no such file"),
    (["--test-fraction", 0.5], "to split by --test-fraction, got train.csv"),
    (["--test-fraction", 1], "expected a number between 0 and 1, got 1"),
  ],
)
def test_impossible_requests_get_one_line(
  flags, message, source, tmp_path, commands
):
  error = commands.error(
    build_sudoku,
    *("--source-csv", source, "--output-dir", tmp_path / "out"),
    *flags,
  )
  assert message in error
  assert not (tmp_path / "out").exists()


def test_without_a_network_the_error_says_what_to_do(
  tmp_path, monkeypatch, commands
):
  import huggingface_hub

  def fail(*args, **kwargs):
    raise ConnectionError("no route to host.\nAnd more lines.")

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
  error = commands.error(build_sudoku, "--output-dir", tmp_path / "out")
  assert "Hub data set sapientinc/sudoku-extreme (ConnectionError: no" in error
  assert "--source-csv DIR" in error
  assert "HF_HUB_OFFLINE=1" in error
  assert list(tmp_path.iterdir()) == []


def test_a_hub_cache_that_cannot_be_written_leads_to_home(
  tmp_path, monkeypatch, commands
):
  import huggingface_hub

  def fail(*args, **kwargs):
    raise PermissionError(errno.EACCES, "Permission denied", "/.cache")

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
  error = commands.error(build_sudoku, "--output-dir", tmp_path / "out")
  assert "'/.cache'); set HOME, or HF_HOME, to a directory" in error
  assert "network" not in error


def test_without_a_home_the_hub_is_not_asked(tmp_path, monkeypatch, commands):
  from huggingface_hub import constants

  monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
  error = commands.error(build_sudoku, "--output-dir", tmp_path / "out")
  assert "set HOME, or HF_HOME, to a directory" in error
  assert "network" not in error


def test_the_hub_revision_is_recorded(source, tmp_path, monkeypatch):
  import huggingface_hub

  asked = []

  def find(repo, name, *, repo_type):
    asked.append((repo, name, repo_type))
    return str(source / name)

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", find)
  built = build_sudoku.build(tmp_path / "out", source_repo="some/set")
  assert asked == [
    ("some/set", "train.csv", "dataset"),
    ("some/set", "test.csv", "dataset"),
  ]
  assert built["source"]["repo"] == "some/set"
  assert built["source"]["revision"] == "source"


def test_an_interruption_leaves_nothing(source, tmp_path, monkeypatch):
  def interrupt(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(symmetry, "transform", interrupt)
  with pytest.raises(KeyboardInterrupt):
    build_sudoku.build(tmp_path / "out", source_csv=source, num_aug=1)
  assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_the_real_tables_build(hrm_data_dir, tmp_path):
  build_sudoku.build(
    tmp_path / "out",
    source_csv=hrm_data_dir / "sudoku",
    subsample_size=200,
    num_aug=10,
  )
  train = load(tmp_path / "out", "train")
  assert len(train["inputs"]) == 2200
  assert sudoku.obeys_rules(train["labels"]).all()
  assert sudoku.keeps_clues(train["inputs"], train["labels"]).all()
  assert len(load(tmp_path / "out", "test")["inputs"]) == 5000

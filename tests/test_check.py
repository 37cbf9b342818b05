"""The checker: good sets of every origin pass, every damage is found."""

import json
import os
import shutil

import numpy as np
import pytest

from data_tools import build_grid, check
from hrm_jax.console import InputError
from hrm_jax.data import maze, sudoku_generator
from hrm_jax.train import loop
from tests import runs
from tests.commands import Commands
from tests.datasets import rewrite_field, write_split


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """A 4x4 Sudoku set of our builder; leave it as it is."""
  root = tmp_path_factory.mktemp("built") / "set"
  sudoku_generator.generate(root, num_train=6, num_test=4, num_aug=2)
  return root


@pytest.fixture
def root(built, tmp_path):
  """A copy of it, to be damaged."""
  return shutil.copytree(built, tmp_path / "set")


def as_the_reference_does(root):
  """Rewrites a set with its dtypes and without what only ours has."""
  (root / "build.json").unlink()
  for path in root.glob("*/*.npy"):
    field = path.stem.split("__")[1]
    dtype = np.int64 if field == "labels" else np.int32
    np.save(path, np.load(path).astype(dtype))
  for path in root.glob("*/dataset.json"):
    edit_json(path, total_puzzles=None)
    value = json.loads(path.read_text())
    del value["total_puzzles"]
    path.write_text(json.dumps(value))
  return root


def edit_json(path, **changed):
  path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_our_set_is_good(built, commands):
  assert commands(check, built, "--check-unique") == {
    "path": str(built),
    "good": True,
    "puzzle": "sudoku",
    "identifiers": 1,
    "train": {"groups": 6, "puzzles": 18, "examples": 18},
    "test": {"groups": 4, "puzzles": 4, "examples": 4},
    "test_in_train": {"equal": 0, "images": 0},
  }


def test_test_puzzles_of_the_training_data_are_counted(
  root, commands, monkeypatch
):
  lines = []
  monkeypatch.setattr(check.overlap.log, "warning", lines.append)
  # Groups of a puzzle and two images: the first, and an image of the second.
  for field in ("inputs", "labels"):
    rows = np.load(root / "train" / f"all__{field}.npy")
    rewrite_field(root / "test", field, lambda a, r=rows: [r[0], r[4], *a[2:]])
  result = commands(check, root)
  assert result["good"] is True
  assert result["test_in_train"] == {"equal": 1, "images": 1}
  assert f"{root}: 2 of 4 test puzzles stand in the training" in lines[0]


def test_a_set_of_the_reference_is_good_and_recognised(root, commands):
  result = commands(check, as_the_reference_does(root))
  assert result["puzzle"] == "sudoku"


def test_a_9x9_set_is_recognised_and_may_have_every_integer_dtype(tmp_path):
  root = tmp_path / "set"
  sudoku_generator.generate(root, box="3x3", num_train=2, num_test=2)
  as_the_reference_does(root)
  path = root / "train" / "all__inputs.npy"
  for dtype in ("u1", "i1", "<u2", ">i2", "<u4", ">i8", "<u8"):
    np.save(path, np.load(path).astype(dtype))
    assert check.check(root)["puzzle"] == "sudoku"


def test_several_sets_puzzles_and_examples_are_good(tmp_path):
  groups = {"one": [[3, 1], [2]], "two": [[4]]}
  for split in check.SPLITS:
    write_split(tmp_path, split, groups=groups)
  (tmp_path / "identifiers.json").write_text(json.dumps(list("abcde")))
  assert check.check(tmp_path)["train"] == {
    "groups": 3,
    "puzzles": 4,
    "examples": 10,
  }


def cell(row, column, value):
  def change(array):
    array[row, column] = value
    return array

  return change


def entry(index, value):
  def change(array):
    array[index] = value
    return array

  return change


def swapped_rows(labels):
  labels[[7, 8]] = labels[[8, 7]]
  return labels


def doubled_solution(labels):
  """Two cells of a row of example 5 are exchanged."""
  labels[5, [0, 1]] = labels[5, [1, 0]]
  return labels


# What to change: a field of the training split, and what the line says.
DAMAGED_FIELDS = {
  "input_too_large": ("inputs", cell(5, 3, 6), "row 5: cell 3: expected a tok"),
  "input_pad": ("inputs", cell(5, 3, 0), "row 5: cell 3: expected a blank or"),
  "label_too_large": (
    "labels",
    cell(9, 0, 200),
    "0..5 (vocab_size 6), got 200",
  ),
  "label_negative": (
    "labels",
    lambda a: cell(9, 2, -1)(a.astype(np.int32)),
    "row 9: cell 2: expected a token id in 0..5 (vocab_size 6), got -1",
  ),
  "label_not_filled": ("labels", cell(4, 1, 0), "row 4: expected a grid that"),
  "label_blank": ("labels", cell(4, 1, 1), "row 4: expected a grid that obeys"),
  "answer_breaks_rules": ("labels", doubled_solution, "row 5: expected a grid"),
  "answers_swapped": ("labels", swapped_rows, "row 7: cell "),
  "inputs_fraction": ("inputs", lambda a: a + 0.5, "expected integers, got"),
  "inputs_short": ("inputs", lambda a: a[:-1], "expected shape"),
  "inputs_narrow": ("inputs", lambda a: a[:, :9], "expected shape (18, 16)"),
  "identifier_large": (
    "puzzle_identifiers",
    entry(3, 1),
    "identifier in 0..0",
  ),
  "identifier_low": ("puzzle_identifiers", entry(3, -1), "identifier in 0..0"),
  "identifiers_short": (
    "puzzle_identifiers",
    lambda a: a[1:],
    "expected shape",
  ),
  "puzzle_flat": ("puzzle_indices", entry(3, 2), "got 2 then 2 at entry 3"),
  "puzzle_falls": ("puzzle_indices", entry(3, 1), "got 2 then 1 at entry 3"),
  "puzzle_start": ("puzzle_indices", entry(0, 1), "from 0 to 18, the examples"),
  "puzzle_end": ("puzzle_indices", entry(-1, 19), "from 0 to 18, the examples"),
  "group_flat": ("group_indices", entry(1, 0), "got 0 then 0 at entry 1"),
  "group_end": ("group_indices", entry(-1, 17), "from 0 to 18, the puzzles"),
  "group_missing": (
    "group_indices",
    lambda a: np.delete(a, 2),
    "'total_groups': expected 5",
  ),
}


@pytest.mark.parametrize("case", DAMAGED_FIELDS)
def test_damaged_fields_are_found(case, root, commands):
  field, change, message = DAMAGED_FIELDS[case]
  path = root / "train" / f"all__{field}.npy"
  np.save(path, change(np.load(path)))
  error = commands.error(check, root)
  # A length can only be wrong in comparison: the other file may be named.
  named = str(root / "train")
  if "shape" not in message and "total_groups" not in message:
    named = str(path)
  assert error.startswith(named)
  assert message in error


METADATA = {
  "vocab_size": (7, "expected a kind with vocab_size 7 and seq_len 16"),
  "seq_len": (15, "expected shape (18, 15) by key 'seq_len'"),
  "total_groups": (7, "expected 6, the groups in the sets' files, got 7"),
  "total_puzzles": (17, "expected 18, the puzzles in the sets' files, got 17"),
  "mean_puzzle_examples": (1.5, "expected 1, the 18 examples over the 18 puz"),
  "pad_id": (6, "expected less than vocab_size, 6, got 6"),
  "blank_identifier_id": (1, "expected less than num_puzzle_identifiers, 1"),
  "num_puzzle_identifiers": (2, "expected 2 names, the num_puzzle_identifiers"),
  "sets": (["all", "all"], "expected 12, the groups in the sets' files"),
  "ignore_label_id": ("0", "expected an integer >= 0 or null, got '0'"),
}


@pytest.mark.parametrize("key", METADATA)
def test_metadata_at_odds_with_the_files_is_found(key, root, commands):
  value, message = METADATA[key]
  for split in check.SPLITS:
    edit_json(root / split / "dataset.json", **{key: value})
  error = commands.error(check, root)
  assert error.startswith(str(root))
  assert message in error


def test_a_vocabulary_too_small_is_found_without_build_json(root, commands):
  (root / "build.json").unlink()
  for split in check.SPLITS:
    edit_json(root / split / "dataset.json", vocab_size=5)
  assert "expected a token id in 0..4 (vocab_size 5)" in commands.error(
    check, root
  )


@pytest.mark.parametrize("key", ["pad_id", "seq_len", "sets", "total_groups"])
def test_a_missing_key_is_named(key, root, commands):
  path = root / "test" / "dataset.json"
  value = json.loads(path.read_text())
  del value[key]
  path.write_text(json.dumps(value))
  assert commands.error(check, root) == f"{path}: key '{key}' is missing."


@pytest.mark.parametrize(
  ("key", "value"),
  [("vocab_size", 7), ("num_puzzle_identifiers", 2), ("pad_id", 1)],
)
def test_splits_that_disagree_are_both_named(key, value, root, commands):
  edit_json(root / "test" / "dataset.json", **{key: value})
  error = commands.error(check, root)
  for split in check.SPLITS:
    assert str(root / split / "dataset.json") in error
  assert f"key '{key}': expected" in error


def test_the_trainer_refuses_splits_that_disagree(root, tmp_path):
  edit_json(root / "test" / "dataset.json", vocab_size=7)
  config = runs.tiny_config(**{"data.path": str(root)})
  with pytest.raises(InputError, match=r"test/dataset.json: key 'vocab_size'"):
    loop.train(config, tmp_path / "run")


@pytest.mark.parametrize("size", [0, 60, 200, -1])
def test_truncated_files_are_found(size, root, commands):
  for path in sorted((root / "train").glob("*.npy")):
    content = path.read_bytes()
    os.truncate(path, size if size >= 0 else len(content) - 1)
    if size < len(content):
      error = commands.error(check, root)
      assert error.startswith(f"{path}: expected")
    path.write_bytes(content)
  check.check(root)


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("identifiers.json", None, "no such file"),
    ("identifiers.json", "[", "expected a JSON list"),
    ("identifiers.json", "{}", "expected a JSON list, got {}"),
    ("identifiers.json", "[1]", "entry 0: expected a name, got 1"),
    ("identifiers.json", '["a", "b"]', "expected 1 name, the num_puzzle_id"),
    ("build.json", "[]", "expected a JSON object, got []"),
    ("build.json", '{"puzzle": "chess"}', "expected one of sudoku, maze"),
    ("build.json", '{"puzzle": "arc"}', "with vocab_size 6 and seq_len 16"),
    ("build.json", '{"counts": {"test": 3}}', "key 'counts': expected {'gr"),
    ("test/dataset.json", None, "no such file"),
    ("test/dataset.json", '{"a": 1,}', "line 1: not valid JSON"),
    ("test/all__labels.npy", None, "no such file"),
  ],
)
def test_other_files_that_are_wrong_are_named(
  name, text, message, root, commands
):
  path = root / name
  if text is None:
    path.unlink()
  else:
    path.write_text(text)
  error = commands.error(check, root)
  assert error.startswith(f"{path}: ")
  assert message in error


def test_the_row_is_counted_across_pieces(root, commands, monkeypatch):
  monkeypatch.setattr(check, "_CELLS_AT_ONCE", 5 * 16)
  path = root / "train" / "all__labels.npy"
  np.save(path, cell(17, 0, 0)(np.load(path)))
  assert commands.error(check, root).startswith(f"{path}: row 17: ")


def test_second_solutions_are_looked_for_on_request(root, commands):
  path = root / "test" / "all__inputs.npy"
  np.save(path, entry(2, 1)(np.load(path)))
  check.check(root)
  error = commands.error(check, root, "--check-unique")
  assert error == f"{path}: row 2: expected exactly one solution, got several."


def test_uniqueness_is_only_asked_where_it_means_something(tmp_path, commands):
  source = tmp_path / "task.jsonl"
  lines = [
    {"input": [[0]], "output": [[1]], "split": split} for split in check.SPLITS
  ]
  source.write_text("\n".join(map(json.dumps, lines)))
  build_grid.build(tmp_path / "set", source=source)
  error = commands.error(check, tmp_path / "set", "--check-unique")
  assert error.startswith("--check-unique: expected Sudoku or mazes")


MAZE = ("S    ", "#### ", "G    ", "#####", "     ")
PATH = ("Soooo", "####o", "Goooo", "#####", "     ")


def write_mazes(root, question=MAZE, answer=PATH):
  """Two good mazes, and a third one in the training split."""
  for split in check.SPLITS:
    path = write_split(
      root, split, groups=[[1], [1], [1]], seq_len=25, vocab_size=6
    )
    for field, good, third in (
      ("inputs", MAZE, question),
      ("labels", PATH, answer),
    ):
      third = third if split == "train" else good
      rows = [maze.parse("".join(grid)) for grid in (good, good, third)]
      np.save(path / f"all__{field}.npy", np.stack(rows))
  (root / "identifiers.json").write_text(json.dumps(list("abcd")))
  return root


def test_mazes_are_recognised_and_solved(tmp_path):
  root = write_mazes(tmp_path)
  assert check.check(root, check_unique=True)["puzzle"] == "maze"


EMPTY = "     "


@pytest.mark.parametrize(
  ("question", "answer", "field", "message"),
  [
    (MAZE, MAZE, "labels", "expected 9 path cells"),
    (MAZE, ("Soooo", "#####", *PATH[2:]), "labels", "expected ' ' or 'o'"),
    (MAZE, ("Sooo ", *PATH[1:4], "o    "), "labels", "a broken path"),
    ((*MAZE[:4], "    S"), PATH, "inputs", "expected exactly one S, got 2"),
    (("S   #", *MAZE[1:]), PATH, "inputs", "expected a way from S to G"),
    ((EMPTY, *MAZE[1:]), PATH, "inputs", "expected exactly one S, got 0"),
  ],
)
def test_wrong_mazes_are_found(
  question, answer, field, message, tmp_path, commands
):
  root = write_mazes(tmp_path, question, answer)
  error = commands.error(check, root)
  assert error.startswith(f"{root}/train/all__{field}.npy: row 2: ")
  assert message in error


def test_a_second_shortest_path_is_looked_for_on_request(tmp_path, commands):
  rest = (EMPTY,) * 3
  root = write_mazes(
    tmp_path, ("S    ", " G   ", *rest), ("So   ", " G   ", *rest)
  )
  check.check(root)
  error = commands.error(check, root, "--check-unique")
  assert "all__inputs.npy: row 2: expected exactly one shortest path" in error


def test_own_tasks_are_not_taken_for_mazes(tmp_path):
  rng = np.random.default_rng(0)
  for split in check.SPLITS:
    path = write_split(
      tmp_path, split, groups=[[1]] * 9, seq_len=25, vocab_size=6
    )
    for field in ("inputs", "labels"):
      grids = rng.integers(1, 6, (9, 25), np.uint8)
      np.save(path / f"all__{field}.npy", grids)
  (tmp_path / "identifiers.json").write_text(json.dumps(list("abcdefghij")))
  assert check.check(tmp_path)["puzzle"] == "grid"

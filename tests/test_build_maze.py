"""The maze builder: tables in, turned and mirrored mazes out."""

import csv
import json

import numpy as np
import pytest

from data_tools import build_maze, generate_maze, maze_augment
from hrm_jax.data import maze, puzzle
from tests.commands import Commands, files_of
from tests.sudoku_tables import HEADER, to_csv
from tests.test_build_sudoku import load


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def make_rows(count, seed=0):
  grids = generate_maze.make_mazes(
    np.random.default_rng(seed), count, 6, style="walls", min_moves=4
  )
  return [
    ["list", maze.to_text(q), maze.to_text(a), str(i)]
    for i, (q, a) in enumerate(zip(*grids, strict=True))
  ]


ROWS = make_rows(5)
PLAIN = to_csv(ROWS)
QUESTION, ANSWER = ROWS[2][1:3]


@pytest.fixture
def source(tmp_path):
  """A directory with 5 training mazes and 3 test mazes."""
  path = tmp_path / "source"
  path.mkdir()
  (path / "train.csv").write_text(PLAIN)
  (path / "test.csv").write_text(to_csv(make_rows(3, seed=1)))
  return path


def test_every_file_is_as_the_format_says(source, tmp_path, commands):
  out = tmp_path / "out"
  result = commands(
    build_maze, "--source-csv", source, "--output-dir", out, "--aug"
  )
  assert result == {
    "path": str(out),
    "train": {"groups": 5, "puzzles": 40, "examples": 40},
    "test": {"groups": 3, "puzzles": 3, "examples": 3},
  }
  train, test = load(out, "train"), load(out, "test")
  assert train["inputs"].dtype == train["labels"].dtype == np.uint8
  assert train["inputs"].shape == train["labels"].shape == (40, 36)
  np.testing.assert_array_equal(train["puzzle_indices"], np.arange(41))
  np.testing.assert_array_equal(train["group_indices"], np.arange(0, 41, 8))
  np.testing.assert_array_equal(test["group_indices"], np.arange(4))
  assert not train["puzzle_identifiers"].any()
  metadata = puzzle.read_metadata(out, "train")
  assert (metadata.vocab_size, metadata.seq_len) == (6, 36)
  assert metadata.num_puzzle_identifiers == metadata.mean_puzzle_examples == 1
  assert (metadata.total_groups, metadata.total_puzzles) == (5, 40)
  assert json.loads((out / "identifiers.json").read_text()) == ["<blank>"]
  assert json.loads((out / "build.json").read_text())["puzzle"] == "maze"
  # A group is a maze, as it stands in the table, with its images.
  assert [maze.to_text(q) for q in train["inputs"][::8]] == [r[1] for r in ROWS]
  assert maze.is_shortest_path(train["inputs"], train["labels"]).all()
  keys = [maze_augment.class_key(q) for q in train["inputs"]]
  assert keys == [k for k in keys[::8] for _ in range(8)]


def test_test_mazes_of_the_training_data_are_counted(source, tmp_path):
  def turned(text):
    rows = [text[i : i + 6] for i in range(0, 36, 6)]
    return "".join(map("".join, zip(*rows[::-1], strict=True)))

  source_of, question, answer, rating = ROWS[1]
  rows = [ROWS[0], [source_of, turned(question), turned(answer), rating]]
  (source / "test.csv").write_text(to_csv([*rows, *make_rows(3, seed=1)]))
  built = build_maze.build(tmp_path / "out", source_csv=source, aug=True)
  assert built["test_in_train"] == {"equal": 1, "images": 1}


def test_one_table_of_mazes_is_split(source, tmp_path):
  built = build_maze.build(
    tmp_path / "out", source_csv=source / "train.csv", test_fraction=0.4
  )
  assert built["counts"]["train"]["groups"] == 3
  assert built["counts"]["test"]["groups"] == 2


def test_the_eight_images_are_those_of_the_format():
  images = maze_augment.images(np.arange(4)[None])[0].tolist()
  assert images == [
    *([0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]),
    *([1, 0, 3, 2], [2, 3, 0, 1], [0, 2, 1, 3], [3, 1, 2, 0]),
  ]


def test_the_seed_decides_every_byte(source, tmp_path):
  for name, seed in (("a", 5), ("b", 5), ("c", 6)):
    build_maze.build(
      tmp_path / name, source_csv=source, subsample_size=3, seed=seed
    )
  first, same, other = (files_of(tmp_path / name) for name in "abc")
  assert first == same
  assert first["train/all__inputs.npy"] != other["train/all__inputs.npy"]


@pytest.mark.parametrize(
  "content",
  [
    to_csv([row[::-1] for row in ROWS], HEADER[::-1]),
    to_csv(ROWS, quoting=csv.QUOTE_ALL),
    to_csv([["two\nlines", *row[1:]] for row in ROWS]),
    to_csv(ROWS, lineterminator="\r\n"),
    "\ufeff" + PLAIN + "\n\r\n",
    PLAIN.rstrip("\n"),
  ],
  ids=["order", "quotes", "line_ends", "crlf", "bom_blank_lines", "no_newline"],
)
def test_tables_may_be_written_in_many_ways(content, source, tmp_path):
  path = source / "train.csv"
  path.write_text(content, encoding="utf-8", newline="")
  build_maze.build(tmp_path / "out", source_csv=source)
  inputs = load(tmp_path / "out", "train")["inputs"]
  assert [maze.to_text(q) for q in inputs] == [row[1] for row in ROWS]


def with_row(**fields):
  """A table whose third row (line 4) has other fields."""
  rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
  rows[2] |= fields
  return to_csv([row.values() for row in rows]).encode()


OFF_PATH = next(i for i in range(36) if ANSWER[i] == " ")
BAD = {
  "empty_file": (b"", 1, "got none in an empty line"),
  "header_only": (to_csv([]).encode(), 2, "expected a puzzle"),
  "no_answer": (
    to_csv([[r[0], r[1], r[3]] for r in ROWS], ["s", "question", "rating"]),
    1,
    "one column for the answer",
  ),
  "short": (with_row(question=QUESTION[:-1]), 4, "36 characters (as on line 2"),
  "stripped": (with_row(answer=ANSWER[1:]), 4, "answer: expected 36 char"),
  "character": (
    with_row(question="x" + QUESTION[1:]),
    4,
    "question: cell 1: expected one of '# SG', got 'x'",
  ),
  "path_in_question": (with_row(question=ANSWER), 4, "got 'o'"),
  "two_starts": (
    with_row(question=QUESTION.replace(" ", "S", 1)),
    4,
    "question: expected exactly one S, got 2",
  ),
  "not_shortest": (
    with_row(answer=ANSWER[:OFF_PATH] + "o" + ANSWER[OFF_PATH + 1 :]),
    4,
    "path cells, as the shortest path has, got",
  ),
  "broken": (
    with_row(
      answer=(ANSWER[:OFF_PATH] + "*" + ANSWER[OFF_PATH + 1 :])
      .replace("o", " ", 1)
      .replace("*", "o")
    ),
    4,
    "got a broken path",
  ),
  "not_utf8": (PLAIN.encode() + b"\xff,,,\n", 7, "expected UTF-8 text"),
  "truncated": (PLAIN[:-30].encode(), 6, "expected"),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("case", BAD)
def test_bad_tables_get_one_line(case, split, source, tmp_path, commands):
  content, line, message = BAD[case]
  path = source / f"{split}.csv"
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  out = tmp_path / "made" / "out"
  error = commands.error(
    build_maze, "--source-csv", source, "--output-dir", out
  )
  assert error.startswith(f"{path}: line {line}: ")
  assert message in error
  assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_mazes_are_read_whatever_their_ratings_and_separators(source, tmp_path):
  rows = [[*row[:3], "easy"] for row in ROWS]
  header = ["x", "grid", "solution", "difficulty"]
  (source / "train.csv").write_text(to_csv(rows, header, delimiter=";"))
  build_maze.build(tmp_path / "out", source_csv=source)
  inputs = load(tmp_path / "out", "train")["inputs"]
  assert [maze.to_text(q) for q in inputs] == [row[1] for row in ROWS]


def test_white_space_is_part_of_a_maze(source, tmp_path, commands):
  for split in ("train", "test"):
    (source / f"{split}.csv").write_text("grid,solution\nS  G,S oG\n")
  commands(build_maze, "--source-csv", source, "--output-dir", tmp_path / "out")
  (source / "test.csv").write_text("grid,solution\nS  G, S oG\n")
  error = commands.error(
    build_maze, "--source-csv", source, "--output-dir", tmp_path / "other"
  )
  assert "test.csv: line 2: solution: expected 4 characters" in error


def test_both_files_are_named_where_sizes_disagree(source, tmp_path, commands):
  (source / "test.csv").write_text(to_csv([["", "SG  ", "SG  ", "0"]]))
  flags = "--source-csv", source, "--output-dir", tmp_path / "out"
  error = commands.error(build_maze, *flags)
  assert f"{source}/test.csv: line 2: question: expected 36" in error
  assert f"(as on line 2 of {source}/train.csv), got 4" in error


def test_several_shortest_paths_are_found_on_request(
  source, tmp_path, commands
):
  rows = [["", "S  G", "S oG", "0"]]
  for split in ("train", "test"):
    (source / f"{split}.csv").write_text(to_csv(rows))
  flags = "--source-csv", source, "--output-dir", tmp_path / "out"
  error = commands.error(build_maze, *flags, "--check-unique")
  assert "train.csv: line 2: question: expected exactly one shortest" in error
  assert not (tmp_path / "out").exists()
  commands(build_maze, *flags)

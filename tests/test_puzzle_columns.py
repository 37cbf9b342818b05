"""The columns of tables of puzzles: found by the names that tables use."""

import argparse
import json

import pytest

from data_tools import build_maze, build_sudoku, puzzle_columns, puzzle_csv
from hrm_jax.console import InputError
from hrm_jax.data import text_table
from tests import test_build_maze
from tests.commands import Commands, files_of
from tests.sudoku_tables import HEADER, ROWS, make_rows, to_csv
from tests.test_build_sudoku import texts
from tests.test_puzzle_csv import read


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.mark.parametrize(
  ("header", "taken", "ratings"),
  [
    (["x", "quizzes", "solutions", "more"], "quizzes", None),
    (["id", "puzzle", "solution", "difficulty"], "puzzle", [0, 0.5, 1]),
    (["id", " Puzzle", "SOLUTION ", "clues"], " Puzzle", None),
    (["puzzle", "Question", "answer", "rating"], "Question", [0, 0.5, 1]),
  ],
)
def test_public_tables_name_their_columns_as_they_like(
  header, taken, ratings, tmp_path, monkeypatch
):
  lines = []
  monkeypatch.setattr(puzzle_csv.console.log, "info", lines.append)
  rows = [[*row[:3], str(i / 2)] for i, row in enumerate(ROWS)]
  path = tmp_path / "train.csv"
  path.write_text(to_csv(rows, header))
  table = read(path)
  got = texts({"inputs": table.questions, "labels": table.answers})
  assert got == [(q, a) for _, q, a, _ in ROWS]
  if ratings is None:
    assert table.ratings is None
    assert lines[0].endswith(", no rating")
  else:
    assert table.ratings.tolist() == ratings
  assert f"{path}: question from column '{taken}', answer from " in lines[0]


@pytest.mark.parametrize("name", ["sudoku", "Board", "grid", "questions"])
def test_the_names_that_solve_reads_are_read_here(name, tmp_path):
  path = tmp_path / "train.csv"
  path.write_text(to_csv(ROWS, ["x", name, "solution", "y"]))
  assert read(path).names == {"question": name, "answer": "solution"}
  assert set(puzzle_columns.NAMES["question"]) == set(text_table.COLUMNS)


def test_a_column_with_a_plainer_name_is_the_question(tmp_path):
  path = tmp_path / "train.csv"
  path.write_text(to_csv(ROWS, ["board", "puzzle", "solution", "grid"]))
  assert read(path).names["question"] == "puzzle"


def test_ratings_may_stand_twice_where_nobody_asks_for_them(tmp_path):
  path = tmp_path / "train.csv"
  rows = [[*row, "x"] for row in ROWS]
  path.write_text(to_csv(rows, [*HEADER, "rating"]))
  assert read(path, ratings_for=None).ratings is None
  with pytest.raises(InputError, match="for the rating, named rating or diff"):
    read(path)


@pytest.mark.parametrize(
  ("header", "separator"),
  [
    ("quizzes,solutions", ","),
    ('"puzzle";"solution";"a,b"', ";"),
    ("a,b;c\tQuestion\tanswer", "\t"),
    ("a;b", ","),
    ("", ","),
  ],
)
def test_the_header_tells_the_separator(header, separator):
  assert puzzle_columns.find_separator(header) == separator


@pytest.mark.parametrize(
  ("text", "names"),
  [
    ("question=start,answer=end", {"question": "start", "answer": "end"}),
    ("answer = the end ", {"answer": "the end"}),
    ("question=a=b, rating=$", {"question": "a=b", "rating": "$"}),
    (
      '"question=start, flat",answer="end"',
      {"question": "start, flat", "answer": '"end"'},
    ),
  ],
)
def test_columns_are_named_by_role(text, names):
  assert puzzle_columns.argument(tuple(puzzle_columns.NAMES))(text) == names


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "expected ROLE=NAME, such as question=NAME, got ''"),
    ("question", "expected ROLE=NAME, such as question=NAME, got 'question'"),
    ("question=a,", "expected ROLE=NAME, such as question=NAME, got ''"),
    ("answer= ", "expected ROLE=NAME, such as question=NAME, got 'answer= '"),
    ("=a", "expected question or answer before '=', got ''"),
    ("rating=a", "expected question or answer before '=', got 'rating'"),
    (
      "question=a,answer=b,question=c",
      "expected one column for the question, got 'a' and 'c'",
    ),
    (
      "question=a,answer=a",
      "expected a column of its own for the answer, got 'a' twice",
    ),
    ('"question=a', "expected one line of CSV, got '\"question=a' (unexpected"),
  ],
)
def test_what_names_no_columns_is_refused(text, message):
  with pytest.raises(argparse.ArgumentTypeError) as refused:
    puzzle_columns.argument(("question", "answer"))(text)
  assert str(refused.value).startswith(message)


def write_tables(directory, train, test, header, **dialect):
  directory.mkdir()
  for split, rows in (("train", train), ("test", test)):
    path = directory / f"{split}.csv"
    path.write_text(to_csv(rows, header, **dialect))
  return directory


# Each is ours after `source`, and what is said of it.
FOREIGN = {
  "spaces": (["s", " the start", "the end ", "stars"], "the start", "the end"),
  "equal_signs": (["s", "a=b", "=", "stars"], "a=b", "="),
  "commas": (["s", "start, flat", "end", "stars"], "start, flat", "end"),
  "other_meaning": (["s", "solution", "puzzle", "stars"], "solution", "puzzle"),
  "beside_the_usual": (["question", "a", "b", "stars"], "a", "b"),
}


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("case", FOREIGN)
def test_a_table_with_other_names_builds_the_same(
  case, separator, tmp_path, commands
):
  header, question, answer = FOREIGN[case]
  train, test = make_rows(6), make_rows(4, seed=1)
  plain = write_tables(tmp_path / "plain", train, test, HEADER)
  other = write_tables(
    tmp_path / "other", train, test, header, delimiter=separator
  )
  named = f'"question={question}","answer={answer}",rating=stars'
  flags = ("--num-aug", 1, "--min-difficulty", 2, "--output-dir")
  expected = commands(
    build_sudoku, "--source-csv", plain, *flags, tmp_path / "expected"
  )
  got = commands(
    build_sudoku,
    *("--source-csv", other, "--columns", named, *flags, tmp_path / "got"),
  )
  assert got["train"] == expected["train"]
  files, wanted = (files_of(tmp_path / name) for name in ("got", "expected"))
  build = json.loads(files.pop("build.json"))
  assert build["arguments"]["columns"] == {
    "question": question,
    "answer": answer,
    "rating": "stars",
  }
  assert json.loads(wanted.pop("build.json"))["arguments"]["columns"] is None
  assert files == wanted


def test_a_maze_table_with_other_names_builds_the_same(tmp_path, commands):
  train, test = test_build_maze.ROWS, test_build_maze.make_rows(3, seed=1)
  built = []
  for name, header, named in (
    ("plain", HEADER, ()),
    ("other", ["s", "map", "solution", "r"], ("--columns", "question=map")),
  ):
    source = write_tables(tmp_path / name, train, test, header)
    out = tmp_path / f"{name}-built"
    flags = ("--source-csv", source, "--output-dir", out, *named)
    commands(build_maze, *flags)
    built.append(files_of(out))
    del built[-1]["build.json"]
  assert built[0] == built[1]


@pytest.mark.parametrize("builder", [build_sudoku, build_maze])
@pytest.mark.parametrize(
  ("header", "named", "message"),
  [
    (
      ["s", "start", "answer", "r"],
      (),
      "got none in s,start,answer,r; say which one it is with --columns "
      "question=NAME.",
    ),
    (
      ["s", "start", "answer", "r"],
      ("--columns", "question=Start"),
      "expected one column 'Start' for the question (--columns), got none in "
      "s,start,answer,r.",
    ),
    (
      ["a", "question", "a", "r"],
      ("--columns", "answer=a"),
      "expected one column 'a' for the answer (--columns), got several in "
      "a,question,a,r.",
    ),
    (
      ["s", "start", "answer", "r"],
      ("--columns", "question=answer"),
      "one column for the answer, named answer or solutions or solution or "
      "answers or solved, got none in s,start,answer,r; say which one it is "
      "with --columns answer=NAME.",
    ),
  ],
)
def test_a_header_without_the_column_gets_one_line(
  builder, header, named, message, tmp_path, commands
):
  source = write_tables(tmp_path / "source", ROWS, ROWS, header)
  error = commands.error(
    builder,
    *("--source-csv", source, "--output-dir", tmp_path / "out", *named),
  )
  assert error.startswith(f"{source}/train.csv: line 1: expected ")
  assert error.endswith(message)
  assert not (tmp_path / "out").exists()


def test_a_bad_row_of_a_table_with_other_names_is_found(tmp_path, commands):
  # The first row takes two lines; a comma would part the names otherwise.
  rows = [["a\nb", *ROWS[0][1:]], [ROWS[1][0], ROWS[1][1], "x", "0"]]
  header = ["s", "a,b", "c,d", "r"]
  source = write_tables(tmp_path / "source", rows, ROWS, header, delimiter=";")
  error = commands.error(
    build_sudoku,
    *("--source-csv", source, "--output-dir", tmp_path / "out"),
    *("--columns", '"question=a,b","answer=c,d"'),
  )
  assert error.startswith(f"{source}/train.csv: line 4: c,d: expected 81")

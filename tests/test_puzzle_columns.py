"""The columns of tables of puzzles: found by the names that tables use."""

import pytest

from data_tools import puzzle_columns, puzzle_csv
from hrm_jax.console import InputError
from hrm_jax.data import sudoku_text
from tests.sudoku_tables import HEADER, ROWS, to_csv
from tests.test_build_sudoku import texts
from tests.test_puzzle_csv import read


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
  assert set(puzzle_columns.NAMES["question"]) == set(sudoku_text.COLUMNS)


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

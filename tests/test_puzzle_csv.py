"""Tables of puzzles: read however they are written, bad rows refused."""

import csv
import itertools

import numpy as np
import pytest

from data_tools import build_sudoku, puzzle_csv, sudoku_csv
from hrm_jax.console import InputError
from hrm_jax.data import puzzle, sudoku, sudoku_solver
from tests.commands import Commands
from tests.sudoku_tables import (
  HEADER,
  PLAIN,
  QUESTION,
  ROWS,
  SOLUTION,
  make_rows,
  replaced,
  to_csv,
)
from tests.test_build_sudoku import load, texts


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


def read(path, ratings_for="--min-difficulty"):
  form = sudoku_csv.form_of(path)
  return puzzle_csv.read_table(path, form, ratings_for=ratings_for)


@pytest.mark.parametrize(
  "content",
  [
    PLAIN.replace(".", "0"),
    to_csv([row[::-1] for row in ROWS], HEADER[::-1]),
    to_csv([[*row, "more"] for row in ROWS], [*HEADER, "extra"]),
    to_csv([row[1:] for row in ROWS], HEADER[1:]),
    to_csv(ROWS, quoting=csv.QUOTE_ALL),
    to_csv([['a "list",\nof two lines', *row[1:]] for row in ROWS]),
    to_csv(ROWS, lineterminator="\r\n"),
    "\ufeff" + to_csv([row[1:] for row in ROWS], HEADER[1:]),
    PLAIN + "\n\r\n\n",
    to_csv(ROWS, delimiter=";"),
    to_csv(ROWS, delimiter="\t"),
    "\ufeff" + to_csv(ROWS, delimiter=";", quoting=csv.QUOTE_ALL),
    PLAIN.replace(",", " , ").replace("\n", " \n"),
    to_csv([['a;b";c', *row[1:]] for row in ROWS]),
    PLAIN.rstrip("\n"),
    PLAIN.replace("list", "líst"),
  ],
  ids=[
    "zeros",
    "other_order",
    "extra_column",
    "no_source",
    "quotes",
    "quoted_line_ends",
    "crlf",
    "bom",
    "blank_lines_at_end",
    "semicolons",
    "tabs",
    "quotes_and_semicolons",
    "white_space_around_cells",
    "semicolons_in_a_comma_table",
    "no_final_newline",
    "utf8",
  ],
)
def test_tables_may_be_written_in_many_ways(content, tmp_path):
  path = tmp_path / "train.csv"
  path.write_text(content, encoding="utf-8", newline="")
  table = read(path)
  got = texts({"inputs": table.questions, "labels": table.answers})
  assert got == [(q, a) for _, q, a, _ in ROWS]
  assert table.ratings.tolist() == [0, 1, 2]
  assert table.rows.tolist() == [1, 2, 3]


def with_row(changed, **fields):
  """A table whose third row (line 4) has other fields."""
  rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS]
  rows[changed] |= fields
  return to_csv([row.values() for row in rows])


CLUE = min(i for i in range(81) if QUESTION[i] != ".")


def doubled(question):
  """A question in which a clue stands a second time in its row."""
  row, clue = CLUE // 9 * 9, QUESTION[CLUE]
  blank = next(i for i in range(row, row + 9) if question[i] == ".")
  return replaced(question, blank, clue)


def exchanged(answer):
  """An answer in which two cells of a row, no clues, are exchanged."""
  blanks = [i for i in range(81) if QUESTION[i] == "."]
  a, b = next(p for p in itertools.pairwise(blanks) if p[0] // 9 == p[1] // 9)
  return replaced(replaced(answer, a, answer[b]), b, answer[a])


BAD = {
  "empty_file": (
    "",
    1,
    "or grid, got none in an empty line",
  ),
  "header_only": (to_csv([]), 2, "expected a puzzle"),
  "no_header": (
    to_csv(ROWS[1:], ROWS[0]),
    1,
    "one column for the question, named question or quizzes or",
  ),
  "no_answer": (
    to_csv([row[:2] for row in ROWS], HEADER[:2]),
    1,
    "or answers or solved, got none in source,question",
  ),
  "two_of_public_names": (
    to_csv(ROWS, ["quiz", "puzzle", "solution", "rating"]),
    1,
    "for the question, named question or quizzes or",
  ),
  "column_twice": (
    to_csv([[*row, ""] for row in ROWS], [*HEADER, "answer"]),
    1,
    "got several in source,question,answer,rating,answer",
  ),
  "field_missing": (
    to_csv([*ROWS[:2], ROWS[2][:3]]),
    4,
    "expected 4 fields, got 3",
  ),
  "field_too_many": (
    to_csv([*ROWS[:2], [*ROWS[2], "x"]]),
    4,
    "expected 4 fields, got 5",
  ),
  "blank_line_inside": (
    to_csv(ROWS[:2]) + "\n" + to_csv([], ROWS[2]),
    4,
    "expected 4 fields, got 0",
  ),
  "question_short": (
    with_row(2, question=QUESTION[:-1]),
    4,
    "question: expected 81 characters (as on line 2 of",
  ),
  "answer_long": (
    with_row(2, answer=SOLUTION + "1"),
    4,
    "answer: expected 81 characters (as on line 2 of",
  ),
  "question_character": (
    with_row(2, question=replaced(QUESTION, 7, "a")),
    4,
    "question: cell 8: expected 1-9 or a blank (. 0 * _ x X ? · -), got 'a'",
  ),
  "question_not_ascii": (
    with_row(2, question=replaced(QUESTION, 7, "٣")),
    4,
    "question: cell 8: expected 1-9 or a blank (. 0 * _ x X ? · -), got '٣'",
  ),
  "answer_blank": (
    with_row(2, answer=replaced(SOLUTION, 80, "0")),
    4,
    "answer: cell 81: expected 1-9, got '0'",
  ),
  "clues_contradict": (
    with_row(2, question=doubled(QUESTION)),
    4,
    "question: the clues contradict each other: row",
  ),
  "answer_breaks_rules": (
    with_row(2, answer=exchanged(SOLUTION)),
    4,
    "answer: breaks the rules: column 2 holds",
  ),
  "answer_of_another": (
    with_row(2, answer=ROWS[0][2]),
    4,
    "as in the question, got",
  ),
  "quote_open": (
    PLAIN + '"list,',
    5,
    "not valid CSV (unexpected end of data)",
  ),
  "line_after_quoted_line_ends": (
    to_csv([["a\nb", *ROWS[0][1:]], ["list", "x", *ROWS[1][2:]]]),
    4,
    "question: expected 81 characters (as on line 2 of",
  ),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("case", BAD)
def test_bad_tables_get_one_line(case, split, source, tmp_path, commands):
  content, line, message = BAD[case]
  path = source / f"{split}.csv"
  path.write_text(content, encoding="utf-8", newline="")
  out = tmp_path / "made" / "out"
  error = commands.error(
    build_sudoku, "--source-csv", source, "--output-dir", out
  )
  assert error.startswith(f"{path}: line {line}: ")
  assert message in error
  assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize("blank", "0*_xX?·-")
def test_every_blank_that_solve_reads_is_read(blank, tmp_path):
  path = tmp_path / "train.csv"
  path.write_text(PLAIN.replace(".", blank), encoding="utf-8")
  table = read(path)
  got = texts({"inputs": table.questions, "labels": table.answers})
  assert got == [(q, a) for _, q, a, _ in ROWS]


UNREADABLE = ["", " ", "nan", "inf", "1,5", "easy", "1/2"]


@pytest.mark.parametrize("rating", UNREADABLE)
def test_ratings_that_nobody_asks_for_are_not_read(
  rating, source, tmp_path, monkeypatch
):
  lines = []
  monkeypatch.setattr(puzzle_csv.console.log, "info", lines.append)
  rows = [*ROWS[:2], [*ROWS[2][:3], rating]]
  header = [*HEADER[:3], "difficulty"]
  (source / "train.csv").write_text(to_csv(rows, header))
  built = build_sudoku.build(tmp_path / "out", source_csv=source)
  assert built["counts"]["train"]["groups"] == 3
  assert "ratings in column 'difficulty' are not used" in lines[0]


@pytest.mark.parametrize("rating", UNREADABLE)
def test_a_rating_that_is_asked_for_and_unreadable_gets_its_line(
  rating, source, tmp_path, commands
):
  rows = [*ROWS[:2], [*ROWS[2][:3], rating]]
  header = [*HEADER[:3], "Difficulty"]
  (source / "train.csv").write_text(to_csv(rows, header))
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_sudoku, *flags, "--min-difficulty", 1)
  assert error == (
    f"{source}/train.csv: line 4: Difficulty: expected a number such as 2 or "
    f"1.5 for --min-difficulty, got {rating!r}; correct it, or build without "
    "--min-difficulty: then this column is not read."
  )
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("place", "text", "message"),
  [
    (1, QUESTION[1:], "Puzzle: expected 81 characters (as on line 2 of"),
    (1, QUESTION[1:], "got 80; read is one character a cell, row by row"),
    (1, doubled(QUESTION), "Puzzle: the clues contradict each other"),
    (2, exchanged(SOLUTION), "SOLUTION: breaks the rules: column 2"),
    (2, SOLUTION[:-1] + "a", "SOLUTION: cell 81: expected 1-9, got 'a'"),
  ],
)
def test_errors_call_columns_as_the_file_does(place, text, message, tmp_path):
  path = tmp_path / "train.csv"
  rows = [list(row) for row in ROWS]
  rows[2][place] = text
  path.write_text(to_csv(rows, ["x", " Puzzle", "SOLUTION", "y"]))
  with pytest.raises(InputError) as error:
    read(path)
  assert f"{path}: line 4: " in str(error.value)
  assert message in str(error.value)


@pytest.mark.parametrize("side", [4, 6, 8])
def test_smaller_boards_are_read(side, tmp_path):
  rng = np.random.default_rng(0)
  empty = np.ones((8, side * side), np.uint8)
  answers, _ = sudoku_solver.solve(empty, limit=1, rng=rng)
  questions = np.where(rng.random(answers.shape) < 0.6, answers, 1)
  rows = [
    list(map(sudoku.to_text, pair))
    for pair in zip(questions, answers, strict=True)
  ]
  for name in ("train", "test"):
    (tmp_path / f"{name}.csv").write_text(to_csv(rows, ["puzzle", "solution"]))
  out = tmp_path / "out"
  build_sudoku.build(out, source_csv=tmp_path, num_aug=2)
  metadata = puzzle.read_metadata(out, "train")
  assert (metadata.seq_len, metadata.vocab_size) == (side * side, side + 2)
  np.testing.assert_array_equal(load(out, "test")["labels"], answers)
  rows[5][1] = "9" + rows[5][1][1:]
  (tmp_path / "test.csv").write_text(to_csv(rows, ["puzzle", "solution"]))
  message = f"test.csv: line 7: solution: cell 1: expected 1-{side}, got '9'"
  with pytest.raises(InputError, match=message):
    build_sudoku.build(tmp_path / "other", source_csv=tmp_path)


@pytest.mark.parametrize("begin", [b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_an_archive_is_to_be_unpacked(begin, source, tmp_path, commands):
  (source / "train.csv").write_bytes(begin + b"more")
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_sudoku, *flags)
  assert error.endswith(
    "train.csv: expected a CSV file, got an archive; unpack it first."
  )


def test_text_that_is_not_utf8_is_located(source, tmp_path, commands):
  (source / "test.csv").write_bytes(PLAIN.encode() + b"caf\xe9,,,\n")
  error = commands.error(
    build_sudoku, "--source-csv", source, "--output-dir", tmp_path / "out"
  )
  assert "test.csv: line 5: expected UTF-8 text, got byte 0xe9" in error
  assert not (tmp_path / "out").exists()


def test_the_first_bad_row_is_reported_wherever_it_stands(
  source, tmp_path, monkeypatch
):
  monkeypatch.setattr(puzzle_csv, "ROWS_AT_ONCE", 2)
  rows = make_rows(7)
  rows[4][3] = rows[6][3] = "x"
  path = tmp_path / "many.csv"
  path.write_text(to_csv(rows))
  with pytest.raises(InputError, match=r"line 6: rating"):
    read(path)
  # A blank line is only fine while nothing follows, in this piece or later.
  path.write_text(to_csv(rows[:2]) + "\n\n" + to_csv([], rows[2]))
  with pytest.raises(InputError, match=r"line 4: expected 4 fields, got 0"):
    read(path)
  path.write_text(to_csv(rows[:3]) + "\n\n\n")
  assert len(read(path).rows) == 3


def test_several_solutions_are_found_on_request(source, tmp_path, commands):
  several = QUESTION.translate(str.maketrans("12", ".."))
  (source / "train.csv").write_text(
    with_row(2, question=several).replace("question", "puzzle")
  )
  flags = ["--source-csv", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_sudoku, *flags, "--check-unique")
  assert "train.csv: line 4: puzzle: expected exactly one solution" in error
  assert not (tmp_path / "out").exists()
  commands(build_sudoku, *flags)


def test_lines_are_counted_in_tables_with_other_separators(tmp_path):
  path = tmp_path / "train.csv"
  rows = [["a\nb", *ROWS[0][1:]], ["list", "x", *ROWS[1][2:]]]
  path.write_text(to_csv(rows, delimiter=";"))
  with pytest.raises(InputError, match="line 4: question: expected 81"):
    read(path)
  path.write_text(to_csv([*ROWS, ROWS[0][:2]], delimiter=";"))
  message = r"line 5: expected 4 fields, got 2 \(separated by semicolons, as"
  with pytest.raises(InputError, match=message):
    read(path)


def test_a_first_question_of_no_size_says_what_is_read(tmp_path):
  path = tmp_path / "train.csv"
  path.write_text("quiz,solution\n 123 ,123\n")
  message = (
    r"line 2: quiz: expected as many .* \(16, 36, 64, 81\), got 3; read is one "
    r"character a cell, row by row, digits and blanks \(\. 0"
  )
  with pytest.raises(InputError, match=message):
    read(path)

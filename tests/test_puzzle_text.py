"""What is known of a kind of puzzle as text."""

import dataclasses
import json

import numpy as np
import pytest

from hrm_jax.console import InputError, Pen
from hrm_jax.data import arc, maze, puzzle_kind, question, sudoku
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Source, numbered
from tests.toys import METADATA

# For each kind G and V, and a puzzle with a right and a wrong answer.
EXAMPLES = {
  puzzle_kind.SUDOKU: (
    (16, 6),
    ".41..3.231....31",
    "2413134231244231",
    "1324423131242413",
  ),
  puzzle_kind.MAZE: ((9, 6), "S   #   G", "Soo #o  G", "S   #   G"),
}


def metadata(seq_len, vocab_size):
  return dataclasses.replace(METADATA, seq_len=seq_len, vocab_size=vocab_size)


def text_of(kind, seq_len, vocab_size, **build):
  sizes = metadata(seq_len, vocab_size)
  return PuzzleText(sizes, puzzle_kind.board_of(kind, build, sizes))


def source(text, name="f"):
  return Source(name, question.numbered(name, text), "stem")


def read_all(reader, text):
  return [(each.name, each.tokens.tolist()) for each in reader.read(text)]


# -------------------------------------------------------------------- kinds


@pytest.mark.parametrize("side", sudoku.SIDES)
def test_a_checkpoint_of_sudokus_is_known_by_its_sizes(side):
  sizes = metadata(side * side, side + 2)
  assert puzzle_kind.kind_of_checkpoint(sizes) == puzzle_kind.SUDOKU


@pytest.mark.parametrize(
  ("sizes", "kind"),
  [
    ((900, 12), puzzle_kind.ARC),
    ((900, 6), puzzle_kind.MAZE),
    ((81, 6), puzzle_kind.MAZE),
    ((81, 12), puzzle_kind.GRID),
    ((24, 6), puzzle_kind.GRID),
  ],
)
def test_and_so_are_others(sizes, kind):
  assert puzzle_kind.kind_of_checkpoint(metadata(*sizes)) == kind


def test_what_a_run_has_recorded_counts_more_than_its_sizes():
  sizes = metadata(16, 6)  # Those of a 4x4 Sudoku, and of a 4x4 maze.
  assert puzzle_kind.kind_of_checkpoint(sizes) == puzzle_kind.SUDOKU
  for kind in (puzzle_kind.SUDOKU, puzzle_kind.MAZE, puzzle_kind.GRID):
    assert puzzle_kind.kind_of_checkpoint(sizes, kind) == kind
  for kind in (puzzle_kind.ARC, "chess"):
    with pytest.raises(InputError, match=f"'{kind}': expected sudoku or maze"):
      puzzle_kind.kind_of_checkpoint(sizes, kind)


# ---------------------------------------------------- what each kind can do


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_kind_reads_what_it_writes_and_judges_an_answer(kind):
  sizes, puzzle, right, wrong = EXAMPLES[kind]
  text = text_of(kind, *sizes)
  (asked,) = text.read(source(puzzle))
  for written in (
    text.to_json(asked.tokens),
    text.draw(asked.tokens, asked.tokens, Pen(False)),
  ):
    (again,) = text.read(source(f"puzzle:\n{written}\n\nanswer:\n{written}\n"))
    assert again.tokens.tolist() == asked.tokens.tolist()
  parse = {puzzle_kind.SUDOKU: sudoku.parse, puzzle_kind.MAZE: maze.parse}[kind]
  for answer, good in ((right, True), (wrong, False)):
    judged = {
      rule.is_kept(asked.tokens, parse(answer)) for rule in text.rules.values()
    }
    assert (judged == {True}) is good
  assert text.is_right(asked, parse(right)) is None


@pytest.mark.parametrize("charset", [None, "abc"])
def test_grids_are_read_as_they_are_written(charset):
  text = text_of(puzzle_kind.GRID, 6, 4, rows=2, columns=3, charset=charset)
  grid = "ab\nca" if charset else "01\n20"
  (asked,) = text.read(source(grid))
  assert asked.tokens.tolist() == [1, 2, 0, 3, 1, 0]
  drawn = text.draw(asked.tokens, asked.tokens, Pen(False))
  assert read_all(text, source(f"puzzle:\n{drawn}")) == [
    ("f: line 2", asked.tokens.tolist())
  ]
  symbols = charset or range(3)
  assert text.to_json(asked.tokens) == [
    [symbols[0], symbols[1], None],
    [symbols[2], symbols[0], None],
  ]
  full = np.array([1, 2, 3, 3, 2, 1])
  rows = json.dumps(text.to_json(full))
  assert read_all(text, source(rows)) == [("f", full.tolist())]


def test_only_cells_of_a_grid_that_are_asked_for_are_compared():
  text = text_of(puzzle_kind.GRID, 4, 4)
  line = {"input": [[0, 1], [2, 0]], "output": [[2, 1]], "id": 7, "x": 0}
  asked = text.read(source(f"{json.dumps(line)}\n\n{json.dumps([[1]])}\n"))
  assert [each.name for each in asked] == ["f: line 1", "f: line 3"]
  assert [each.task for each in asked] == ["7", None]
  assert text.is_right(asked[0], np.array([3, 2, 9, 9]))
  assert not text.is_right(asked[0], np.array([3, 3, 0, 0]))
  assert text.is_right(asked[1], np.array([1, 1, 1, 1])) is None
  several = {"train": [line], "test": [{"input": [[1]], "group": "a"}]}
  (one,) = text.read(source(json.dumps(several)))
  assert (one.name, one.task) == ("f: test[0]", "a")
  two = text.read(source(json.dumps([line, line])))
  assert [each.name for each in two] == ["f: entry 1", "f: entry 2"]


TASK = {
  "train": [{"input": [[1]], "output": [[2]]}],
  "test": [{"input": [[3, 4]]}, {"input": [[5]], "output": [[6]]}],
}


def test_arc_tasks_ask_for_their_test_outputs():
  text = text_of(puzzle_kind.ARC, 900, 12)
  one, two = text.read(source(json.dumps(TASK, indent=1)))
  assert (one.name, one.task) == ("f: test[0]", "stem")
  assert one.facts == {"task": "stem", "test": 0}
  assert text.to_json(one.tokens) == [[3, 4]]
  right = arc.to_tokens(np.array([[6]]))
  noisy = right.copy()
  noisy[899] = 5  # Far from the grid, where nobody looks.
  assert text.is_right(one, right) is None
  assert text.is_right(two, noisy)
  assert not text.is_right(two, arc.to_tokens(np.array([[6, 6]])))
  assert text.draw(noisy, two.tokens, Pen(False)) == "6 "
  several = {"aa": TASK, "bb": {**TASK, "name": "cc"}}
  found = text.read(source(json.dumps(several)))
  assert [(each.name, each.task) for each in found] == [
    ("f: aa.test[0]", "aa"),
    ("f: aa.test[1]", "aa"),
    ("f: bb.test[0]", "cc"),
    ("f: bb.test[1]", "cc"),
  ]


@pytest.mark.parametrize("end", ["\u2028", "\x85", "\x0b"])
def test_only_an_editor_s_line_ends_end_a_line(end):
  ((_, first), second) = numbered("f", f"a{end}b\r\nc\r")
  assert (first, second) == (f"a{end}b", ("f: line 2", "c"))


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("S  ", "f: line 1: expected JSON, got something that ends or breaks at"),
    ("[]", "f: expected an object, got []"),
    ("{}", "f: train: expected a list of pairs, got no such key"),
    ('{"aa": 5}', "f: aa: expected an object, got 5"),
    (
      '{"test": [], "train": [], "test": []}',
      "f: expected the JSON of a task: key 'test' is there twice",
    ),
    (
      json.dumps({**TASK, "test": [{"input": [[1, 2], [3, 10]]}]}),
      "f: test[0].input: expected integers 0 to 9, got 10 at row 1, column 1",
    ),
    (
      json.dumps({**TASK, "test": [{"output": [[1]]}]}),
      "f: test[0].input: expected a grid, got none",
    ),
    (
      json.dumps({**TASK, "test": [{"input": [[1]], "output": "x"}]}),
      "f: test[0].output: expected a list of rows, got 'x'",
    ),
  ],
)
def test_a_wrong_arc_file_gets_one_line(content, message):
  text = text_of(puzzle_kind.ARC, 900, 12)
  with pytest.raises(InputError) as error:
    text.read(source(content))
  assert str(error.value).startswith(message)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("abc\nab", "f: line 1: row 2: expected 3 cells as in row 1, got 2"),
    (
      "ab\n\nax\n",
      "f: line 3: row 1, column 2: expected a character of the charset 'abc', "
      "got 'x'",
    ),
    ("abca", "f: line 1: expected at most 3 columns, got 4"),
    ("a\na\na", "f: line 1: expected at most 2 rows, got 3"),
    ('{"a": 1}', "f: key 'input' is missing"),
    ('{"input": 5}', "f: key 'input': expected rows with at least one cell"),
    ('{"input": "a", "input": "b"}', "f: line 1: expected JSON, got something"),
    ('{"input": "ab"}\n{"input":', "f: line 2: expected JSON, got something"),
  ],
)
def test_a_wrong_grid_gets_one_line(content, message):
  text = text_of(puzzle_kind.GRID, 6, 4, rows=2, columns=3, charset="abc")
  with pytest.raises(InputError) as error:
    text.read(source(content))
  assert str(error.value).startswith(message)


def test_a_symbol_beyond_the_vocabulary_is_refused():
  text = text_of(puzzle_kind.GRID, 6, 4, rows=2, columns=3)
  with pytest.raises(InputError, match=r"symbols in 0\.\.2, as in .* got 3"):
    text.read(source("[[3]]"))


# -------------------------------------------------------------------- bytes


@pytest.mark.parametrize(
  "encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"]
)
def test_text_is_read_whatever_the_editor_wrote(encoding):
  puzzle = EXAMPLES[puzzle_kind.SUDOKU][1]
  data = f"#A José\n{puzzle}\n".encode(encoding)
  lines = question.numbered("f", question.decoded(data, "f"))
  assert lines[1] == ("f: line 2", puzzle)


def test_what_is_no_text_is_refused():
  with pytest.raises(InputError, match=r"p.png: expected text, got something"):
    question.decoded(b"\x89PNG\r\n\x1a\n\0\0", "p.png")

"""What is known of a kind of puzzle as text."""

import dataclasses

import pytest

from hrm_jax.console import InputError
from hrm_jax.data import puzzle_kind, puzzle_text, sudoku
from tests.toys import METADATA

PUZZLE, ANSWER = ".41..3.231....31", "2413134231244231"


def metadata(seq_len, vocab_size):
  return dataclasses.replace(METADATA, seq_len=seq_len, vocab_size=vocab_size)


@pytest.mark.parametrize("side", sudoku.SIDES)
def test_a_checkpoint_of_sudokus_is_known_by_its_sizes(side):
  sizes = metadata(side * side, side + 2)
  assert puzzle_text.kind_of_checkpoint(sizes) == puzzle_kind.SUDOKU


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ((900, 12), "this checkpoint's puzzle: expected 16, 36, 64 or 81 cells"),
    ((81, 6), "expected vocab_size=11 for side 9, got 6"),
  ],
)
def test_another_checkpoint_is_refused(sizes, message):
  with pytest.raises(InputError, match=message):
    puzzle_text.kind_of_checkpoint(metadata(*sizes))


def test_what_a_run_has_recorded_counts_more_than_its_sizes():
  sizes = metadata(16, 6)  # Those of a 4x4 Sudoku, and of a 4x4 maze.
  assert puzzle_text.kind_of_checkpoint(sizes) == puzzle_kind.SUDOKU
  kind = puzzle_text.kind_of_checkpoint(sizes, puzzle_kind.SUDOKU)
  assert kind == puzzle_kind.SUDOKU
  with pytest.raises(InputError, match="on puzzles of the kind grid: expected"):
    puzzle_text.kind_of_checkpoint(sizes, puzzle_kind.GRID)


@pytest.mark.parametrize("kind", puzzle_text.OF_KIND)
def test_each_kind_reads_what_it_writes_and_judges_an_answer(kind):
  text = puzzle_text.OF_KIND[kind]
  ((name, puzzle),) = text.read([("here", PUZZLE)], 16)
  ((_, answer),) = text.read([("there", ANSWER)], 16)
  assert name == "here"
  for write in (text.to_text, text.draw):
    lines = puzzle_text.numbered("f", write(puzzle))
    ((_, again),) = text.read(lines, 16)
    assert again.tolist() == puzzle.tolist()
  assert {rule.is_kept(puzzle, answer) for rule in text.rules.values()} == {
    True
  }
  wrong = answer[::-1].copy()
  assert False in {rule.is_kept(puzzle, wrong) for rule in text.rules.values()}


@pytest.mark.parametrize(
  "encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"]
)
def test_text_is_read_whatever_the_editor_wrote(encoding):
  data = f"#A José\n{PUZZLE}\n".encode(encoding)
  lines = puzzle_text.numbered("f", puzzle_text.decoded(data, "f"))
  assert lines[1] == ("f: line 2", PUZZLE)


def test_what_is_no_text_is_refused():
  with pytest.raises(InputError, match=r"p.png: expected text, got something"):
    puzzle_text.decoded(b"\x89PNG\r\n\x1a\n\0\0", "p.png")

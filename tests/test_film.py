"""Answers that take each other's place on a terminal."""

import dataclasses

import numpy as np
import pytest

from hrm_jax.console import film
from hrm_jax.data import puzzle_kind, sudoku
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question
from hrm_jax.solve import __main__ as solve
from hrm_jax.solve.solver import Solution
from tests.terminals import terminal
from tests.toys import METADATA

PUZZLE = "1....2.3..4.2..."


@pytest.fixture
def naps(monkeypatch):
  """How long each frame is shown; none takes time here."""
  naps = []
  monkeypatch.setattr(film.time, "sleep", naps.append)
  return naps


@pytest.fixture
def show(monkeypatch, naps):
  """Prints a solution on a terminal of some size; returns the terminal."""
  metadata = dataclasses.replace(METADATA, vocab_size=6, seq_len=16)
  board = Board(puzzle_kind.SUDOKU, (4, 4), None)
  puzzle = sudoku.parse(PUZZLE)

  def run(rows, columns, segments=3, **variables):
    trace = np.tile(puzzle, (segments, 1))
    trace[np.arange(segments), -1] = 2 + np.arange(segments) % 4
    with terminal(monkeypatch, rows, columns, **variables) as shown:
      solve._show(
        Question("puzzle 1", puzzle),
        Solution(puzzle, trace, 1.0, 0.0, 0.73),
        PuzzleText(metadata, board),
        trace=True,
      )
    return shown

  return run


def test_frames_of_any_height_take_each_others_place(monkeypatch, naps):
  frames = ["a\nb\nc", "\x1b[1md\x1b[0m", "e\nf"]
  with terminal(monkeypatch, 24, 80) as shown:
    print("above")
    film.play(frames, 0.25)
    print("below")
  assert naps == [0.25] * 3
  assert shown.screens() == [
    ["above", "a", "b", "c", ""],
    ["above", "d", ""],
    ["above", "e", "f", ""],
    ["above", "below", ""],
  ]
  assert shown.written.index("\x1b[?25l") < shown.written.index("\x1b[?25h")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_who_interrupts_it_can_see_the_cursor(monkeypatch, stop):
  def interrupted(seconds):
    raise stop

  monkeypatch.setattr(film.time, "sleep", interrupted)
  with terminal(monkeypatch, 24, 80) as shown, pytest.raises(stop):
    film.play(["a", "b"], 1.0)
  assert shown.written.endswith("\x1b[?25h")
  assert shown.screens() == [["a", ""]]


@pytest.mark.parametrize(
  ("rows", "columns", "fits"),
  [(3, 4, True), (2, 4, False), (3, 3, False), (24, 80, True)],
)
def test_what_would_scroll_or_wrap_does_not_fit(
  monkeypatch, rows, columns, fits
):
  with terminal(monkeypatch, rows, columns):
    assert film.fits(["\x1b[31mab\x1b[0mcd\n1", "x"]) == fits
    # A wide letter takes two columns.
    assert film.fits(["漢字\n1"]) == fits


def test_the_answers_of_a_puzzle_are_drawn_in_one_place(show, naps):
  shown = show(24, 80)
  assert naps == [0.5] * 3
  *frames, last = shown.screens()
  for segment, frame in enumerate(frames, 1):
    assert frame[0] == "puzzle:"
    assert frame[7] == f"after segment {segment}:"
    assert frame[12:] == [f"2 . | . {segment}", "", ""]
  assert last[7] == "answer:"
  assert "after segment" not in "".join(last)
  assert frames[-1][8:13] == last[8:13]
  assert "segments used: 3" in last
  assert "\x1b[1m1\x1b[0m" in shown.written  # A bold clue.


def test_a_film_of_many_segments_is_not_longer_than_4_seconds(show, naps):
  show(24, 80, segments=20)
  assert naps == [0.2] * 20


@pytest.mark.parametrize(
  ("rows", "columns", "variables"),
  [
    (7, 80, {}),  # A frame has seven lines, and below it stands the cursor.
    (24, 8, {}),
    (24, 80, {"NO_COLOR": "1"}),
    (24, 80, {"TERM": "dumb"}),
  ],
  ids=str,
)
def test_elsewhere_they_stand_one_below_the_other(
  show, naps, rows, columns, variables
):
  shown = show(rows, columns, **variables)
  assert naps == []
  (lines,) = shown.screens()
  segments = [line for line in lines if line.startswith("after segment")]
  assert segments == [f"after segment {n}:" for n in (1, 2, 3)]
  assert "answer:" in lines
  assert ("\x1b" in shown.written) == (not variables)


def test_the_command_shows_what_the_network_thinks(tiny_run, monkeypatch, naps):
  flags = [f"--workdir={tiny_run}", "--halt=full", "--trace"]
  monkeypatch.setattr("sys.argv", ["solve", *flags, PUZZLE])
  with terminal(monkeypatch, 24, 80) as shown:
    solve.main()
  assert len(naps) == 3
  assert shown.screens()[-1][7] == "answer:"

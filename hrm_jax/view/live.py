"""Solves puzzles that a person types, with one model that is loaded once."""

import threading
from typing import Any

import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch, pad_batch
from hrm_jax.data.puzzle_text import PuzzleText, numbered
from hrm_jax.view import report
from hrm_jax.view.recording import Recorder, Recording
from hrm_jax.view.report import Board

# So many rows are thought about for every request: one program serves all.
MOST_PUZZLES = 4


class Live:
  """Text in, what the page shows of it out; one request at a time thinks.

  Args:
    trained: the network.
    text: how its kind of puzzle is read.
    board: how it is shown.
  """

  def __init__(self, trained: Trained, text: PuzzleText, board: Board):
    self._trained, self._text, self._board = trained, text, board
    self._recorder = Recorder(trained)
    self._thinking = threading.Lock()

  @property
  def forms(self) -> str:
    """The forms of text that are read, in a phrase."""
    return self._text.forms

  def __call__(self, text: str) -> dict[str, Any]:
    """Solves the puzzles in a text.

    Returns:
      As `report.payload`, with `rules`.

    Raises:
      InputError: it holds none, too many, or one that is wrong.
    """
    cells = self._trained.metadata.seq_len
    found = self._text.read(numbered("text", text), cells)
    if not found:
      raise InputError(
        f"text: expected puzzles of {cells} cells, got none; read is "
        f"{self.forms}."
      )
    if len(found) > MOST_PUZZLES:
      raise InputError(
        f"text: expected at most {MOST_PUZZLES} puzzles at once, got "
        f"{len(found):,}."
      )
    recording = self._record(np.stack([tokens for _, tokens in found]))
    made = report.payload(recording, self._board, sets={"typed": len(found)})
    return {**made, "rules": self._rules(recording)}

  def _record(self, puzzles: np.ndarray) -> Recording:
    blank = self._trained.metadata.blank_identifier_id
    asked = Batch(
      inputs=puzzles.astype(np.int32),
      labels=np.full(puzzles.shape, IGNORE_LABEL_ID, np.int32),
      puzzle_identifiers=np.full(len(puzzles), blank, np.int32),
    )
    batch = pad_batch(asked, MOST_PUZZLES, self._trained.metadata)
    with self._thinking:
      return self._recorder.finish(
        batch, self._recorder.start(batch), len(puzzles)
      )

  def _rules(self, recording: Recording) -> list[list[list[dict[str, Any]]]]:
    """For each puzzle and segment, which rules the answer keeps."""
    rules = self._text.rules.values()
    return [
      [
        [
          {"words": rule.words, "kept": rule.is_kept(puzzle, answer)}
          for rule in rules
        ]
        for answer in answers
      ]
      for puzzle, answers in zip(
        recording.inputs, recording.answers, strict=True
      )
    ]

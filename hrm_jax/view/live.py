"""Solves puzzles that a person types, with one model that is loaded once."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.console import InputError
from hrm_jax.data import question
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch, pad_batch
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question, Source
from hrm_jax.view import report
from hrm_jax.view.recording import Recorder, Recording

# So many rows are thought about for every request: one program serves all.
MOST_PUZZLES = 4


class Live:
  """Text in, what the page shows of it out, segment by segment.

  Args:
    trained: the network.
    text: how its kind of puzzle is read, and what it looks like.
    rows_of: from puzzles to the rows of the table that they are asked with.
  """

  def __init__(
    self,
    trained: Trained,
    text: PuzzleText,
    rows_of: Callable[[list[Question]], np.ndarray],
  ):
    self._trained, self._text, self._rows_of = trained, text, rows_of
    self._recorder = Recorder(trained)
    self._thinking = threading.Lock()

  @property
  def forms(self) -> str:
    """The forms of text that are read, in a phrase."""
    return self._text.forms

  def __call__(self, text: str) -> Iterator[dict[str, Any]]:
    """Solves the puzzles in a text.

    Yields:
      After each segment that segment alone, as `report.payload`, with `rules`;
      `halts_after` is 0 where a puzzle has not wanted to halt yet.

    Raises:
      InputError: it holds none, too many, or one that is wrong.
    """
    found = self._read(text)
    metadata, segments = self._trained.metadata, self._segments_of(found)
    halts_after = np.zeros(len(found), int)
    for number in range(1, self._trained.model.halt_max_steps + 1):
      # Requests take turns: who reads slowly keeps nobody waiting.
      with self._thinking:
        recording = next(segments)
      halts = recording.wants_to_halt[:, 0] & (halts_after == 0)
      halts_after[halts] = number
      made = report.payload(
        recording,
        self._text.board,
        metadata.vocab_size,
        sets={"typed": len(found)},
      )
      yield {
        **made,
        "halts_after": halts_after.tolist(),
        "rules": self._rules(recording),
      }

  def _read(self, text: str) -> list[Question]:
    lines = question.numbered("text", text)
    found = self._text.read(Source("text", lines, "text"))
    if not found:
      raise InputError(
        f"text: expected puzzles of {self._trained.metadata.seq_len} cells, "
        f"got none; read is {self.forms}."
      )
    if len(found) > MOST_PUZZLES:
      raise InputError(
        f"text: expected at most {MOST_PUZZLES} puzzles at once, got "
        f"{len(found):,}."
      )
    return found

  def _segments_of(self, found: list[Question]) -> Iterator[Recording]:
    asked = Batch(
      inputs=np.stack([each.tokens for each in found]).astype(np.int32),
      labels=np.stack([self._labels(each) for each in found]),
      puzzle_identifiers=self._rows_of(found).astype(np.int32),
    )
    batch = pad_batch(asked, MOST_PUZZLES, self._trained.metadata)
    return self._recorder.by_segment(batch, len(found))

  def _labels(self, asked: Question) -> np.ndarray:
    """[G] int32: the answer where the text has it; padding is not asked for."""
    if asked.answer is None:
      return np.full(asked.tokens.shape, IGNORE_LABEL_ID, np.int32)
    is_asked = asked.answer != self._trained.metadata.pad_id
    answer = asked.answer.astype(np.int32)
    return np.where(is_asked, answer, np.int32(IGNORE_LABEL_ID))

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

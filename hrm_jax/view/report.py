"""A recording as the JSON object that the page reads.

Scalars are plain JSON. Grids are bytes, `zlib` and base64: 1,000 mazes of 900
cells in 16 segments are 29 million numbers.

  kind, rows, columns, box      of the board; box is [rows, columns] or null
  symbols                       what stands for each token id
  segments                      S
  set_names, sets               names of the sets; for each puzzle which
  names, name_of                different names; for each puzzle which
  rows_in_set                   for each puzzle its row in its set
  halts_after                   for each puzzle, by itself
  q_halt, q_continue            [N][S] logits; null is not finite
  measures                      [{"label", "values"}], how hard a puzzle is
  shortest                      mazes: [N][S], whether any shortest path
  rules                         of a typed puzzle: [N][S][{"words", "kept"}]
  token_bytes                   1 or 2, little-endian
  inputs, labels, answers       [N, G], [N, G], [N, S, G] token ids; a label is
                                one more than its token id, 0 is not asked
  confidence                    [N, S, G] bytes, places in `levels`
  levels                        percents, fewer where they tell less
"""

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hrm_jax.data import arc, drawing, maze, puzzle_kind, sudoku
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.view.recording import Recording

# 32 of them: noise, which no compression helps, then takes 5 bits a cell.
LEVELS = (*range(0, 80, 5), *range(80, 90, 2), *range(90, 101))


def payload(
  recording: Recording,
  board: Board,
  vocab_size: int,
  *,
  sets: dict[str, int],
  rows_in_set: Sequence[int] | None = None,
  names: Sequence[str] = (),
  blank: int = 0,
) -> dict[str, Any]:
  """The recording as a JSON object; see the module.

  Args:
    recording: N puzzles.
    board: what they look like.
    vocab_size: V.
    sets: how many of them are of each set, in order.
    rows_in_set: for each puzzle its row in its set; None: the first ones.
    names: of the puzzle identifiers, where they are known.
    blank: the identifier of puzzles that have none.
  """
  if rows_in_set is None:
    rows_in_set = [row for count in sets.values() for row in range(count)]
  used, name_of = np.unique(recording.puzzle_identifiers, return_inverse=True)
  which = np.repeat(np.arange(len(sets)), list(sets.values()))
  width = 1 if vocab_size < 256 else 2
  rows, columns = board.shape
  is_sudoku = board.kind == puzzle_kind.SUDOKU
  tokens = f"<u{width}"
  labels = np.where(
    recording.labels == IGNORE_LABEL_ID, 0, recording.labels + 1
  )
  found = {
    "kind": board.kind,
    "rows": rows,
    "columns": columns,
    "box": sudoku.box_shape(rows) if is_sudoku else None,
    "symbols": drawing.symbols_of(board, vocab_size),
    "segments": recording.answers.shape[1],
    "set_names": list(sets),
    "sets": which.tolist(),
    "names": [names[i] if i != blank and i < len(names) else "" for i in used],
    "name_of": name_of.tolist(),
    "rows_in_set": list(rows_in_set),
    "halts_after": recording.halts_after.tolist(),
    "q_halt": _rounded(recording.q_halt),
    "q_continue": _rounded(recording.q_continue),
    "measures": _measures(board.kind, recording),
    "token_bytes": width,
    "inputs": packed(recording.inputs, tokens),
    "labels": packed(labels, tokens),
    "answers": packed(recording.answers, tokens),
    "levels": LEVELS,
    "confidence": packed(nearest_level(recording.confidence), "<u1"),
  }
  if board.kind == puzzle_kind.MAZE:
    found["shortest"] = _shortest(recording).tolist()
  return found


def nearest_level(percent: np.ndarray) -> np.ndarray:
  """The place in LEVELS of the level nearest to each percentage."""
  levels = np.array(LEVELS)
  places = np.abs(np.arange(101)[:, None] - levels).argmin(1)  # [101]
  return places.astype(np.uint8)[percent]


def packed(array: np.ndarray, dtype: str) -> str:
  """The array's bytes in C order, compressed, as text."""
  data = np.ascontiguousarray(array.astype(dtype)).tobytes()
  return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def scores(recording: Recording, segment: np.ndarray) -> dict[str, float]:
  """What `evaluate` says of the answers after some segment of each puzzle.

  Args:
    recording: N puzzles; those without a label count nowhere.
    segment: [N] from 1, whose answer counts.
  """
  rows = np.arange(len(segment))
  asked = recording.labels != IGNORE_LABEL_ID  # [N, G]
  right = (recording.answers[rows, segment - 1] == recording.labels) | ~asked
  counted = asked.any(1)
  exact = right.all(1)
  share = (right & asked).sum(1) / np.maximum(asked.sum(1), 1)
  knew = (recording.q_halt[rows, segment - 1] >= 0) == exact

  def mean(values: np.ndarray) -> float:
    return float(values[counted].mean()) if counted.any() else 0.0

  return {
    "count": int(counted.sum()),
    "accuracy": mean(share),
    "exact_accuracy": mean(exact),
    "q_halt_accuracy": mean(knew),
    "steps": mean(segment),
  }


def _rounded(logits: np.ndarray) -> list[list[float | None]]:
  """With four digits after the point; None for NaN, which JSON has not."""
  rounded = np.round(logits.astype(np.float64), 4).astype(object)
  rounded[~np.isfinite(logits)] = None
  return rounded.tolist()


def _measures(kind: str, recording: Recording) -> list[dict[str, Any]]:
  """How hard each puzzle is, by what can be counted."""
  if kind == puzzle_kind.SUDOKU:
    label, of = "blanks", recording.inputs == sudoku.BLANK_ID
  elif kind == puzzle_kind.MAZE:
    label, of = "path cells", recording.labels == maze.PATH_ID
  elif kind == puzzle_kind.ARC:
    label, of = "answer cells", recording.labels > arc.EOS_ID
  else:
    label, of = "cells asked for", recording.labels != IGNORE_LABEL_ID
  return [{"label": label, "values": of.sum(1).tolist()}]


def _shortest(recording: Recording) -> np.ndarray:
  """[N, S] whether an answer is any shortest path of its maze."""
  answers = recording.answers
  right = np.zeros(answers.shape[:2], bool)
  for segment in range(answers.shape[1]):
    # Most answers are those of the segment before: judged already.
    changed = np.ones(len(answers), bool)
    if segment:
      changed = (answers[:, segment] != answers[:, segment - 1]).any(1)
      right[:, segment] = right[:, segment - 1]
    right[changed, segment] = maze.is_shortest_path(
      recording.inputs[changed], answers[changed, segment]
    )
  return right

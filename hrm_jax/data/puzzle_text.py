"""Puzzles as text, by their kind: how they are read, written and judged.

One place for what `solve`, and whatever else shows puzzles to people, must
know of a kind. Another kind that can be solved is another entry here.
"""

import codecs
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import puzzle_kind, sudoku, sudoku_text
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.sudoku_text import Line


class Rule(NamedTuple):
  """Something that a right answer does.

  Attributes:
    words: what it does, to be answered with yes or no.
    is_kept: from a [G] puzzle and a [G] answer to whether it does.
  """

  words: str
  is_kept: Callable[[np.ndarray, np.ndarray], bool]


class PuzzleText(NamedTuple):
  """The text of one kind of puzzle.

  Attributes:
    read: from lines with their names, and G, to the puzzles with theirs; see
      `sudoku_text.read`.
    forms: the forms of text that `read` knows, in a phrase.
    to_text: writes [G] token ids on one line.
    draw: writes [G] token ids for a person, on several lines.
    rules: what a right answer does, by the key in JSON.
  """

  read: Callable[[Iterable[Line], int], list[tuple[str, np.ndarray]]]
  forms: str
  to_text: Callable[[np.ndarray], str]
  draw: Callable[[np.ndarray], str]
  rules: Mapping[str, Rule]


OF_KIND = {
  puzzle_kind.SUDOKU: PuzzleText(
    read=sudoku_text.read,
    forms=sudoku_text.FORMS,
    to_text=sudoku.to_text,
    draw=sudoku.format_grid,
    rules={
      "obeys_rules": Rule(
        "obeys the rules",
        lambda puzzle, answer: bool(sudoku.obeys_rules(answer)),
      ),
      "keeps_clues": Rule(
        "keeps the clues",
        lambda puzzle, answer: bool(sudoku.keeps_clues(puzzle, answer)),
      ),
    },
  ),
}


def kind_of_checkpoint(
  metadata: DatasetMetadata, recorded: str | None = None
) -> str:
  """The kind of puzzle that a checkpoint solves, one of `OF_KIND`.

  Args:
    metadata: of the data that it was trained on.
    recorded: the kind that its run record names, if it does; else the sizes
      tell, as far as they can: those of a 4x4 Sudoku are also those of a maze.

  Raises:
    InputError: it was trained on something else.
  """
  if recorded is not None and recorded not in OF_KIND:
    raise InputError(
      f"this checkpoint was trained on puzzles of the kind {recorded}: "
      f"expected one of {', '.join(OF_KIND)}."
    )
  side = sudoku.side_of(metadata.seq_len, "this checkpoint's puzzle")
  if metadata.vocab_size != sudoku.vocab_size(side):
    raise InputError(
      f"this checkpoint does not solve Sudokus: expected vocab_size="
      f"{sudoku.vocab_size(side)} for side {side}, got {metadata.vocab_size}."
    )
  return puzzle_kind.SUDOKU


def decoded(data: bytes, name: str) -> str:
  """The text of a file, whatever a person's editor made of it.

  UTF-16 is known by its mark. What is not UTF-8 is read byte by byte: cells
  are ASCII, and comments do not matter.

  Raises:
    InputError: it is not text.
  """
  if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    text = data.decode("utf-16", errors="replace")
  else:
    try:
      text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
      text = data.decode("latin-1")
  if "\0" in text:
    raise InputError(f"{name}: expected text, got something else.")
  return text


def numbered(source: str, text: str) -> list[Line]:
  """The lines of a text, each with its name: "SOURCE: line 3"."""
  lines = enumerate(text.splitlines(), 1)
  return [(f"{source}: line {i}", line) for i, line in lines]

"""Tables of Sudoku as text, for tests that read them."""

import csv
import io

import numpy as np

from hrm_jax.data import sudoku, symmetry
from tests.test_sudoku import ANSWER, PUZZLE

HEADER = ["source", "question", "answer", "rating"]


def make_rows(count, seed=0):
  """Rows of valid puzzles: images of one, rated 0, 1, 2, ..."""
  rng = np.random.default_rng(seed)
  symmetries = symmetry.draw_sudoku(rng, count, 9)
  question, answer = (
    symmetry.transform(symmetries, sudoku.parse(text)[None])
    for text in (PUZZLE, ANSWER)
  )
  return [
    ["list", sudoku.to_text(q), sudoku.to_text(a), str(i)]
    for i, (q, a) in enumerate(zip(question, answer, strict=True))
  ]


def to_csv(rows, header=HEADER, **dialect):
  text = io.StringIO()
  dialect.setdefault("lineterminator", "\n")
  csv.writer(text, **dialect).writerows([header, *rows])
  return text.getvalue()


ROWS = make_rows(3)


PLAIN = to_csv(ROWS)


QUESTION, SOLUTION = ROWS[2][1:3]


def replaced(text, cell, character):
  return text[:cell] + character + text[cell + 1 :]


def different_rows(count):
  """Rows of puzzles that are no images of each other."""
  given = [i for i, cell in enumerate(PUZZLE) if cell in "123456789"]
  return [
    ["", replaced(PUZZLE, given[i], "."), ANSWER, str(i)] for i in range(count)
  ]


def moved(row, seed):
  """The row of a symmetry image."""
  moves = symmetry.draw_sudoku(np.random.default_rng(seed), 1, 9)
  boards = (sudoku.parse(text)[None] for text in row[1:3])
  images = [symmetry.transform(moves, board)[0] for board in boards]
  return [row[0], *map(sudoku.to_text, images), row[3]]

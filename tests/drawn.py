"""Puzzles as they are drawn without colour."""

import math

import numpy as np

from hrm_jax.console import Pen
from hrm_jax.data import drawing
from hrm_jax.data.puzzle_kind import Board


def drawn(kind: str, tokens: np.ndarray, charset: str | None = None) -> str:
  """A square puzzle of a kind, as rows of text."""
  side = math.isqrt(len(tokens))
  board = Board(kind, (side, side), charset)
  return str(drawing.draw(board, tokens, tokens, Pen(False)))

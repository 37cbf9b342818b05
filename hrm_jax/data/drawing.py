"""Draws puzzles for a terminal, by their kind, in colour or without.

Without colour, a drawn Sudoku or maze can be read again, and so can a grid that
has no symbol like a space.
"""

import numpy as np

from hrm_jax import console
from hrm_jax.console import Pen
from hrm_jax.console.pen import BOLD, DIM
from hrm_jax.data import arc, maze, puzzle_kind, sudoku
from hrm_jax.data.puzzle_kind import Board

# The colours 0..9 that the ARC tasks are usually shown in, as RGB.
ARC_PALETTE = (
  (0, 0, 0),
  (0, 116, 217),
  (255, 65, 54),
  (46, 204, 64),
  (255, 220, 0),
  (170, 170, 170),
  (240, 18, 190),
  (255, 133, 27),
  (127, 219, 255),
  (135, 12, 37),
)
MAZE_CHARACTERS = f"?{maze.CHARSET}"
MAZE_STYLES = ("", "100", "", "30;42", "30;41", "30;43")


def symbols_of(board: Board, vocab_size: int) -> list[str]:
  """For each token id the short text that stands for it in a picture."""
  if board.kind == puzzle_kind.SUDOKU:
    known = "?·123456789"
  elif board.kind == puzzle_kind.MAZE:
    known = MAZE_CHARACTERS
  elif board.kind == puzzle_kind.ARC:
    known = " ▪0123456789"
  else:
    known = " " + (board.charset or puzzle_kind.SYMBOLS)
  symbols = list(known[:vocab_size])
  return symbols + [str(i - 1) for i in range(len(symbols), vocab_size)]


class Drawing:
  """Lines of text, each with the width it has without its styles."""

  def __init__(self) -> None:
    self.lines: list[tuple[str, int]] = []

  def add(self, pieces: list[str], width: int) -> None:
    """Appends a line made of pieces, of `width` columns on the screen."""
    self.lines.append(("".join(pieces), width))

  @property
  def width(self) -> int:
    """Columns of the widest line."""
    return max(width for _, width in self.lines)

  def __str__(self) -> str:
    """The lines, with line ends between them."""
    return "\n".join(text for text, _ in self.lines)


def draw(
  board: Board, tokens: np.ndarray, clues: np.ndarray, pen: Pen
) -> Drawing:
  """Draws one grid.

  Args:
    board: its kind, size and symbols.
    tokens: [G] token ids of the question or of the answer, of any value.
    clues: [G] token ids of the question: in a Sudoku its digits are bold.
    pen: gives the colours.
  """
  grid, given = tokens.reshape(board.shape), clues.reshape(board.shape)
  if board.kind == puzzle_kind.SUDOKU:
    return _draw_sudoku(grid, given, pen)
  if board.kind == puzzle_kind.MAZE:
    return _draw_cells(grid, MAZE_CHARACTERS, MAZE_STYLES, pen, 1)
  if board.kind == puzzle_kind.ARC:
    return _draw_arc(grid, pen)
  symbols = board.charset or puzzle_kind.SYMBOLS
  styles = ["", *(f"3{1 + i % 6}" for i in range(256))]
  return _draw_cells(grid, " " + symbols, styles, pen, 2)


def _draw_cells(
  grid: np.ndarray, characters: str, styles: list | tuple, pen: Pen, width: int
) -> Drawing:
  drawing = Drawing()
  for row in grid:
    pieces = []
    for token in map(int, row):
      known = 0 <= token < min(len(characters), len(styles))
      text = console.printable(characters[token]) if known else "?"
      pieces.append(
        pen(text.ljust(width)[:width], styles[token] if known else "")
      )
    drawing.add(pieces, width * len(row))
  return drawing


def _draw_sudoku(grid: np.ndarray, clues: np.ndarray, pen: Pen) -> Drawing:
  drawing = Drawing()
  side = len(grid)
  rows, columns = sudoku.box_shape(side)
  width = 2 * side - 1 + 2 * (side // columns - 1)
  for i, row in enumerate(grid):
    if i and i % rows == 0:
      rule = "+".join(["-" * (2 * columns + 1)] * (side // columns))[1:-1]
      drawing.add([pen(rule, DIM)], width)
    pieces = []
    for j, token in enumerate(map(int, row)):
      if j:
        pieces.append(pen(" | ", DIM) if j % columns == 0 else " ")
      known = 0 <= token <= side + 1
      text = "?.123456789"[token] if known else "?"
      given = clues[i, j] > sudoku.BLANK_ID
      style = BOLD if given else (DIM if token <= sudoku.BLANK_ID else "36")
      pieces.append(pen(text, style))
    drawing.add(pieces, width)
  return drawing


def _draw_arc(grid: np.ndarray, pen: Pen) -> Drawing:
  """Only the part that holds colours: the translation does not matter."""
  coloured = grid > arc.EOS_ID
  drawing = Drawing()
  rows = np.flatnonzero(coloured.any(1))
  columns = np.flatnonzero(coloured.any(0))
  if not len(rows):
    drawing.add(["(not known)"], 11)
    return drawing
  for row in grid[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]:
    pieces = []
    for colour in row.astype(int) - arc.FIRST_COLOR_ID:
      if not 0 <= colour < len(ARC_PALETTE):
        pieces.append("? ")
        continue
      red, green, blue = ARC_PALETTE[colour]
      text = 30 if red + 2 * green + blue > 400 else 37
      style = f"{text};48;2;{red};{green};{blue}"
      pieces.append(pen(f"{colour} ", style))
    drawing.add(pieces, 2 * len(row))
  return drawing

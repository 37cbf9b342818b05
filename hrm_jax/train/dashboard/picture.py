"""Draws what a network thinks of one puzzle: a panel for each segment.

What was given is grey, what is right nearly white and what is wrong dark, with
its letter in white; a cell that has a colour of its own (walls, ARC) has a dark
frame where it is wrong. So it can also be read without telling colours apart.
"""

import numpy as np

from hrm_jax.data import drawing, puzzle_kind, sudoku
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.train.dashboard import glyphs

PAPER, INK, LINE, GIVEN, RIGHT, WRONG, WALL = range(7)
_FIRST_OF_ARC = 7
PALETTE = (
  (255, 255, 255),
  (20, 20, 20),
  (165, 165, 165),
  (208, 208, 208),
  (232, 250, 236),
  (160, 0, 40),
  (125, 125, 125),
  *drawing.ARC_PALETTE,
)

# What can be said of a cell.
_HIDDEN, _OPEN, _IS_GIVEN, _IS_RIGHT, _IS_WRONG = range(5)
_GROUNDS = (PAPER, PAPER, GIVEN, RIGHT, WRONG)

# More would be too small to be read.
MOST_SEGMENTS = 16
# TensorBoard shrinks what is wider than about 350 pixels, until it is clicked.
_FEW, _PANELS_IN_A_ROW = 3, 6
_GAP = 10
_TEXT_SCALE = 2


def draw(
  board: Board,
  vocab_size: int,
  *,
  inputs: np.ndarray,
  labels: np.ndarray,
  answers: np.ndarray,
  halt_probability: np.ndarray,
) -> np.ndarray:
  """The question, the answer after each segment, and the solution.

  Args:
    board: what the puzzle looks like.
    vocab_size: V.
    inputs: [G] token ids.
    labels: [G] token ids, or IGNORE_LABEL_ID where nothing is asked.
    answers: [S, G] token ids.
    halt_probability: [S] how sure the network was of each.

  Returns:
    [height, width] uint8, places in PALETTE.
  """
  asked = labels != IGNORE_LABEL_ID
  given = asked & (inputs == labels)
  shown = _part_in_use(board, asked | (inputs != 0))
  tiles = _tiles(board, vocab_size, max(shown[0].size, shown[1].size))

  def panel(tokens, states, *header):
    grid = tiles[np.clip(tokens, 0, vocab_size - 1), states]  # [G, cell, cell]
    grid = grid.reshape(*board.shape, *grid.shape[1:])[shown]
    return _with_header(_joined(board, grid), header)

  is_there = np.where(given, _IS_GIVEN, _OPEN)
  panels = [panel(inputs, is_there, "QUESTION", "")]
  for segment in _some(len(answers)):
    answer = answers[segment]
    right = answer == labels
    states = np.where(right, np.where(given, _IS_GIVEN, _IS_RIGHT), _IS_WRONG)
    wrong = int((asked & ~right).sum())
    chance = np.nan_to_num(halt_probability[segment])
    panels.append(
      panel(
        answer,
        np.where(asked, states, _HIDDEN),
        f"{segment + 1}: {wrong} WRONG" if wrong else f"{segment + 1}: RIGHT",
        f"HALT {chance:.0%}",
      )
    )
  states = np.where(asked, is_there, _HIDDEN)
  panels.append(panel(np.where(asked, labels, 0), states, "SOLUTION", ""))
  return _arranged(panels)


def _some(segments: int) -> list[int]:
  """Places of the segments that are drawn, the last one among them."""
  places = np.linspace(0, segments - 1, min(segments, MOST_SEGMENTS))
  return np.unique(places.round().astype(int)).tolist()


def _part_in_use(
  board: Board, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """The rows and columns without the empty ones around; for indexing."""
  grid = used.reshape(board.shape)
  if not used.any():
    grid = np.ones_like(grid)
  ends = [np.flatnonzero(grid.any(axis))[[0, -1]] for axis in (1, 0)]
  rows, columns = (np.arange(first, last + 1) for first, last in ends)
  return rows[:, None], columns[None]


def _tiles(board: Board, vocab_size: int, side: int) -> np.ndarray:
  """Every cell that there can be: [V, states, cell, cell] uint8.

  A cell has a line above it and one on its left.
  """
  cell = 28 if side <= 5 else 20 if side <= 10 else 14 if side <= 15 else 10
  tiles = np.empty((vocab_size, len(_GROUNDS), cell, cell), np.uint8)
  for token, symbol in enumerate(drawing.symbols_of(board, vocab_size)):
    fill, symbol = _fill(board, token, symbol)
    for state, ground in enumerate(_GROUNDS):
      tile = np.full((cell, cell), ground, np.uint8)
      if state != _HIDDEN and fill is not None:
        tile[:] = fill
        if state == _IS_WRONG:
          tile[:] = WRONG
          tile[3:-2, 3:-2] = PAPER
          tile[4:-3, 4:-3] = fill
      if state != _HIDDEN:
        paper = fill if fill is not None else ground
        _write(tile[1:, 1:], symbol, PAPER if _is_dark(paper) else INK)
      tile[0], tile[:, 0] = LINE, LINE
      tiles[token, state] = tile
  return tiles


def _fill(board: Board, token: int, symbol: str) -> tuple[int | None, str]:
  """The colour of a cell, if it has one of its own, and what stands in it."""
  if board.kind == puzzle_kind.MAZE and symbol == "#":
    return WALL, ""
  if board.kind == puzzle_kind.ARC and symbol.isdigit():
    return _FIRST_OF_ARC + int(symbol), symbol
  return None, symbol.replace("·", " ")


def _is_dark(colour: int) -> bool:
  red, green, blue = PALETTE[colour]
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128


def _write(area: np.ndarray, text: str, ink: int) -> None:
  """Puts a text into the middle of an area, as large as it fits."""
  height, width = area.shape
  columns = glyphs.WIDTH * max(len(text), 1)
  scale = max(min((height - 1) // (glyphs.HEIGHT + 1), width // columns), 1)
  pixels = glyphs.bitmap(text.strip(), scale)[:, :-scale]
  pixels = pixels[:height, :width]
  top = (height - pixels.shape[0]) // 2
  left = (width - pixels.shape[1]) // 2
  there = area[top : top + pixels.shape[0], left : left + pixels.shape[1]]
  there[pixels] = ink


def _joined(board: Board, grid: np.ndarray) -> np.ndarray:
  """[rows, columns, cell, cell] tiles as one picture, with its lines."""
  rows, columns, cell, _ = grid.shape
  picture = grid.transpose(0, 2, 1, 3).reshape(rows * cell, columns * cell)
  picture = np.pad(picture, ((0, 1), (0, 1)), constant_values=LINE)
  if board.kind == puzzle_kind.SUDOKU:
    box = sudoku.box_shape(board.shape[0])
    for axis, side in zip((picture, picture.T), box, strict=True):
      for place in range(0, len(axis), side * cell):
        axis[max(place - 1, 0) : place + 1] = INK
  return picture


def _with_header(picture: np.ndarray, lines: tuple[str, ...]) -> np.ndarray:
  """The picture under lines of text, as wide as the wider of them."""
  texts = [glyphs.bitmap(line, _TEXT_SCALE) for line in lines]
  width = max(picture.shape[1], *(text.shape[1] for text in texts))
  parts = [*(np.where(text, INK, PAPER) for text in texts), picture]
  below = 2 * _TEXT_SCALE
  return np.concatenate(
    [
      np.pad(
        part.astype(np.uint8),
        ((0, below), (0, width - part.shape[1])),
        constant_values=PAPER,
      )
      for part in parts
    ]
  )


def _arranged(panels: list[np.ndarray]) -> np.ndarray:
  """Panels of one height in rows, from left to right, with gaps between."""
  width = max(panel.shape[1] for panel in panels)
  height = panels[0].shape[0]
  columns = _FEW if len(panels) <= 2 * _FEW else _PANELS_IN_A_ROW
  rows = -(-len(panels) // columns)
  step_y, step_x = height + _GAP, width + _GAP
  sheet = np.full(
    (rows * step_y + _GAP, columns * step_x + _GAP), PAPER, np.uint8
  )
  for place, panel in enumerate(panels):
    row, column = divmod(place, columns)
    top, left = _GAP + row * step_y, _GAP + column * step_x
    sheet[top : top + height, left : left + panel.shape[1]] = panel
  return sheet

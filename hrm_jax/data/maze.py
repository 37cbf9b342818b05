"""What a maze is: text to token ids and back, and its shortest paths.

A maze of side n is n * n token ids, row by row: PAD 0, then the characters of
CHARSET: wall, free cell, start, goal, and path cell, which only answers hold.
An answer is its question with the cells between S and G on a shortest path
turned into path cells; where several paths are shortest, any of them is right.

The search works on boards: Python integers with a bit for each cell, and one
more column, never open, so that no move leaves a row at its end. A step of all
frontier cells at once is then a few shifts.
"""

import math
from typing import NamedTuple

import numpy as np

from hrm_jax.console import InputError

CHARSET = "# SGo"
PAD_ID, WALL_ID, FREE_ID, START_ID, GOAL_ID, PATH_ID = range(6)
VOCAB_SIZE = 1 + len(CHARSET)


class Search(NamedTuple):
  """The shortest paths from one cell of a maze to another."""

  moves: int  # length of a shortest path; -1 if there is none
  # moves + 1 boards: the cells that shortest paths reach after 0, 1, ... moves.
  levels: list[int]


def side_of(cells: int, name: str = "maze") -> int:
  """Returns the side of a maze of so many cells.

  Raises:
    InputError: it is no square, or too small to hold S and G.
  """
  side = math.isqrt(cells)
  if side * side != cells or side < 2:
    raise InputError(
      f"{name}: expected a square number of cells, 4 at least, got {cells}."
    )
  return side


def parse(text: str, name: str = "maze") -> np.ndarray:
  """Reads a maze; line ends may stand between rows, a space is a free cell.

  Args:
    text: the cells, row by row.
    name: what to call the maze in an error.

  Returns:
    [n * n] uint8 token ids.

  Raises:
    InputError: an illegal character, or a number of cells that is no square.
  """
  cells = text.replace("\r", "").replace("\n", "")
  for i, cell in enumerate(cells):
    if cell not in CHARSET:
      raise InputError(
        f"{name}: cell {i + 1}: expected one of '{CHARSET}', got {cell!r}."
      )
  side_of(len(cells), name)
  return np.array([CHARSET.index(c) + WALL_ID for c in cells], np.uint8)


def to_text(grid: np.ndarray) -> str:
  """Writes [G] token ids as `parse` reads them; PAD becomes `?`."""
  return "".join(f"?{CHARSET}"[int(token)] for token in np.asarray(grid))


def board_of(cells: np.ndarray) -> int:
  """Packs a [n, n] bool array into a board."""
  padded = np.pad(cells, ((0, 0), (0, 1)))
  data = np.packbits(padded, axis=None, bitorder="little").tobytes()
  return int.from_bytes(data, "little")


def cells_of(board: int, side: int) -> np.ndarray:
  """Unpacks a board into a [n, n] bool array."""
  count = side * (side + 1)
  data = np.frombuffer(board.to_bytes(-(-count // 8), "little"), np.uint8)
  bits = np.unpackbits(data, count=count, bitorder="little")
  return bits.reshape(side, side + 1)[:, :-1].astype(bool)


def search(open_: int, start: int, goal: int, side: int) -> Search:
  """Finds every shortest path.

  Args:
    open_: board of the cells that may be entered, start and goal included.
    start: board with one cell.
    goal: board with one cell.
    side: n.
  """
  waves = waves_from(open_, start, side, stop=goal)
  if not waves[-1] & goal:
    return Search(-1, [])
  # Back from the goal: what is reached there too lies on a shortest path.
  levels = [goal]
  for wave in waves[-2::-1]:
    levels.append(_neighbours(levels[-1], side) & wave)
  return Search(len(waves) - 1, levels[::-1])


def waves_from(open_: int, start: int, side: int, stop: int = 0) -> list[int]:
  """Boards of the cells 0, 1, 2, ... moves away, as far as any are.

  Args:
    open_: board of the cells that may be entered.
    start: board of the cells to start from.
    side: n.
    stop: the first wave that reaches one of these cells is the last.
  """
  waves = [start]
  unseen = open_ & ~start
  while not waves[-1] & stop:
    wave = _neighbours(waves[-1], side) & unseen
    if not wave:
      break
    unseen ^= wave
    waves.append(wave)
  return waves


def search_maze(maze: np.ndarray) -> Search:
  """Finds every shortest path from S to G of a [G] maze that has one each."""
  side = side_of(len(maze))
  cells = np.asarray(maze).reshape(side, side)
  start, goal = (board_of(cells == token) for token in (START_ID, GOAL_ID))
  return search(board_of(cells != WALL_ID), start, goal, side)


def shortest_length(maze: np.ndarray) -> int:
  """The moves from S to G of a [G] maze, -1 if there is no way."""
  return search_maze(maze).moves


def has_one_shortest_path(maze: np.ndarray) -> bool:
  """Whether exactly one path of a [G] maze is shortest."""
  levels = search_maze(maze).levels
  # Every cell of a level lies on some shortest path.
  return bool(levels) and all(level.bit_count() == 1 for level in levels)


def question_error(question: np.ndarray) -> str | None:
  """Says what keeps a [G] grid from being a maze with a way, or None."""
  for token in (START_ID, GOAL_ID):
    count = int((question == token).sum())
    if count != 1:
      return f"expected exactly one {CHARSET[token - 1]}, got {count}"
  known = (question >= WALL_ID) & (question < PATH_ID)
  if not known.all():
    cell = _position(int(known.argmin()), len(question))
    return f"{cell}: expected one of '{CHARSET[:-1]}'"
  if shortest_length(question) < 0:
    return "expected a way from S to G, got none"
  return None


def error(question: np.ndarray, answer: np.ndarray) -> str | None:
  """Says in one phrase what is wrong with a question or its answer, or None.

  Args:
    question: [G] integer token ids.
    answer: [G] integer token ids.
  """
  if found := question_error(question):
    return f"question: {found}"
  kept = keeps_cells(question, answer)
  if not kept.all():
    cell = int(kept.argmin())
    expected = f"'{to_text(question[cell : cell + 1])}'"
    if question[cell] == FREE_ID:
      expected += " or 'o'"
    got = answer[cell : cell + 1]
    known = PAD_ID <= got[0] < VOCAB_SIZE
    return (
      f"answer: {_position(cell, len(question))}: expected {expected} as in "
      f"the question, got {repr(to_text(got)) if known else int(got[0])}"
    )
  moves, path = shortest_length(question), int((answer == PATH_ID).sum())
  if path != moves - 1:
    return (
      f"answer: expected {moves - 1} path cells, as the shortest path has, "
      f"got {path}"
    )
  if _path_moves(answer) != moves:
    return "answer: expected path cells that connect S to G, got a broken path"
  return None


def keeps_cells(questions: np.ndarray, answers: np.ndarray) -> np.ndarray:
  """Tells which cells of [..., G] answers agree with their questions.

  A free cell may have become one of the path; all others stay as they are.
  """
  path = (questions == FREE_ID) & (answers == PATH_ID)
  return path | (questions == answers)


def is_shortest_path(inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
  """Tells which answers are right: any shortest path of their maze counts.

  Args:
    inputs: [..., G] integer token ids; what is no maze has no right answer.
    answers: [..., G] integer token ids, of any value.

  Returns:
    [...] bool.
  """
  inputs, answers = np.asarray(inputs), np.asarray(answers)
  right = np.asarray(keeps_cells(inputs, answers).all(-1))
  # Most wrong answers differ outside the path, so the search sees few of them.
  for index in np.argwhere(right):
    row = tuple(index)
    right[row] = error(inputs[row], answers[row]) is None
  return right


def _path_moves(answer: np.ndarray) -> int:
  """Moves from S to G over path cells only, -1 if those do not connect."""
  path = np.where(answer == FREE_ID, WALL_ID, answer)
  return search_maze(path).moves


def _neighbours(board: int, side: int) -> int:
  row = side + 1
  return board << 1 | board >> 1 | board << row | board >> row


def _position(cell: int, cells: int) -> str:
  side = side_of(cells)
  return f"row {cell // side + 1}, column {cell % side + 1}"

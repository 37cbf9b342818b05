"""Prints puzzles of a data set on the terminal, in colour.

example:
  python -m data_tools.show data/sudoku-1k --index 3

Question and answer stand side by side where the terminal is wide enough. The
text is plain where stdout is not a terminal, or NO_COLOR is set.
"""

import argparse
import io
import json
import os
import pathlib
import shutil
import sys

import numpy as np

from hrm_jax import console
from hrm_jax.console import InputError
from hrm_jax.data import arc, maze, puzzle_kind, sudoku
from hrm_jax.data.split import Split, open_split

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
BOLD, DIM = "1", "2"

_GAP = 4
# Symbols of other sets that have no charset.
_SYMBOLS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Pen:
  """Text with a style on a terminal, without one elsewhere."""

  def __init__(self, colour: bool):
    self._colour = colour

  def __call__(self, text: str, style: str) -> str:
    """Returns the text in the style, the numbers of an SGR sequence."""
    return f"\x1b[{style}m{text}\x1b[0m" if self._colour and style else text


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


def draw(
  kind: str,
  tokens: np.ndarray,
  clues: np.ndarray,
  pen: Pen,
  *,
  shape: tuple[int, int],
  charset: str | None,
) -> Drawing:
  """Draws one grid.

  Args:
    kind: one of puzzle_kind.KINDS.
    tokens: [G] token ids of the question or of the answer.
    clues: [G] token ids of the question: in a Sudoku its digits are bold.
    pen: gives the colours.
    shape: rows and columns.
    charset: characters of the symbols, or None.
  """
  grid, given = tokens.reshape(shape), clues.reshape(shape)
  if kind == puzzle_kind.SUDOKU:
    return _draw_sudoku(grid, given, pen)
  if kind == puzzle_kind.MAZE:
    return _draw_cells(grid, MAZE_CHARACTERS, MAZE_STYLES, pen, 1)
  if kind == puzzle_kind.ARC:
    return _draw_arc(grid, pen)
  symbols = charset or _SYMBOLS
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


def side_by_side(left: Drawing, right: Drawing, columns: int) -> list[str]:
  """Lines of both drawings: next to each other if `columns` allow it."""
  if left.width + _GAP + right.width > columns:
    return [text for text, _ in [*left.lines, ("", 0), *right.lines]]
  lines = []
  for i in range(max(len(left.lines), len(right.lines))):
    text, width = left.lines[i] if i < len(left.lines) else ("", 0)
    if i < len(right.lines):
      text += " " * (left.width + _GAP - width) + right.lines[i][0]
    lines.append(text)
  return lines


def show(
  root: str | os.PathLike,
  *,
  split: str = "test",
  index: int = 0,
  count: int = 1,
  colour: bool = False,
  columns: int = 80,
) -> list[str]:
  """Draws examples of a data set.

  Args:
    root: its directory.
    split: which part of it.
    index: the first example, from 0, over all sets of the split.
    count: how many, at most.
    colour: whether the lines hold colours.
    columns: of the terminal.

  Returns:
    Lines of text.

  Raises:
    InputError: a file is damaged, or there is no such example.
  """
  root = pathlib.Path(root)
  opened = open_split(root, split)
  total = sum(len(s.inputs) for s in opened.sets)
  if not 0 <= index < total:
    raise InputError(
      f"--index: expected 0..{total - 1}, as {opened.path} holds {total} "
      f"examples, got {index}."
    )
  if count < 1:
    raise InputError(f"--count: expected at least 1, got {count}.")
  kind = puzzle_kind.kind_of(root, [opened])
  build = puzzle_kind.read_build(root)
  shape = _shape(build, opened.metadata.seq_len)
  charset = build.get("charset")
  if not isinstance(charset, str):
    charset = None
  names = _names(root)
  pen = Pen(colour)
  lines = []
  for i in range(index, min(index + count, total)):
    inputs, labels, identifier, where = _example(opened, i)
    name = names[identifier] if identifier < len(names) else "?"
    title = f"{split} {i}: {where}, identifier {identifier} {name}"
    lines.append(pen(console.printable(title), BOLD))
    question, answer = (
      draw(kind, tokens, inputs, pen, shape=shape, charset=charset)
      for tokens in (inputs, labels)
    )
    lines += [*side_by_side(question, answer, columns), ""]
  return lines


def _example(
  split: Split, index: int
) -> tuple[np.ndarray, np.ndarray, int, str]:
  """Inputs and labels of an example, its identifier, and where it stands."""
  for examples in split.sets:
    if index < len(examples.inputs):
      puzzle = int(
        np.searchsorted(examples.puzzle_indices, index, side="right") - 1
      )
      group = int(
        np.searchsorted(examples.group_indices, puzzle, side="right") - 1
      )
      return (
        np.asarray(examples.inputs[index]),
        np.asarray(examples.labels[index]),
        int(examples.puzzle_identifiers[puzzle]),
        f"set {examples.name}, puzzle {puzzle}, group {group}",
      )
    index -= len(examples.inputs)
  raise AssertionError("the index was checked")


def _names(root: pathlib.Path) -> list[str]:
  path = root / "identifiers.json"
  try:
    names = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise InputError(f"{path}: expected a JSON list ({error}).") from None
  if not isinstance(names, list):
    raise InputError(f"{path}: expected a JSON list, got {names!r:.40}.")
  return [str(name) for name in names]


def _shape(build: dict, seq_len: int) -> tuple[int, int]:
  """Rows and columns: of build.json, else square, else one row."""
  rows, columns = build.get("rows"), build.get("columns")
  if (
    isinstance(rows, int)
    and isinstance(columns, int)
    and rows > 0
    and rows * columns == seq_len
  ):
    return rows, columns
  side = round(seq_len**0.5)
  return (side, side) if side * side == seq_len else (1, seq_len)


def main() -> None:
  """Reads the flags and prints puzzles."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.show",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "path",
    type=console.path,
    metavar="DIR",
    help="directory of the data set",
  )
  add(
    "--index",
    type=int,
    default=0,
    help="the first example to print, from 0 (default: 0)",
  )
  add("--count", type=int, default=1, help="how many (default: 1)")
  add(
    "--split",
    choices=("train", "test"),
    default="test",
    help="which part (default: %(default)s)",
  )
  flags = parser.parse_args()
  lines = show(
    flags.path,
    split=flags.split,
    index=flags.index,
    count=flags.count,
    colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
    columns=shutil.get_terminal_size().columns,
  )
  # A file or a pipe may not be UTF-8; a name should not end the command.
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")
  print("\n".join(lines))


if __name__ == "__main__":
  console.run(main)

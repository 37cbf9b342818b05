"""Prints puzzles of a data set on the terminal, in colour.

example:
  python -m data_tools.show data/sudoku-1k --index 3

Question and answer stand side by side where the terminal is wide enough. The
text is plain where stdout is not a terminal, or NO_COLOR is set.
"""

import argparse
import json
import os
import pathlib
import shutil

import numpy as np

from hrm_jax import console
from hrm_jax.console import InputError, Pen
from hrm_jax.console.pen import BOLD, colour_on_stdout, escape_on_stdout
from hrm_jax.data import puzzle_kind
from hrm_jax.data.drawing import Drawing, draw
from hrm_jax.data.split import Split, open_split

_GAP = 4


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
  board = puzzle_kind.board_of(kind, build, opened.metadata)
  names = _names(root)
  pen = Pen(colour)
  lines = []
  for i in range(index, min(index + count, total)):
    inputs, labels, identifier, where = _example(opened, i)
    name = names[identifier] if identifier < len(names) else "?"
    title = f"{split} {i}: {where}, identifier {identifier} {name}"
    lines.append(pen(console.printable(title), BOLD))
    question, answer = (
      draw(board, tokens, inputs, pen) for tokens in (inputs, labels)
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
    colour=colour_on_stdout(),
    columns=shutil.get_terminal_size().columns,
  )
  escape_on_stdout()
  print("\n".join(lines))


if __name__ == "__main__":
  console.run(main)

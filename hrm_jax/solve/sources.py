"""Where the puzzles come from that `solve` is asked, and how they are read."""

import argparse
import pathlib
import sys

from hrm_jax.checkpoint.load import Trained
from hrm_jax.checkpoint.published import find_own_data
from hrm_jax.console import InputError
from hrm_jax.data import puzzle_kind, question
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Line, Question, Source


def text_of(args: argparse.Namespace, trained: Trained) -> PuzzleText:
  """How the puzzles that a checkpoint solves are read and drawn.

  Raises:
    InputError: only its data set says it, and that is not there.
  """
  recorded = trained.run.get("puzzle")
  kind = puzzle_kind.kind_of_checkpoint(trained.metadata, recorded)
  build = {}
  if kind == puzzle_kind.GRID:  # Nothing else says rows, columns, characters.
    build = puzzle_kind.read_build(find_own_data(args, trained))
  board = puzzle_kind.board_of(kind, build, trained.metadata)
  return PuzzleText(trained.metadata, board)


def read(args: argparse.Namespace, text: PuzzleText) -> list[Question]:
  """Reads the puzzles from arguments and file, or from stdin.

  Args:
    args: the command line.
    text: how the kind of puzzle that the checkpoint solves is read.

  Raises:
    InputError: no puzzle, or one that is not a puzzle of this kind and size.
  """
  sources = []
  if args.puzzles:
    if text.kind == puzzle_kind.ARC:
      raise InputError(
        f"puzzle 1: expected {text.forms}, in a file: --file=FILE, got "
        f"{args.puzzles[0]!r:.60}."
      )
    lines = _lines_of_arguments(args.puzzles)
    sources.append(Source("the arguments", lines, "argument"))
  if args.file is not None:
    sources.append(_of_file(args.file))
  if not sources and not (sys.stdin is None or sys.stdin.isatty()):
    piped = _of_stdin()
    if piped.text.strip():
      sources.append(piped)
  questions = []
  for source in sources:
    found = text.read(source)
    if not found:
      raise InputError(
        f"{source.name}: expected puzzles, got none; read is {text.forms}."
      )
    questions += found
  if not questions:
    raise InputError(
      f"no puzzle given: expected {text.forms}; see the examples of --help."
    )
  return questions


def _lines_of_arguments(puzzles: list[str]) -> list[Line]:
  """The rows of one grid may come as several arguments."""
  lines = []
  for i, puzzle in enumerate(puzzles, 1):
    if not puzzle:
      raise InputError(f"puzzle {i}: expected cells, got an empty argument.")
    lines += [(f"puzzle {i}", line) for line in puzzle.splitlines()]
  return lines


def _of_file(path: pathlib.Path) -> Source:
  try:
    data = path.read_bytes()
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  name = str(path)
  text = question.decoded(data, name)
  return Source(name, question.numbered(name, text), path.stem)


def _of_stdin() -> Source:
  binary = getattr(sys.stdin, "buffer", None)
  if binary is None:
    text = sys.stdin.read()
  else:
    text = question.decoded(binary.read(), "stdin")
  return Source("stdin", question.numbered("stdin", text), "stdin")

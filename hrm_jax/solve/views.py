"""Views: the same puzzle seen through symmetries, and answers seen back.

A network that has not learned a symmetry perfectly errs differently on the
images of a puzzle. Undone, its answers to them are answers to the puzzle
itself, and can vote (`voting`). View 0 is always the puzzle as it is.

Sudoku: permuted digits, bands, rows, stacks and columns, transposed where
boxes are square, as its augmentation in training. Mazes: the 8 turns and
mirror images of the square. ARC, as its authors vote: colours permuted, black
fixed, and the grid turned or mirrored, under the identifiers of the variants of
the task that the network was trained on, where there are.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import arc, puzzle_kind, sudoku, symmetry

# Draws in a row that may repeat a view before there are taken to be no more.
_TRIES = 1000
_NO_COLOURS_CHANGED = tuple(range(arc.COLORS))


class Views(Protocol):
  """K ways to look at any puzzle of a kind."""

  count: int

  def look(
    self, view: int, inputs: np.ndarray, identifiers: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Shows puzzles through one view.

    Args:
      view: which, from 0; 0 changes nothing.
      inputs: [n, G] token ids.
      identifiers: [n], rows of the puzzle table.

    Returns:
      What the network is asked: inputs [n, G] and identifiers [n].
    """
    ...

  def undo(
    self,
    view: int,
    answers: np.ndarray,
    inputs: np.ndarray,
    identifiers: np.ndarray,
  ) -> np.ndarray:
    """Takes answers through a view back to answers to the puzzles.

    Args:
      view: which.
      answers: [n, G] token ids below the vocabulary's size.
      inputs: [n, G] the puzzles, as `look` got them.
      identifiers: [n], likewise.

    Returns:
      [n, G] token ids.
    """
    ...

  def ballots(self, answers: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """What two [n, G] answers must have in common to be one: [n, G]."""
    ...


class Identity:
  """The puzzle as it is, and no other view."""

  count = 1

  def look(self, view, inputs, identifiers):
    """See `Views`."""
    del view
    return inputs, identifiers

  def undo(self, view, answers, inputs, identifiers):
    """See `Views`."""
    del view, inputs, identifiers
    return answers

  def ballots(self, answers, inputs):
    """See `Views`."""
    del inputs
    return answers


class BoardViews:
  """Symmetries of a board: each moves all cells and renames all tokens.

  Attributes:
    symmetries: K of them, the identity first.
    count: K.
  """

  def __init__(self, symmetries: symmetry.Symmetries):
    self.symmetries, self.count = symmetries, len(symmetries.cells)
    # Both are permutations, whose inverses argsort is.
    self._back = symmetry.Symmetries(*(part.argsort(1) for part in symmetries))

  def look(self, view, inputs, identifiers):
    """See `Views`."""
    cells, tokens = (part[view] for part in self.symmetries)
    return tokens[inputs[:, cells]], identifiers

  def undo(self, view, answers, inputs, identifiers):
    """See `Views`."""
    del inputs, identifiers
    cells, tokens = (part[view] for part in self._back)
    return tokens[answers[:, cells]]

  def ballots(self, answers, inputs):
    """See `Views`."""
    del inputs
    return answers


class _Pose(NamedTuple):
  """How an ARC puzzle is shown: its grid is freed of one augmentation, then
  given another, under the identifier of that one."""

  freed_of: arc.Augmentation
  given: arc.Augmentation
  identifier: int


class ArcViews:
  """Variants of ARC tasks.

  View k of a puzzle is the k-th other variant of its task in the order of the
  puzzle table. Where there is none, it is a drawn one, under the puzzle's own
  identifier.

  Args:
    count: K.
    names: of the rows of the puzzle table; empty where they are not known.
    seed: of the augmentations that are drawn.

  Attributes:
    count: K.
  """

  def __init__(self, count: int, names: Sequence[str], seed: int):
    self.count = count
    self._variants = [arc.parse_identifier(name) for name in names]
    self._of_task = collections.defaultdict(list)
    for number, variant in enumerate(self._variants):
      self._of_task[variant.name].append(number)
    self._drawn = [_draw_augmentation(seed, view) for view in range(count)]

  def look(self, view, inputs, identifiers):
    """See `Views`; a grid that is turned stands at the board's corner."""
    if view == 0:
      return inputs, identifiers
    poses = [self._pose(view, int(number)) for number in identifiers]
    shown = np.empty_like(inputs)
    for i, (board, pose) in enumerate(zip(inputs, poses, strict=True)):
      grid = arc.from_tokens(_at_corner(board, _corner(board)))
      shown[i] = arc.to_tokens(
        arc.augment(arc.undo(grid, pose.freed_of), pose.given)
      )
    return shown, np.array([pose.identifier for pose in poses])

  def undo(self, view, answers, inputs, identifiers):
    """See `Views`; the grid stands where the puzzle's own does."""
    if view == 0:
      return answers
    own = np.empty_like(answers)
    for i, board in enumerate(answers):
      pose = self._pose(view, int(identifiers[i]))
      grid = arc.undo(arc.from_tokens(board), pose.given)
      own[i] = _placed(arc.augment(grid, pose.freed_of), _corner(inputs[i]))
    return own

  def ballots(self, answers, inputs):
    """See `Views`: the grid, whatever stands around it, is the answer."""
    boards = np.empty_like(answers)
    for i, board in enumerate(answers):
      grid = arc.from_tokens(_at_corner(board, _corner(inputs[i])))
      boards[i] = arc.to_tokens(grid)
    return boards

  def _pose(self, view: int, number: int) -> _Pose:
    own = arc.Augmentation("", 0, _NO_COLOURS_CHANGED)
    if number < len(self._variants):
      known = self._variants[number]
      others = [n for n in self._of_task[known.name] if n != number]
      if view <= len(others):
        other = others[view - 1]
        return _Pose(known, self._variants[other], other)
    return _Pose(own, self._drawn[view], number)


def make(
  kind: str,
  count: int,
  seq_len: int,
  *,
  seed: int,
  names: Sequence[str] = (),
) -> Views:
  """Makes K views of puzzles of a kind; the first k of them do not depend on K.

  Args:
    kind: one of `puzzle_kind.KINDS`.
    count: K.
    seq_len: G.
    seed: of the views that are drawn.
    names: of the rows of the puzzle table, for ARC.

  Raises:
    InputError: there are not so many views of this kind.
  """
  if count == 1:
    return Identity()
  if kind == puzzle_kind.SUDOKU:
    return BoardViews(_sudoku_symmetries(count, seq_len, seed))
  if kind == puzzle_kind.MAZE:
    if count > symmetry.DIHEDRAL:
      raise InputError(
        f"--votes: expected at most {symmetry.DIHEDRAL}, as a maze has no more "
        f"turns and mirror images, got {count}."
      )
    parts = (part[:count] for part in symmetry.of_mazes(seq_len))
    return BoardViews(symmetry.Symmetries(*parts))
  if kind == puzzle_kind.ARC:
    return ArcViews(count, names, seed)
  raise InputError(
    f"--votes: expected 1 for puzzles of the kind {kind}, whose symmetries are "
    f"not known, got {count}."
  )


def _sudoku_symmetries(
  count: int, seq_len: int, seed: int
) -> symmetry.Symmetries:
  side = sudoku.side_of(seq_len)
  identity = symmetry.Symmetries(
    np.arange(seq_len)[None], np.arange(sudoku.vocab_size(side))[None]
  )
  rng = np.random.default_rng(seed)
  found = {_name(identity): identity}
  tries = 0
  while len(found) < count and tries < _TRIES:
    # One at a time: a larger K draws the same ones, and then more.
    drawn = symmetry.draw_sudoku(rng, 1, side)
    before = len(found)
    found.setdefault(_name(drawn), drawn)
    tries = 0 if len(found) > before else tries + 1
  if len(found) < count:
    raise InputError(
      f"--votes: expected fewer views of a board of side {side}, found "
      f"{len(found):,}, got {count:,}."
    )
  parts = zip(*found.values(), strict=True)
  return symmetry.Symmetries(*map(np.concatenate, parts))


def _name(symmetries: symmetry.Symmetries) -> bytes:
  return b"".join(part.astype(np.int64).tobytes() for part in symmetries)


def _draw_augmentation(seed: int, view: int) -> arc.Augmentation:
  rng = np.random.default_rng((seed, view))
  transform = int(rng.integers(symmetry.DIHEDRAL))
  colours = 1 + rng.permutation(arc.COLORS - 1)
  return arc.Augmentation("", transform, (0, *colours.tolist()))


def _corner(board: np.ndarray) -> tuple[int, int]:
  """Row and column of the first cell of a [900] board's grid.

  Training examples stand anywhere on the board, test examples at (0, 0).
  """
  coloured = board.reshape(arc.SIDE, arc.SIDE) >= arc.FIRST_COLOR_ID
  if not coloured.any():
    return 0, 0
  return int(coloured.any(1).argmax()), int(coloured.any(0).argmax())


def _at_corner(board: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
  """The [900] board with what stands at `corner` moved to (0, 0)."""
  row, column = corner
  moved = np.full((arc.SIDE, arc.SIDE), arc.PAD_ID, board.dtype)
  rest = board.reshape(arc.SIDE, arc.SIDE)[row:, column:]
  moved[: len(rest), : rest.shape[1]] = rest
  return moved.ravel()


def _placed(grid: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
  """A grid on a [900] board; at (0, 0) where `corner` leaves it no room."""
  row, column = corner
  fits = max(row + grid.shape[0], column + grid.shape[1]) <= arc.SIDE
  return arc.to_tokens(grid, *(corner if fits else (0, 0)))

"""Variants of an ARC task, and their boards, many at a time.

A variant's contents are compared without making them: a grid's hash is a sum
over its cells of a random number for (place, colour), so that ten numbers per
grid and transform, summed once, give the hash under any colour permutation.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hrm_jax.data import arc
from hrm_jax.data.arc_task import Pair
from hrm_jax.data.mixing import mix

# Tries per wanted variant; a task of few colours has few variants.
_TRIES = 5
# One random number for each place and colour, the same in every build.
_NUMBERS = np.random.default_rng(0).integers(
  2**64, size=(arc.CELLS, arc.COLORS), dtype=np.uint64
)


class Variants(NamedTuple):
  """V variants of a task, the first being the task itself."""

  transforms: np.ndarray  # [V] int64 in 0..7
  permutations: np.ndarray  # [V, 10] uint8, the new colour of each old one

  def identifiers(self, name: str) -> list[str]:
    """The names of the variants; that of the first has no suffix."""
    pairs = zip(
      self.transforms[1:].tolist(), self.permutations[1:].tolist(), strict=True
    )
    return [name, *(arc.identifier(name, k, p) for k, p in pairs)]


def draw(name: str, pairs: Sequence[Pair], num_aug: int, seed: int) -> Variants:
  """Draws up to `num_aug` variants that differ from each other in content.

  The draw follows from seed, name and content alone: a task that stands in
  two collections gets the same variants, and so the same identifiers.

  Args:
    name: of the task.
    pairs: all its examples; unknown outputs are left out of the comparison.
    num_aug: variants wanted beside the task itself.
    seed: of the build.
  """
  word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
  rng = np.random.default_rng([seed, word])
  transforms = np.zeros(1, np.int64)
  permutations = np.arange(arc.COLORS, dtype=np.uint8)[None]
  tables = [tuple(_hash_table(grid) for grid in pair) for pair in pairs]
  hashes = _hashes(tables, transforms, permutations)
  for _ in range(_TRIES):
    if len(transforms) > num_aug:
      break
    k = rng.integers(8, size=num_aug)
    p = np.zeros((num_aug, arc.COLORS), np.uint8)
    p[:, 1:] = 1 + rng.random((num_aug, arc.COLORS - 1)).argsort(
      axis=1, kind="stable"
    )
    transforms = np.concatenate([transforms, k])
    permutations = np.concatenate([permutations, p])
    hashes = np.concatenate([hashes, _hashes(tables, k, p)])
    first = np.sort(np.unique(hashes, return_index=True)[1])[: num_aug + 1]
    hashes = hashes[first]
    transforms, permutations = transforms[first], permutations[first]
  return Variants(transforms, permutations)


def boards(
  variants: Variants,
  pairs: Sequence[Pair],
  offsets: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Paints every example of every variant.

  Args:
    variants: V of them.
    pairs: E examples of the task.
    offsets: [V, E, 2] row and column of the first cell; None: the corner.

  Returns:
    Inputs and labels, [V * E, 900] uint8 each, examples of a variant together;
    a label whose output is unknown is PAD, so ignored, throughout.
  """
  shape = len(variants.transforms), len(pairs), arc.CELLS
  starts = np.arange(shape[0] * shape[1]).reshape(shape[:2]) * arc.CELLS
  if offsets is None:
    offsets = np.zeros((*shape[:2], 2), np.int64)
  # The cell beyond the end takes what falls off a board.
  flats = [np.zeros(starts.size * arc.CELLS + 1, np.uint8) for _ in range(2)]
  for e, pair in enumerate(pairs):
    for grid, flat in zip(pair, flats, strict=True):
      if grid is not None:
        _paint(flat, variants, grid, starts[:, e], offsets[:, e])
  inputs, labels = (flat[:-1].reshape(-1, arc.CELLS) for flat in flats)
  return inputs, labels


def draw_offsets(
  rng: np.random.Generator, variants: Variants, pairs: Sequence[Pair]
) -> np.ndarray:
  """Draws a place for each example where input and output both fit.

  In each variant one example, which is drawn too, stays in the corner.

  Returns:
    [V, E, 2] int64 rows and columns.
  """
  count = len(variants.transforms)
  shapes = [[grid.shape for grid in pair if grid is not None] for pair in pairs]
  size = np.array([np.max(both, axis=0) for both in shapes])
  room = np.repeat((arc.SIDE + 1 - size)[None], count, axis=0)
  turned = np.isin(variants.transforms, (1, 3, 6, 7))
  room[turned] = room[turned][:, :, ::-1]
  offsets = rng.integers(room)
  offsets[np.arange(count), rng.integers(len(pairs), size=count)] = 0
  return offsets


@functools.cache
def _places(height: int, width: int) -> np.ndarray:
  """[8, h * w] int64: where on the board each transform puts each cell."""
  cells = np.arange(height * width).reshape(height, width)
  board = np.arange(arc.CELLS).reshape(arc.SIDE, arc.SIDE)
  places = np.empty((8, height * width), np.int64)
  for k in range(8):
    moved = arc.dihedral(cells, k)
    places[k, moved] = board[: moved.shape[0], : moved.shape[1]]
  return places


def _paint(
  flat: np.ndarray,
  variants: Variants,
  grid: np.ndarray,
  starts: np.ndarray,
  offsets: np.ndarray,
) -> None:
  """Writes one grid of V variants, with its EOS lines, into flat boards."""
  height, width = grid.shape
  transforms, permutations = variants
  corner = starts + offsets[:, 0] * arc.SIDE + offsets[:, 1]
  places = _places(height, width)[transforms] + corner[:, None]
  ids = permutations + np.uint8(arc.FIRST_COLOR_ID)
  flat[places] = ids.take(grid.ravel(), axis=1)
  turned = np.isin(transforms, (1, 3, 6, 7))
  rows = np.where(turned, width, height)
  columns = np.where(turned, height, width)
  step = np.arange(max(height, width))
  row_fits = (offsets[:, 0] + rows < arc.SIDE)[:, None]
  column_fits = (offsets[:, 1] + columns < arc.SIDE)[:, None]
  below = (corner + rows * arc.SIDE)[:, None] + step
  right = (corner + columns)[:, None] + step * arc.SIDE
  below = np.where(row_fits & (step < columns[:, None]), below, -1)
  right = np.where(column_fits & (step < rows[:, None]), right, -1)
  flat[below] = arc.EOS_ID
  flat[right] = arc.EOS_ID


def _hash_table(grid: np.ndarray | None) -> np.ndarray | None:
  """[8, 10, 10] uint64: what old colour a adds when it becomes colour b."""
  if grid is None:
    return None
  colors, places = grid.ravel(), _places(*grid.shape)
  order = np.argsort(colors, kind="stable")
  present, first = np.unique(colors[order], return_index=True)
  table = np.zeros((8, arc.COLORS, arc.COLORS), np.uint64)
  numbers = _NUMBERS[places[:, order]]
  table[:, present] = np.add.reduceat(numbers, first, axis=1)
  return table


def _hashes(
  tables: Sequence[tuple], transforms: np.ndarray, permutations: np.ndarray
) -> np.ndarray:
  """[V] uint64 hashes of the variants' examples, whatever their order."""
  total = np.zeros(len(transforms), np.uint64)
  old = np.arange(arc.COLORS)
  for pair in tables:
    value = np.zeros(len(transforms), np.uint64)
    for table in pair:
      value = mix(value)
      if table is not None:
        value += table[transforms[:, None], old, permutations].sum(1)
    total += mix(value)
  return total

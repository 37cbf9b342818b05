"""Opens a split of a data set, and checks its files against each other.

Inputs and labels are memory-mapped: opening reads only the small index
arrays, however large the set is.
"""

import dataclasses
import hashlib
import pathlib

import numpy as np

from hrm_jax.console import InputError
from hrm_jax.data import puzzle
from hrm_jax.data.number_file import open_numbers


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSet:
  """One set of a split; the fields of `puzzle`, checked against each other.

  Attributes:
    name: as in the metadata.
    inputs: [examples, G] integers as on disk, memory-mapped.
    labels: like `inputs`.
    puzzle_identifiers: [puzzles] int64.
    puzzle_indices: [puzzles + 1] int64, increasing, from 0 to examples.
    group_indices: [groups + 1] int64, increasing, from 0 to puzzles.
  """

  name: str
  inputs: np.ndarray
  labels: np.ndarray
  puzzle_identifiers: np.ndarray
  puzzle_indices: np.ndarray
  group_indices: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """An opened split: `path` (its directory), `metadata` and `sets`."""

  path: pathlib.Path
  metadata: puzzle.DatasetMetadata
  sets: tuple[ExampleSet, ...]


def open_split(root: str | pathlib.Path, split: str) -> Split:
  """Opens `<root>/<split>` without reading its inputs and labels.

  Raises:
    InputError: a file is missing, damaged or at odds with the others. Token
      ids are checked later, in each batch as it is read.
  """
  metadata = puzzle.read_metadata(root, split)
  path = puzzle.metadata_path(root, split)
  if not metadata.sets:
    raise InputError(f"{path}: key 'sets': expected a name, got none.")
  sets = tuple(_open_set(root, split, name, metadata) for name in metadata.sets)
  groups = sum(len(s.group_indices) - 1 for s in sets)
  if groups != metadata.total_groups:
    raise InputError(
      f"{path}: key 'total_groups': expected {groups}, the groups in the "
      f"sets' files, got {metadata.total_groups}."
    )
  return Split(path.parent, metadata, sets)


def digest(split: Split, rows: int = 256) -> str:
  """Names the content of a split, whatever its directory and integer types.

  It takes `rows` rows of inputs and labels, spread evenly: so gigabytes are
  told from others in milliseconds, but a single changed cell may not be.
  """
  sha = hashlib.sha256()
  for example_set in split.sets:
    for field in puzzle.FIELDS:
      array = getattr(example_set, field)
      sha.update(f"{example_set.name} {field} {array.shape}".encode())
      if array.ndim > 1:
        some = min(rows, len(array))
        array = array[np.linspace(0, len(array) - 1, some, dtype=np.int64)]
      sha.update(array.astype("<i8").tobytes())
  return sha.hexdigest()[:16]


# What the splits of a data set have in common: one network reads them all.
SHARED_KEYS = (
  "pad_id",
  "ignore_label_id",
  "blank_identifier_id",
  "vocab_size",
  "seq_len",
  "num_puzzle_identifiers",
)


def check_splits_agree(first: Split, second: Split) -> None:
  """Checks that one network can read both splits.

  Raises:
    InputError: they differ in one of SHARED_KEYS; names both files.
  """
  for key in SHARED_KEYS:
    expected, got = (getattr(s.metadata, key) for s in (first, second))
    if expected != got:
      raise InputError(
        f"{second.path / 'dataset.json'}: key '{key}': expected {expected} as "
        f"in {first.path / 'dataset.json'}, got {got}."
      )


def _open_set(
  root: str | pathlib.Path,
  split: str,
  name: str,
  metadata: puzzle.DatasetMetadata,
) -> ExampleSet:
  path = {f: puzzle.field_path(root, split, name, f) for f in puzzle.FIELDS}
  array = {f: _map_integers(path[f]) for f in puzzle.FIELDS}

  metadata_path = puzzle.metadata_path(root, split)

  def expect_shape(
    field: str, expected: tuple[int, ...], because: str = ""
  ) -> None:
    if array[field].shape != expected:
      raise InputError(
        f"{path[field]}: expected shape {expected}{because}, got "
        f"{array[field].shape}."
      )

  examples = len(array["inputs"])
  cells = (examples, metadata.seq_len)
  expect_shape("inputs", cells, f" by key 'seq_len' of {metadata_path}")
  expect_shape("labels", cells, f" as {path['inputs']}")
  puzzles = array["puzzle_identifiers"].size
  expect_shape("puzzle_identifiers", (puzzles,))

  small = {f: array[f].astype(np.int64) for f in puzzle.FIELDS[2:]}
  one_more = f", one more than {path['puzzle_identifiers']} has"
  expect_shape("puzzle_indices", (puzzles + 1,), one_more)
  expect_shape("group_indices", (array["group_indices"].size,))
  for field, stop, of in (
    ("puzzle_indices", examples, f"the examples of {path['inputs']}"),
    ("group_indices", puzzles, f"the puzzles of {path['puzzle_identifiers']}"),
  ):
    _check_boundaries(path[field], small[field], stop, of)
  ids, rows = small["puzzle_identifiers"], metadata.num_puzzle_identifiers
  bad = np.flatnonzero((ids < 0) | (ids >= rows))
  if bad.size:
    raise InputError(
      f"{path['puzzle_identifiers']}: row {bad[0]}: expected an identifier in "
      f"0..{rows - 1} by key 'num_puzzle_identifiers' of {metadata_path}, got "
      f"{ids[bad[0]]}."
    )
  return ExampleSet(name, array["inputs"], array["labels"], **small)


def _map_integers(path: pathlib.Path) -> np.ndarray:
  """Memory-maps a .npy file of integers: one dimension at least, not empty."""
  mapped = open_numbers(
    path, missing="no such file, but its dataset.json names the set"
  )
  if not np.issubdtype(mapped.dtype, np.integer):
    raise InputError(f"{path}: expected integers, got dtype {mapped.dtype}.")
  if mapped.size == 0 or mapped.ndim == 0:
    raise InputError(
      f"{path}: expected a list of something, got shape {mapped.shape}."
    )
  size, expected = path.stat().st_size, mapped.offset + mapped.nbytes
  if size != expected:
    raise InputError(f"{path}: expected {expected} bytes, got {size}.")
  # A plain array over the same map: indexing np.memmap costs more.
  return np.asarray(mapped)


def _check_boundaries(
  path: pathlib.Path, indices: np.ndarray, stop: int, of: str
) -> None:
  if indices[0] != 0 or indices[-1] != stop:
    raise InputError(
      f"{path}: expected boundaries from 0 to {stop}, {of}, got {indices[0]} "
      f"to {indices[-1]}."
    )
  wrong = np.flatnonzero(np.diff(indices) <= 0)
  if wrong.size:
    i = wrong[0]
    raise InputError(
      f"{path}: expected increasing boundaries, got {indices[i]} then "
      f"{indices[i + 1]} at entry {i + 1}."
    )

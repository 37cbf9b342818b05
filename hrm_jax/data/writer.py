"""Writes a data set directory, all of it or nothing.

Everything goes to a hidden directory next to the wanted one, which takes its
name once the last byte is written. What a killed build left there is removed by
the next one of that name (`building`). Examples stream to disk, so memory stays
flat however many there are. The same calls write the same bytes.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hrm_jax.console import InputError, log
from hrm_jax.data import puzzle, ratings
from hrm_jax.data.building import Building, remove_leftovers
from hrm_jax.data.provenance import source_commit

SPLITS = ("train", "test")
SET_NAME = "all"
PAD_ID = 0
IGNORE_LABEL_ID = 0
BLANK_IDENTIFIER_ID = 0

# Files of which one at least stands in every data set.
_MARKS = ("build.json", "identifiers.json", "train/dataset.json")


class DatasetWriter:
  """A data set that is being written; use it as a context manager.

  Call `add_examples` and `add_puzzles` as often as needed, in the order of
  the examples, then `finish`. Leaving the block without `finish`, by an error
  or an interruption, removes what was written.
  """

  def __init__(
    self,
    output_dir: str | os.PathLike,
    *,
    seq_len: int,
    vocab_size: int,
    overwrite: bool = False,
  ):
    """Checks that `output_dir` may be written; writes nothing yet.

    Raises:
      InputError: it exists and `overwrite` is not set, or it holds something
        that is not a data set, which is never replaced.
    """
    self._given = output_dir
    self._final = pathlib.Path(os.path.realpath(output_dir))
    self._overwrite = overwrite
    self._seq_len, self._vocab_size = seq_len, vocab_size
    self._building: Building | None = None
    self._splits: dict[str, _Split] = {}
    self._check_may_write()

  def __enter__(self) -> "DatasetWriter":
    # Next to the nearest directory that exists: a failed build must not leave
    # the parents of its output behind, and a rename needs one file system.
    parent = self._final.parent
    while not parent.exists():
      parent = parent.parent
    try:
      with self._writing():
        remove_leftovers(self._final, parent)
        self._check_may_write()
        self._building = Building(parent, self._final.name)
        for split in SPLITS:
          path = self._building.path
          (path / split).mkdir()
          self._splits[split] = _Split(path, split, self._seq_len)
    except BaseException:
      self._discard()
      raise
    return self

  def __exit__(
    self, kind: Any, error: BaseException | None, trace: Any
  ) -> None:
    self._discard()

  @property
  def counts(self) -> dict[str, dict[str, int]]:
    """Groups, puzzles and examples of each split, so far."""
    return {name: split.counts() for name, split in self._splits.items()}

  def add_examples(
    self, split: str, inputs: np.ndarray, labels: np.ndarray
  ) -> None:
    """Appends examples.

    Args:
      split: one of SPLITS.
      inputs: [E, seq_len] uint8 token ids below vocab_size.
      labels: [E, seq_len] uint8, IGNORE_LABEL_ID where nothing is asked.
    """
    assert inputs.shape == labels.shape, (inputs.shape, labels.shape)
    with self._writing():
      self._splits[split].inputs.append(inputs)
      self._splits[split].labels.append(labels)

  def add_puzzles(
    self,
    split: str,
    *,
    identifiers: np.ndarray,
    examples_per_puzzle: np.ndarray,
    puzzles_per_group: np.ndarray,
  ) -> None:
    """Appends puzzles, and groups of them.

    Args:
      split: one of SPLITS.
      identifiers: [P] puzzle identifiers.
      examples_per_puzzle: [P] numbers of examples, in the order they are added.
      puzzles_per_group: [groups], of sum P.
    """
    assert len(identifiers) == len(examples_per_puzzle)
    assert np.sum(puzzles_per_group) == len(identifiers)
    chunks = self._splits[split].chunks
    chunks["puzzle_identifiers"].append(np.asarray(identifiers, np.int32))
    chunks["puzzle_indices"].append(np.asarray(examples_per_puzzle, np.int64))
    chunks["group_indices"].append(np.asarray(puzzles_per_group, np.int64))

  def add_ratings(self, split: str, values: np.ndarray) -> None:
    """Appends how hard examples are, see `ratings`; of a split all or none.

    Args:
      split: one of SPLITS.
      values: [E] float64, finite, in the order of the examples.
    """
    self._splits[split].ratings.append(values)

  def finish(
    self,
    *,
    identifiers: Sequence[str],
    build: dict[str, Any],
    beside: Mapping[str, Any] | None = None,
  ) -> dict[str, Any]:
    """Writes the metadata and gives the directory its name.

    Args:
      identifiers: the name of each puzzle identifier, the blank one first.
      build: what the set is and was made from, for `build.json`: builder,
        seed, source, arguments. No times and no paths of this machine, so
        that the same build writes the same bytes; commit and counts are added.
      beside: more JSON files for the root of the set, by name.

    Returns:
      The contents of `build.json`.

    Raises:
      InputError: it cannot be written.
    """
    assert self._building is not None, "finish is called within the block"
    build = {**build, "commit": source_commit(), "counts": self.counts}
    with self._writing():
      self._write_metadata(identifiers, build, beside or {})
      self._check_may_write()
      self._take_name(self._building)
    return build

  def _write_metadata(
    self,
    identifiers: Sequence[str],
    build: dict[str, Any],
    beside: Mapping[str, Any],
  ) -> None:
    assert self._building is not None
    root = self._building.path
    for name, split in self._splits.items():
      split.close(
        puzzle.DatasetMetadata(
          pad_id=PAD_ID,
          ignore_label_id=IGNORE_LABEL_ID,
          blank_identifier_id=BLANK_IDENTIFIER_ID,
          vocab_size=self._vocab_size,
          seq_len=self._seq_len,
          num_puzzle_identifiers=len(identifiers),
          total_groups=split.counts()["groups"],
          mean_puzzle_examples=split.mean_puzzle_examples(),
          sets=(SET_NAME,),
          total_puzzles=split.counts()["puzzles"],
        ),
        puzzle.metadata_path(root, name),
      )
    _write_json(root / "identifiers.json", list(identifiers))
    _write_json(root / "build.json", build)
    for name, value in beside.items():
      # On one line: an indent would give every cell of a grid its own.
      (root / name).write_text(json.dumps(value) + "\n")

  def _take_name(self, building: Building) -> None:
    """Puts the finished set in its place, and removes one that stood there."""
    self._final.parent.mkdir(parents=True, exist_ok=True)
    replaced = None
    if self._final.exists():
      replaced = building.replaced
      self._final.rename(replaced)
    try:
      building.path.rename(self._final)
    except BaseException:
      if replaced is not None:
        replaced.rename(self._final)
      raise
    if replaced is not None:
      try:
        shutil.rmtree(replaced)
      except OSError as error:  # Another user's files; the new set stands.
        log.warning(
          f"warning: {self._given}: the data set that this one replaces cannot "
          f"be removed ({error.strerror}); it lies in {replaced}"
        )

  def _check_may_write(self) -> None:
    if not self._final.exists():
      return
    if not self._final.is_dir():
      raise InputError(f"{self._given}: exists and is not a directory.")
    if not any(self._final.iterdir()):
      return
    if not any((self._final / mark).exists() for mark in _MARKS):
      raise InputError(
        f"{self._given}: holds files but no data set, so it is not replaced; "
        "choose another --output-dir."
      )
    if not self._overwrite:
      raise InputError(
        f"{self._given}: already exists; pass --overwrite to replace it."
      )

  @contextlib.contextmanager
  def _writing(self) -> Iterator[None]:
    """Tells errors of the system within as those of the output.

    Those of what the builder reads meanwhile are not: they name other files.
    """
    try:
      yield
    except OSError as error:
      raise InputError(f"{self._given}: cannot write: {error}.") from error

  def _discard(self) -> None:
    for split in self._splits.values():
      for file in (split.inputs, split.labels):
        with contextlib.suppress(OSError):  # a full disk, met before
          file.abandon()
    if self._building is not None:
      self._building.discard()


class _Split:
  """The arrays of one split: cells on disk, all else in memory."""

  def __init__(self, root: pathlib.Path, split: str, seq_len: int):
    self._root, self._split = root, split
    self.inputs = _RowFile(self._path("inputs"), seq_len)
    self.labels = _RowFile(self._path("labels"), seq_len)
    self.chunks = {field: [] for field in puzzle.FIELDS[2:]}
    self.ratings: list[np.ndarray] = []

  def counts(self) -> dict[str, int]:
    return {
      "groups": sum(map(len, self.chunks["group_indices"])),
      "puzzles": sum(map(len, self.chunks["puzzle_identifiers"])),
      "examples": self.inputs.rows,
    }

  def mean_puzzle_examples(self) -> float:
    counts = self.counts()
    return counts["examples"] / max(counts["puzzles"], 1)

  def close(self, metadata: puzzle.DatasetMetadata, path: pathlib.Path) -> None:
    self.inputs.close()
    self.labels.close()
    for field, chunks in self.chunks.items():
      values = np.concatenate([np.zeros(0, np.int64), *chunks])
      if field.endswith("_indices"):
        values = np.concatenate([[0], values.cumsum()])
      if field == "puzzle_indices":
        assert values[-1] == self.inputs.rows, (values[-1], self.inputs.rows)
      np.save(self._path(field), values.astype(np.int32))
    if self.ratings:
      rated = np.concatenate(self.ratings)
      assert len(rated) == self.inputs.rows, (len(rated), self.inputs.rows)
      np.save(self._path(ratings.FIELD), rated)
    _write_json(path, metadata.to_json())

  def _path(self, field: str) -> pathlib.Path:
    return puzzle.field_path(self._root, self._split, SET_NAME, field)


class _RowFile:
  """A .npy file of [rows, width] uint8 that grows.

  A memory map would count every page written as memory of the process.
  """

  def __init__(self, path: pathlib.Path, width: int):
    self.rows = 0
    self._width = width
    self._file = path.open("wb")
    self._write_header()

  def append(self, rows: np.ndarray) -> None:
    assert rows.shape[1:] == (self._width,), rows.shape
    assert rows.dtype == np.uint8, rows.dtype
    self._file.write(np.ascontiguousarray(rows).data)
    self.rows += len(rows)

  def close(self) -> None:
    # numpy leaves room in the header for the number of rows to grow.
    self._file.seek(0)
    self._write_header()
    self._file.close()

  def abandon(self) -> None:
    self._file.close()

  def _write_header(self) -> None:
    header = {
      "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
      "fortran_order": False,
      "shape": (self.rows, self._width),
    }
    np.lib.format.write_array_header_1_0(self._file, header)


def file_digest(path: str | os.PathLike) -> str:
  """Returns the SHA-256 of a file, to record what a set was made from.

  Raises:
    InputError: it cannot be read.
  """
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error.strerror}.") from None


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

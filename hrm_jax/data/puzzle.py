"""What a data set directory and a batch contain.

The contract between those who write such directories (`writer`, for the
builders of `data_tools`) and those who read them (`split`, for training and
evaluation). The format is the PyTorch reference's, so
either side reads what the other wrote:

  <root>/<split>/dataset.json
  <root>/<split>/<set>__inputs.npy              [examples, G] integers
  <root>/<split>/<set>__labels.npy              [examples, G] integers
  <root>/<split>/<set>__puzzle_identifiers.npy  [puzzles]
  <root>/<split>/<set>__puzzle_indices.npy      [puzzles + 1]
  <root>/<split>/<set>__group_indices.npy       [groups + 1]
  <root>/identifiers.json                       names of the identifiers

`puzzle_indices[i]` is the first example of puzzle i, `group_indices[j]` the
first puzzle of group j: one original puzzle with all its augmentations.
"""

import dataclasses
import json
import math
import pathlib
from typing import Any, TypedDict

import numpy as np

from hrm_jax.console import InputError

# Cells with this label count neither in the loss nor in the metrics.
IGNORE_LABEL_ID = -100

FIELDS = (
  "inputs",
  "labels",
  "puzzle_identifiers",
  "puzzle_indices",
  "group_indices",
)


# A NumPy array on the host, a jax.Array on devices.
Array = Any


class Batch(TypedDict):
  """B examples as the model sees them; all int32."""

  inputs: Array  # [B, G] token ids, pad_id in padding rows
  labels: Array  # [B, G] token ids, or IGNORE_LABEL_ID
  puzzle_identifiers: Array  # [B], the blank one in padding rows


@dataclasses.dataclass(frozen=True)
class DatasetMetadata:
  """The contents of `dataset.json`.

  Attributes:
    pad_id: token id of cells outside the puzzle.
    ignore_label_id: label that becomes IGNORE_LABEL_ID, or None.
    blank_identifier_id: puzzle identifier of padding rows.
    vocab_size: V; every token id is below it.
    seq_len: G, cells per example.
    num_puzzle_identifiers: rows of the puzzle embedding table.
    total_groups: groups over all sets of this split.
    mean_puzzle_examples: examples per puzzle, on average.
    sets: names of the sets in this split.
    total_puzzles: puzzles over all sets; None in sets that lack the key.
  """

  pad_id: int
  ignore_label_id: int | None
  blank_identifier_id: int
  vocab_size: int
  seq_len: int
  num_puzzle_identifiers: int
  total_groups: int
  mean_puzzle_examples: float
  sets: tuple[str, ...]
  total_puzzles: int | None = None

  def to_json(self) -> dict:
    """Returns the JSON object that `metadata_from_json` reads."""
    return {**dataclasses.asdict(self), "sets": list(self.sets)}


def pad_batch(batch: Batch, size: int, metadata: DatasetMetadata) -> Batch:
  """Appends rows that count nowhere, up to `size` rows."""

  def pad(rows: np.ndarray, fill: int) -> np.ndarray:
    padded = np.full((size, *rows.shape[1:]), fill, np.int32)
    padded[: len(rows)] = rows
    return padded

  return Batch(
    inputs=pad(batch["inputs"], metadata.pad_id),
    labels=pad(batch["labels"], IGNORE_LABEL_ID),
    puzzle_identifiers=pad(
      batch["puzzle_identifiers"], metadata.blank_identifier_id
    ),
  )


def metadata_path(root: str | pathlib.Path, split: str) -> pathlib.Path:
  """Where the metadata of a split lies."""
  return pathlib.Path(root) / split / "dataset.json"


def field_path(
  root: str | pathlib.Path, split: str, set_name: str, field: str
) -> pathlib.Path:
  """Where one of `FIELDS` of one set lies."""
  return pathlib.Path(root) / split / f"{set_name}__{field}.npy"


def metadata_from_json(value: dict, source: str) -> DatasetMetadata:
  """Checks and converts a parsed `dataset.json`.

  Args:
    value: the parsed object; unknown keys are ignored.
    source: name of the file, for the error message.

  Raises:
    InputError: a key is missing or has the wrong type.
  """
  if not isinstance(value, dict):
    raise InputError(f"{source}: expected a JSON object, got {value!r:.40}.")
  known: dict[str, Any] = {}
  for field in dataclasses.fields(DatasetMetadata):
    optional = field.default is not dataclasses.MISSING
    if field.name not in value:
      if optional:
        continue
      raise InputError(f"{source}: key '{field.name}' is missing.")
    item: Any = value[field.name]
    nullable = optional or field.name == "ignore_label_id"
    if field.name == "sets":
      good = isinstance(item, list) and all(map(_is_file_name, item))
      expected = "a list of names that can begin a file's"
    elif field.name == "mean_puzzle_examples":
      good = isinstance(item, int | float) and item is not True
      good = good and math.isfinite(item) and item > 0
      expected = "a positive number"
    else:
      good = (item is None and nullable) or (
        isinstance(item, int) and not isinstance(item, bool) and item >= 0
      )
      expected = "an integer >= 0" + (" or null" if nullable else "")
    if not good:
      raise InputError(
        f"{source}: key '{field.name}': expected {expected}, got {item!r:.40}."
      )
    known[field.name] = item
  known["sets"] = tuple(known["sets"])
  return DatasetMetadata(**known)


def _is_file_name(name: object) -> bool:
  """Whether a set may be called so: its files are <name>__<field>.npy."""
  return (
    isinstance(name, str)
    and 0 < len(name) <= 100
    and name.isprintable()
    and name[0] not in ".-"
    and not set(name) & set("/\\:")
  )


def read_metadata(root: str | pathlib.Path, split: str) -> DatasetMetadata:
  """Reads `<root>/<split>/dataset.json`.

  Raises:
    InputError: the file is missing, is not JSON, or lacks a key.
  """
  path = metadata_path(root, split)
  try:
    text = path.read_text(encoding="utf-8")
  except FileNotFoundError:
    there = pathlib.Path(root).glob(f"*/{path.name}")
    names = ", ".join(sorted(file.parent.name for file in there))
    has = f"; it has {names}" if names else ""
    raise InputError(
      f"{path}: no such file, so '{root}' is not a data set with a "
      f"'{split}' split{has}."
    ) from None
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"{path}: cannot be read ({error}).") from None
  try:
    value = json.loads(text)
  except json.JSONDecodeError as error:
    raise InputError(
      f"{path}: line {error.lineno}: not valid JSON ({error.msg})."
    ) from None
  except (ValueError, RecursionError) as error:  # Huge numbers, deep nesting.
    raise InputError(f"{path}: not valid JSON ({error}).") from None
  return metadata_from_json(value, str(path))

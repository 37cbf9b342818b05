"""Writes small data sets for tests, straight with NumPy."""

import json
import pathlib
from collections.abc import Callable

import numpy as np


def write_split(
  root: pathlib.Path,
  split: str = "train",
  *,
  groups: dict[str, list[list[int]]] | list[list[int]],
  seq_len: int = 4,
  vocab_size: int = 11,
  dtype: type = np.uint8,
  **metadata: object,
) -> pathlib.Path:
  """Writes a split in which every example can be told from its tokens.

  Example i of a set has inputs that spell i in base vocab_size - 1, shifted
  by one, and labels that are the inputs in reverse order, with a 0 (the
  ignored label) in the first cell. Puzzle j has the identifier j + 1.

  Args:
    root: directory of the data set.
    split: name of the split.
    groups: per set (a bare list is the set "all"), per group, the number of
      examples of each of its puzzles.
    seq_len: G.
    vocab_size: V.
    dtype: of inputs and labels.
    **metadata: what to change in dataset.json.

  Returns:
    The directory of the split.
  """
  sets = groups if isinstance(groups, dict) else {"all": groups}
  path = pathlib.Path(root) / split
  path.mkdir(parents=True)
  sizes = [n for gs in sets.values() for group in gs for n in group]
  for name, set_groups in sets.items():
    examples = np.array([n for group in set_groups for n in group], int)
    powers = (vocab_size - 1) ** np.arange(seq_len)
    numbers = np.arange(examples.sum())
    inputs = numbers[:, None] // powers % (vocab_size - 1) + 1
    labels = inputs[:, ::-1].copy()
    labels[:, 0] = 0
    fields = {
      "inputs": inputs.astype(dtype),
      "labels": labels.astype(dtype),
      "puzzle_identifiers": np.arange(1, len(examples) + 1),
      "puzzle_indices": np.cumsum([0, *examples]),
      "group_indices": np.cumsum([0, *map(len, set_groups)]),
    }
    for field, values in fields.items():
      np.save(path / f"{name}__{field}.npy", values)
  content = {
    "pad_id": 0,
    "ignore_label_id": 0,
    "blank_identifier_id": 0,
    "vocab_size": vocab_size,
    "seq_len": seq_len,
    "num_puzzle_identifiers": len(sizes) + 1,
    "total_groups": sum(map(len, sets.values())),
    "mean_puzzle_examples": sum(sizes) / len(sizes),
    "sets": list(sets),
    **metadata,
  }
  (path / "dataset.json").write_text(json.dumps(content))
  return path


def rewrite_field(
  path: pathlib.Path, field: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
  """Replaces a field of the set "all" of a split by a changed one."""
  file = path / f"all__{field}.npy"
  np.save(file, change(np.load(file)))


def example_numbers(inputs: np.ndarray, vocab_size: int = 11) -> np.ndarray:
  """The numbers [B] of the examples whose inputs [B, G] `write_split` wrote."""
  powers = (vocab_size - 1) ** np.arange(inputs.shape[1])
  return (inputs - 1) @ powers

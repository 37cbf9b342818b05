"""Checkpoints of the reference, and data sets they were trained on."""

import argparse
import json
import pathlib

import numpy as np

from hrm_jax.checkpoint import torch_config
from hrm_jax.data.puzzle import FIELDS, DatasetMetadata


def write_data(
  root: pathlib.Path,
  metadata: DatasetMetadata,
  batch: dict[str, np.ndarray],
  names: list[str] | None = None,
) -> pathlib.Path:
  """Writes a data set whose both splits hold the rows of a batch.

  Args:
    root: of the data set.
    metadata: what its dataset.json says; `sets` has one name.
    batch: as the network sees it: padding rows are left out, and -100 is
      `ignore_label_id`.
    names: of the identifiers.
  """
  is_row = batch["puzzle_identifiers"] != metadata.blank_identifier_id
  labels = batch["labels"][is_row]
  count = int(is_row.sum())
  fields = {
    "inputs": batch["inputs"][is_row],
    "labels": np.where(labels < 0, metadata.ignore_label_id or 0, labels),
    "puzzle_identifiers": batch["puzzle_identifiers"][is_row],
    "puzzle_indices": np.arange(count + 1),
    "group_indices": np.arange(count + 1),
  }
  assert fields.keys() == set(FIELDS)
  (name,) = metadata.sets
  for split in ("train", "test"):
    path = root / split
    path.mkdir(parents=True)
    for field, values in fields.items():
      np.save(path / f"{name}__{field}.npy", values.astype(np.int32))
    content = metadata.to_json() | {
      "total_groups": count,
      "mean_puzzle_examples": 1.0,
    }
    (path / "dataset.json").write_text(json.dumps(content))
  count = metadata.num_puzzle_identifiers
  (root / "identifiers.json").write_text(
    json.dumps(names or [f"puzzle {i}" for i in range(count)])
  )
  return root


def set_keys(path: pathlib.Path, **keys: object) -> None:
  """Changes keys of an all_config.yaml; "arch__x" is one of `arch`."""
  import yaml

  config = yaml.safe_load(path.read_text())
  for key, value in keys.items():
    *sections, last = key.split("__")
    section = config
    for name in sections:
      section = section[name]
    if value is None:
      del section[last]
    else:
      section[last] = value
  (path.parent / torch_config.FILE_NAME).write_text(yaml.safe_dump(config))


def import_file(file: pathlib.Path, workdir: pathlib.Path, **flags) -> dict:
  """What `python -m hrm_jax.checkpoint import FILE --workdir=DIR` does."""
  from hrm_jax.checkpoint import torch_commands

  names = ("config", "data", "seq_len", "step", "table")
  given = {name: flags.pop(name, None) for name in names}
  assert not flags
  return torch_commands.import_file(
    argparse.Namespace(file=file, workdir=workdir, **given)
  )

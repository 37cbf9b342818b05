"""Reads what --model names: a folder, or a repository of the Hub.

A folder is one that `export` wrote (see `model_folder`), or one of the
reference, with a file of torch.save and its `all_config.yaml`, which is
converted as it is read. All of it is checked before any weight is used.
"""

import argparse
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from hrm_jax.checkpoint import (
  flags,
  hub,
  load,
  model_folder,
  run_record,
  safetensors_file,
)
from hrm_jax.checkpoint.load import Network, Trained
from hrm_jax.checkpoint.model_folder import Description
from hrm_jax.console import InputError
from hrm_jax.model.weights import Weights


class Published(NamedTuple):
  """A model as it was found; nothing of it is on a device yet.

  Attributes:
    name: of the model, for messages and records: its folder, or its repository
      with the commit.
    step: updates that the weights have seen.
    run: its run record.
    network: built from that record, with the shapes of the weights.
    weights: NumPy arrays of these shapes.
    identifiers: the names of the puzzle table's rows, if known.
    digest: SHA-256 of the file with the weights.
  """

  name: str
  step: int
  run: dict[str, Any]
  network: Network
  weights: Weights
  identifiers: list[str] | None
  digest: str


def load_from(
  args: argparse.Namespace, *, on_all_devices: bool = False
) -> Trained:
  """What `flags.add_run` asked for, from a run or from a model.

  Args:
    args: the command line.
    on_all_devices: see `load.load`.

  Raises:
    InputError: it is not there, or is damaged.
  """
  if args.model is None:
    return load.load(
      args.workdir,
      args.step,
      on_all_devices=on_all_devices,
      raw_weights=args.raw_weights,
    )
  found = read(
    args.model,
    data=getattr(args, "data", None),
    on_all_devices=on_all_devices,
  )
  weights = jax.tree.map(put, found.weights, found.network.shapes)
  trained = load.as_trained(found.step, found.run, found.network, weights)
  return trained._replace(identifiers=found.identifiers)


def find_data(args: argparse.Namespace, trained: Trained) -> pathlib.Path:
  """The data set of `--data`, or that which the weights were trained on.

  Raises:
    InputError: the latter is not there.
  """
  recorded = trained.config.data.path
  if args.data is not None:
    return args.data
  if args.model is None:
    return run_record.find_data(recorded, args.workdir)
  root = pathlib.Path(recorded)
  if not recorded or not root.is_dir():
    name = recorded or "data that its run generated"
    raise InputError(
      f"--model={args.model}: it was trained on {name}, which is not here; say "
      "with --data=DIR which data set to take."
    )
  return root


def find_own_data(args: argparse.Namespace, trained: Trained) -> pathlib.Path:
  """The data set that the weights were trained on, wherever it is now.

  Raises:
    InputError: it is not there, or is another one.
  """
  root = find_data(args, trained)
  # What was imported from the reference without its data has no digests.
  if trained.run.get("digests"):
    run_record.check_same_data(trained.run, root)
  return root


def put(value: np.ndarray, shape: jax.ShapeDtypeStruct) -> jax.Array:
  """An array of this host, which all processes have, laid out as `shape` is."""
  return jax.make_array_from_callback(
    shape.shape, shape.sharding, lambda index: value[index]
  )


def read(
  model: str,
  *,
  flag: str = "--model",
  data: pathlib.Path | None = None,
  seq_len: int | None = None,
  on_all_devices: bool = False,
) -> Published:
  """Reads a model, wherever it lies.

  Args:
    model: as `flags.model_argument` returns it.
    flag: that it was given by, for messages.
    data: a data set, for a model of the reference: its files do not say how
      many cells a puzzle has.
    seq_len: that number, instead of `data`.
    on_all_devices: which devices the network's shapes are laid out for, see
      `load.load`.

  Raises:
    InputError: it is not there, cannot be fetched, or is not as it says.
  """
  folder, name = pathlib.Path(model), model
  if model.startswith(flags.HUB):
    folder, name = hub.fetch(flags.repository_argument(model))
  elif not folder.is_dir():
    raise InputError(f"{flag}={folder}: no such folder.")
  file = _torch_file_in(folder, flag)
  if file is None:
    return _read_folder(folder, name, on_all_devices)
  # Only here: it is a large part of this room, for one kind of model.
  from hrm_jax.checkpoint import torch_config, torch_import

  model_folder.checked(folder, torch_config.FILE_NAME)
  imported = torch_import.read(
    model_folder.checked(folder, file), data=data, seq_len=seq_len
  )
  network = load.make_network(
    imported.run, str(folder / file), on_all_devices=on_all_devices
  )
  return Published(
    name,
    imported.step,
    imported.run,
    network,
    imported.weights,
    None,
    imported.notes["sha256"],
  )


def _torch_file_in(folder: pathlib.Path, flag: str) -> str | None:
  """The reference's file of a folder; None if it is one of ours, or neither.

  Raises:
    InputError: there are several, so nobody knows which is meant.
  """
  if (folder / model_folder.CONFIG).exists():
    return None
  names = [hub.TORCH_NAMES[0], *sorted(p.name for p in folder.glob("step_*"))]
  found = [name for name in names if (folder / name).exists()]
  if len(found) > 1:
    raise InputError(
      f"{flag}={folder}: expected one checkpoint, got {', '.join(found[:3])}; "
      "make a run of one with python -m hrm_jax.checkpoint import FILE."
    )
  return found[0] if found else None


def _read_folder(
  folder: pathlib.Path, name: str, on_all_devices: bool
) -> Published:
  description = model_folder.describe(folder)
  model_folder.check_files(description)
  path = model_folder.checked(folder, model_folder.WEIGHTS)
  _check_layers(description, path)
  network = load.make_network(
    description.run,
    str(folder / model_folder.CONFIG),
    on_all_devices=on_all_devices,
  )
  return Published(
    name,
    description.step,
    description.run,
    network,
    safetensors_file.read(
      path, network.shapes, description.metadata.num_puzzle_identifiers
    ),
    model_folder.read_identifiers(description),
    description.files[model_folder.WEIGHTS]["sha256"],
  )


def _check_layers(description: Description, path: pathlib.Path) -> None:
  """Compares the depth with the file: a network of millions is not built."""
  header = safetensors_file.read_header(path)
  arch = description.config.model
  for key, level, there in (
    ("H_layers", "H_level", not arch.shared_level),
    ("L_layers", "L_level", not arch.H_only),
  ):
    got = safetensors_file.num_layers(header, level)
    said = arch[key]
    if got != (said if there else 0):
      raise InputError(
        f"{description.path / model_folder.CONFIG}: config.model.{key}: "
        f"expected {got}, as {path.name} has, got {said}."
      )

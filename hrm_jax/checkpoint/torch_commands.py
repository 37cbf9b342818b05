"""What `import` and `export --format=torch` do: to the reference, and back."""

import argparse
import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np

from hrm_jax.checkpoint import (
  atomic_file,
  load,
  model_folder,
  run_record,
  saved_steps,
  torch_config,
  torch_file,
  torch_import,
  torch_names,
  workdir_lock,
)
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.console import InputError, RunError, log
from hrm_jax.model.weights import Weights


def import_file(args: argparse.Namespace) -> dict[str, Any]:
  """Writes a checkpoint of the reference as one of a run of ours.

  Args:
    args: the command line, see `model_commands`.

  Returns:
    `workdir`, `step`, `parameters`, `puzzle`, and what was done with the keys
    and the table: see `torch_import.Imported.notes`.

  Raises:
    InputError: the file cannot be used, or WORKDIR holds a run; nothing has
      been written then.
    RunError: the disk refused it.
  """
  directory = saved_steps.directory_of(args.workdir)
  if steps := saved_steps.all_steps(directory):
    raise InputError(
      f"{args.workdir}: expected a directory without a run, got one with step "
      f"{steps[-1]}; choose another --workdir."
    )
  found = torch_import.read(
    args.file,
    config_path=args.config,
    data=args.data,
    seq_len=args.seq_len,
    step=args.step,
    table=args.table,
  )
  with workdir_lock.hold(args.workdir):
    with Checkpoints(args.workdir) as checkpoints:
      weights = jax.tree.map(jax.numpy.asarray, found.weights)
      checkpoints.save(found.step, {"weights": weights}, found.run)
    if checkpoints.saved_step != found.step:
      raise RunError(f"{directory}: the checkpoint is not saved")
    run_record.write_description(args.workdir, found.run)
  log.info(
    f"{args.file} is step {found.step} of {args.workdir}; python -m "
    f"hrm_jax.evaluate --workdir={args.workdir} scores it"
  )
  return {
    "workdir": str(args.workdir),
    "step": found.step,
    "parameters": sum(x.size for x in jax.tree.leaves(found.weights.params)),
    "puzzle": found.run["puzzle"],
    **found.notes,
  }


def export(
  workdir: pathlib.Path,
  step: int | str | None,
  out: pathlib.Path,
  *,
  raw_weights: bool = False,
) -> dict[str, Any]:
  """Writes a checkpoint of a run as the reference does.

  FOLDER/step_<N> is a file of torch.save, FOLDER/all_config.yaml its
  configuration: what the reference's evaluate.py reads.

  Args:
    workdir: of the run.
    step: which checkpoint, or "best"; None: the newest that is whole.
    out: the folder; appears whole or not at all.
    raw_weights: see `load.load`.

  Returns:
    `folder`, `step`, `files`, and `not_exported`: keys that the reference has
    no word for.

  Raises:
    InputError: there is no such checkpoint, or the folder cannot be written.
  """
  with model_folder.being_written(out, may_replace=False) as folder:
    trained = load.load(workdir, step, raw_weights=raw_weights)
    weights = _without_spare_rows(
      trained.weights, trained.metadata.num_puzzle_identifiers
    )
    named = torch_names.to_reference(weights)
    torch_file.write(folder / f"step_{trained.step}", named)
    config = trained.config
    text = torch_config.to_text(config, _data_path(config, workdir))
    atomic_file.write_text(folder / torch_config.FILE_NAME, text)
    files = sorted(path.name for path in folder.iterdir())
  lost = torch_config.without_words(config)
  for key, value in lost.items():
    log.warning(f"warning: {key}={value}: the reference knows no such key")
  return {
    "folder": str(out),
    "step": trained.step,
    "files": files,
    "not_exported": lost,
  }


def _without_spare_rows(weights: Weights, num_identifiers: int) -> Weights:
  """The reference's table has as many rows as there are identifiers."""
  if weights.puzzle_table is None:
    return weights
  table = np.asarray(weights.puzzle_table)
  if table[num_identifiers:].any():
    raise InputError(
      f"the puzzle table: expected zeros in the rows from {num_identifiers:,} "
      "on, which no identifier names, got other numbers."
    )
  return weights._replace(puzzle_table=table[:num_identifiers])  # pyright: ignore[reportArgumentType]


def _data_path(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
  """Where the reference finds the data, from wherever it runs."""
  return str(run_record.data_directory(config, workdir).absolute())

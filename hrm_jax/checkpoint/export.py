"""From a run to a folder that stands for itself: what `export` does."""

import pathlib
from typing import Any

from hrm_jax.checkpoint import (
  atomic_file,
  flags,
  load,
  model_card,
  model_folder,
  run_record,
  safetensors_file,
)
from hrm_jax.console import InputError, log
from hrm_jax.data import identifiers, puzzle_kind

# Parts of a run record that say what the weights are; how the run went on, and
# with which changes on which machine, is the run's affair.
_KEPT = (
  "config",
  "dataset",
  "digests",
  "puzzle",
  "imported",
  "versions",
  "git_commit",
  "evaluation",
  "attention",
  "init_from",
)


def export(
  workdir: pathlib.Path,
  step: int | str | None,
  out: pathlib.Path,
  *,
  data: pathlib.Path | None = None,
  licence: str | None = None,
  raw_weights: bool = False,
  dtype: str = "float32",
) -> dict[str, Any]:
  """Writes a checkpoint of a run as a folder, see `model_folder`.

  Args:
    workdir: of the run.
    step: which checkpoint, or "best"; None: the newest that is whole.
    out: the folder; appears whole or not at all.
    data: the run's data set, for the names of the identifiers; None: where the
      run had it. Without it the folder has no names, and a warning says so.
    licence: of the weights, for the card.
    raw_weights: see `load.load`.
    dtype: what the weights are rounded to, of `safetensors_file.DTYPES`.

  Returns:
    `folder`, `step`, `files`.

  Raises:
    InputError: there is no such checkpoint, the data set is another one, or
      the folder cannot be written.
  """
  with model_folder.being_written(out) as folder:
    trained = load.load(workdir, step, raw_weights=raw_weights)
    names, kind = _of_data(trained.run, data, workdir)
    safetensors_file.write(
      folder / model_folder.WEIGHTS,
      safetensors_file.to_named(
        trained.weights, trained.metadata.num_puzzle_identifiers, dtype
      ),
    )
    if names is not None:
      atomic_file.write_json(
        folder / model_folder.IDENTIFIERS, names, indent=None
      )
    run = _published(trained.run)
    card = model_card.text(
      run,
      trained.step,
      kind=kind,
      licence=licence,
      with_identifiers=names is not None,
      dtype=dtype,
    )
    atomic_file.write_text(folder / model_folder.CARD, card)
    model_folder.write_config(folder, trained.step, run)
    files = sorted(path.name for path in folder.iterdir())
  return {"folder": str(out), "step": trained.step, "files": files}


def _published(run: dict[str, Any]) -> dict[str, Any]:
  """The run record without what is true of one machine only."""
  kept = {key: run[key] for key in _KEPT if key in run}
  # The last name of a path tells what it was; the rest is somebody's disk.
  section = dict(run["config"]["data"])
  section["path"] = pathlib.PurePath(section["path"]).name
  kept["config"] = {**run["config"], "data": section}
  source = kept.get("init_from")
  if source:
    name = source["model"]
    if not name.startswith(flags.HUB):
      name = pathlib.PurePath(name).name
    kept["init_from"] = {**source, "model": name, "given": name}
  return kept


def _of_data(
  run: dict[str, Any], given: pathlib.Path | None, workdir: pathlib.Path
) -> tuple[list[str] | None, str | None]:
  """The names of the identifiers and the kind of puzzle; None: not known.

  Raises:
    InputError: the data set that was given is not the run's.
  """
  root = given
  if root is None:
    try:
      root = run_record.find_data(run["config"]["data"]["path"], workdir)
    except InputError as error:
      log.warning(
        f"warning: {error} Without it no {model_folder.IDENTIFIERS} is written"
      )
      return None, None
  splits = run_record.check_same_data(run, root)
  names = identifiers.read_names(root / identifiers.FILE_NAME)
  return names, puzzle_kind.kind_of(root, splits)

"""What is drawn of one run, from what it leaves in its workdir.

Every checkpoint that was kept holds an evaluation; the event files hold those
of the others too, in float32.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections

from hrm_jax.checkpoint import choice, saved_steps
from hrm_jax.config import by_dotted_key
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import metadata_from_json
from hrm_jax.model import flops
from hrm_jax.model.build import make_model
from hrm_jax.train.dashboard import event_files

# By metric, from the update to the value.
Curves = dict[str, dict[int, float]]

# Keys that make no other line: the seed, where the data lie, and how the same
# numbers are computed and kept.
OF_ONE_RUN = (
  "seed",
  *("data.path", "data.generate", "data.build_command"),
  *("model.remat", "model.unroll", "attention", "updates_per_dispatch"),
  *("mesh.data", "mesh.table", "mesh.split_moments", "rows_at_once"),
  *("checkpoint_every_eval", "checkpoint_interval", "max_to_keep"),
  *("keep_period", "save_predictions", "log_every", "watchdog_seconds"),
  "eval.pictures",
  *("num_steps", "early_stop_train_accuracy", "on_nonfinite"),
)


class LeftOutError(Exception):
  """A figure cannot be drawn of what there is; says why, in one line."""


class Run(NamedTuple):
  """One run.

  Attributes:
    workdir: its directory.
    record: the run record of its newest checkpoint.
    curves: metrics of its evaluations, means over the sets.
    by_segment: exact accuracy after 1, 2, ... segments, in the newest
      evaluation that is kept; empty without one.
    flops_per_update: of training, by `flops.per_update`, for a whole batch.
  """

  workdir: pathlib.Path
  record: dict[str, Any]
  curves: Curves
  by_segment: list[float]
  flops_per_update: float

  @property
  def name(self) -> str:
    """The name of its directory."""
    return self.workdir.resolve().name

  @property
  def settings(self) -> dict[str, Any]:
    """What runs have in common that differ in their seed alone, by dotted key.

    A run that generates its data has other puzzles with another seed; they are
    the same task all the same. So is a run that ends earlier.
    """
    flat = by_dotted_key(self.record["config"])
    is_generated = flat["data.generate"] and not flat["data.path"]
    settings = {k: v for k, v in flat.items() if k not in OF_ONE_RUN}
    settings["dataset"] = self.record["dataset"]
    settings["data"] = "" if is_generated else self.record["digests"]
    return settings


def read(workdir: pathlib.Path) -> Run:
  """Reads what a run has kept; it may be training.

  Raises:
    InputError: there is no checkpoint, or one cannot be read.
  """
  newest = choice.find_step(workdir, None)
  directory = saved_steps.directory_of(workdir)
  records = {
    step: saved_steps.read_run(directory, step)
    for step in saved_steps.complete_steps(directory)
  }
  if newest not in records:  # The run has deleted it since.
    newest = max(records)
  curves: Curves = {}
  _add_events(curves, workdir / "tensorboard")
  by_segment: list[float] = []
  for step in sorted(records):
    evaluation = records[step]["evaluation"]
    # A save between two evaluations holds the earlier one again.
    if evaluation is not None:
      add(curves, evaluation["step"], evaluation["sets"])
      by_segment = evaluation.get("exact_accuracy_by_segment", [])
  record = records[newest]
  config = ml_collections.ConfigDict(record["config"])
  metadata = metadata_from_json(record["dataset"], str(directory))
  model = make_model(config.model, metadata)
  per_puzzle = flops.per_update(
    model, table_only=config.train_only == "puzzle_emb"
  )
  if not curves:
    raise InputError(
      f"{workdir}: expected evaluations in its checkpoints or event files, got "
      "none yet."
    )
  return Run(
    workdir, record, curves, by_segment, config.global_batch_size * per_puzzle
  )


def add(
  curves: Curves, step: int, sets: Mapping[str, Mapping[str, float]]
) -> None:
  """Adds an evaluation: of each metric the mean over the sets that have it."""
  metrics = {name for means in sets.values() for name in means}
  for name in metrics:
    values = [float(m[name]) for m in sets.values() if name in m]
    mean = sum(values) / len(values)
    if math.isfinite(mean):  # Weights that have diverged have no point.
      curves.setdefault(name, {})[step] = mean


def _add_events(curves: Curves, directory: pathlib.Path) -> None:
  """Adds the evaluations in event files, whose tags are eval/SET/METRIC."""
  at: dict[int, dict[str, dict[str, float]]] = {}
  for tag, values in event_files.read_scalars(directory).items():
    kind, _, rest = tag.partition("/")
    set_name, _, metric = rest.rpartition("/")
    if kind == "eval" and set_name:
      for step, value in values.items():
        at.setdefault(step, {}).setdefault(set_name, {})[metric] = value
  for step, sets in at.items():
    add(curves, step, sets)


def alike(run: Run) -> str:
  """Equal for runs that differ in their seed alone."""
  return json.dumps(run.settings, sort_keys=True)

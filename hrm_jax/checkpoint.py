"""Saves and restores everything a run needs to go on.

  WORKDIR/checkpoints/<step>/state  all arrays: weights, optimiser, carry, key
  WORKDIR/checkpoints/<step>/run    JSON: configuration, data set, versions

Orbax writes each step to a temporary directory and renames it, so a step
that is there is whole. The `run` item makes a checkpoint self-contained:
evaluation and solving need nothing else.
"""

import importlib.metadata
import json
import pathlib
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections
import orbax.checkpoint as ocp
from flax import traverse_util

from hrm_jax.console import InputError
from hrm_jax.model import HRM, make_model
from hrm_jax.puzzle import DatasetMetadata, metadata_from_json
from hrm_jax.step import TrainState, Weights, init_weights, num_table_rows

PACKAGES = (
  "hrm_jax",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
)


class Checkpoints:
  """The checkpoints of one run; saving happens in the background.

  Args:
    workdir: of the run.
    max_to_keep: newest steps that are kept; None keeps all.
  """

  def __init__(self, workdir: pathlib.Path, max_to_keep: int | None = None):
    self._manager = ocp.CheckpointManager(
      _directory(workdir).absolute(),
      options=ocp.CheckpointManagerOptions(max_to_keep=max_to_keep),
    )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._manager.close()  # Waits for the save that is under way.

  def latest_step(self) -> int | None:
    """The newest step that is whole."""
    return self._manager.latest_step()

  def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
    """Saves a step, unless it is there; returns before it is on disk."""
    if step in self._manager.all_steps():
      return
    arguments = ocp.args.Composite(
      state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run)
    )
    self._manager.save(step, args=arguments)

  def restore(
    self, step: int, shapes: TrainState, shardings: TrainState
  ) -> TrainState:
    """Reads a step.

    Args:
      step: which.
      shapes: the state's shapes and dtypes (`ShapeDtypeStruct`s).
      shardings: where its arrays shall lie.
    """
    like = jax.tree.map(
      lambda s, sharding: s.update(sharding=sharding), shapes, shardings
    )
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(like))
    return self._manager.restore(step, args=arguments)["state"]


class Trained(NamedTuple):
  """A checkpoint, ready to evaluate or solve with.

  Attributes:
    step: updates done.
    run: its `run` item.
    config: of the run.
    metadata: of the data it was trained on.
    model: the network.
    weights: placed as asked.
  """

  step: int
  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  model: HRM
  weights: Weights


def load(
  workdir: pathlib.Path,
  step: int | None = None,
  place: Callable[[Weights], Weights] | None = None,
) -> Trained:
  """Reads what inference needs of a checkpoint; no optimiser is built.

  Args:
    workdir: of the run.
    step: which checkpoint; None takes the newest.
    place: from the weights' shapes to their shardings; None: this process's
      first device has all.

  Raises:
    InputError: there is no such checkpoint.
  """
  step = _find_step(workdir, step)
  run = read_run(workdir, step)
  source = str(_directory(workdir) / str(step))
  config = ml_collections.ConfigDict(run["config"])
  metadata = metadata_from_json(run["dataset"], source)
  model = make_model(config.model, metadata)
  shapes = jax.eval_shape(
    lambda key: init_weights(
      model, key, num_table_rows(metadata.num_puzzle_identifiers)
    ),
    jax.random.key(0),
  )
  device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  everywhere = jax.tree.map(lambda _: device, shapes)
  item = jax.tree.map(
    lambda s, sharding: s.update(sharding=sharding),
    shapes,
    place(shapes) if place else everywhere,
  )
  with ocp.PyTreeCheckpointer() as reader:
    restored = reader.restore(
      (_directory(workdir) / str(step) / "state").absolute(),
      args=ocp.args.PyTreeRestore(
        item={"weights": item._asdict()},
        restore_args={
          "weights": ocp.checkpoint_utils.construct_restore_args(item._asdict())
        },
        partial_restore=True,
      ),
    )
  weights = Weights(**restored["weights"])
  return Trained(step, run, config, metadata, model, weights)


def read_run(workdir: pathlib.Path, step: int) -> dict[str, Any]:
  """The `run` item of a checkpoint."""
  path = (_directory(workdir) / str(step)).absolute()
  with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
    return reader.restore(path / "run")


def check_same_contract(
  run: dict[str, Any], metadata: DatasetMetadata, where: str
) -> None:
  """Checks that the weights of a run fit a data set.

  Args:
    run: the `run` item of its checkpoint.
    metadata: of the data set.
    where: the data set's name, for the message.

  Raises:
    InputError: they do not; says which number differs.
  """
  for key in ("seq_len", "vocab_size"):
    expected, got = run["dataset"][key], getattr(metadata, key)
    if expected != got:
      raise InputError(
        f"{where}: {key} is {got}, but the checkpoint was trained with "
        f"{key}={expected}."
      )
  rows = run["dataset"]["num_puzzle_identifiers"]
  if metadata.num_puzzle_identifiers > rows:
    raise InputError(
      f"{where}: num_puzzle_identifiers is {metadata.num_puzzle_identifiers}, "
      f"but the checkpoint's puzzle table has {rows} rows."
    )


def changed_keys(
  earlier: dict[str, Any], run: dict[str, Any]
) -> dict[str, str]:
  """The configuration keys that differ between two `run` items.

  Returns:
    From `config.<key>` to a text with both values.
  """
  before, now = (
    traverse_util.flatten_dict(r["config"], sep=".") for r in (earlier, run)
  )
  return {
    f"config.{key}": f"{before.get(key)} there, {now.get(key)} here"
    for key in sorted(before | now)
    if before.get(key) != now.get(key)
  }


def check_same_shapes(changed: dict[str, str], workdir: pathlib.Path) -> None:
  """Refuses to resume with a configuration that has arrays of other shapes.

  Args:
    changed: from `changed_keys`.
    workdir: for the message.

  Raises:
    InputError: lists the keys that differ.
  """
  shaping = [
    f"{key} ({values})"
    for key, values in changed.items()
    if key.startswith("config.model.") or key == "config.global_batch_size"
  ]
  if shaping:
    raise InputError(
      f"{workdir}: cannot resume with another configuration: "
      f"{', '.join(shaping)}; choose another --workdir."
    )


def data_directory(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where a run's data set lies: `config.data.path`, or WORKDIR/data."""
  return pathlib.Path(config.data.path or pathlib.Path(workdir) / "data")


def write_description(workdir: pathlib.Path, run: dict[str, Any]) -> None:
  """Writes what describes a run beside its checkpoints, for people.

  WORKDIR/config.json holds the configuration, WORKDIR/versions.json those of
  the packages and the git commit. Of the newest run: checkpoints hold theirs.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  versions = {**run["versions"], "git_commit": run["git_commit"]}
  for name, value in (("config", run["config"]), ("versions", versions)):
    partial = workdir / f".{name}.json.partial"
    partial.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    partial.replace(workdir / f"{name}.json")


def describe_run(
  config: ml_collections.ConfigDict, metadata: DatasetMetadata
) -> dict[str, Any]:
  """The `run` item: all that a reader needs besides the arrays."""
  return {
    "config": json.loads(config.to_json_best_effort()),
    "dataset": metadata.to_json(),
    "versions": {name: _version(name) for name in PACKAGES},
    "git_commit": _git_commit(),
    "evaluation": None,
  }


def _directory(workdir: pathlib.Path) -> pathlib.Path:
  return pathlib.Path(workdir) / "checkpoints"


def _find_step(workdir: pathlib.Path, step: int | None) -> int:
  directory = _directory(workdir)
  steps = sorted(int(p.name) for p in directory.glob("*") if p.name.isdecimal())
  if not steps:
    raise InputError(
      f"{directory}: no checkpoint there; train one with python -m "
      f"hrm_jax.train --config=FILE --workdir={workdir}."
    )
  if step is None:
    return steps[-1]
  if step not in steps:
    have = ", ".join(map(str, steps))
    raise InputError(f"{directory}: no step {step} there; it has {have}.")
  return step


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _git_commit() -> str | None:
  """The commit of this code, if it runs from a git checkout."""
  here = pathlib.Path(__file__).parent
  command = ["git", "-C", str(here), "rev-parse", "HEAD"]
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except FileNotFoundError:
    return None
  return done.stdout.strip() if done.returncode == 0 else None

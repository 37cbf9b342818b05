"""Reads what inference needs of a checkpoint; no optimiser is built."""

import contextlib
import functools
import logging
import pathlib
import sys
from typing import Any, NamedTuple, cast

import jax
import ml_collections
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from hrm_jax.checkpoint import choice, run_record, saved_steps
from hrm_jax.checkpoint.errors import DeletedError
from hrm_jax.checkpoint.restore_errors import explained
from hrm_jax.console import InputError
from hrm_jax.data.puzzle import DatasetMetadata, metadata_from_json
from hrm_jax.machines import cluster, sharding
from hrm_jax.model import attention
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights, num_table_rows

# What asyncio says of an error that nobody waits for any more, and to who
# reports to a loop that has ended.
_NOT_RETRIEVED = "exception was never retrieved"
_CLOSED = "Event loop is closed"


class Trained(NamedTuple):
  """A checkpoint, ready to evaluate or solve with.

  Attributes:
    step: updates done.
    run: its run record.
    config: the configuration of the run.
    metadata: describes the data it was trained on.
    mesh: the devices that have the weights.
    model: the network.
    weights: on all devices of `mesh`; the puzzle table may be split. Where the
      run keeps an average of its parameters, they are that one, unless the raw
      ones were asked for.
    identifiers: the names of the table's rows, where a model tells them. Those
      of a run stand in its data set.
  """

  step: int
  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  mesh: Mesh
  model: HRM
  weights: Weights
  identifiers: list[str] | None = None


class Network(NamedTuple):
  """What is made for a run record before any array is read."""

  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  mesh: Mesh
  model: HRM
  shapes: Weights  # ShapeDtypeStructs with their shardings


def load(
  workdir: pathlib.Path,
  step: int | str | None = None,
  *,
  on_all_devices: bool = False,
  raw_weights: bool = False,
) -> Trained:
  """Reads what inference needs of a checkpoint; no optimiser is built.

  A run may be training there. If it deletes the step meanwhile, the newest or
  the best one is chosen again: by all processes, if one of them saw it go.

  Args:
    workdir: the run's directory.
    step: which checkpoint, or "best"; None takes the newest that is whole.
    on_all_devices: all devices of all processes get the weights, and the
      table is split as in the run if it can be split over them; otherwise
      this process's first device gets everything.
    raw_weights: whether to read the parameters that the run trains, even where
      it keeps an average of them.

  Raises:
    InputError: there is no such checkpoint, or it is damaged; see also the
      errors of `choice.find_step`.
  """
  directory = saved_steps.directory_of(workdir)
  network = None
  for _ in range(choice.TRIES):
    try:
      found = cluster.decided_by_first(lambda: choice.find_step(workdir, step))
      number = cast("int", found)
    except DeletedError:
      if step == "best":
        continue
      raise
    before = saved_steps.identity(directory, number)
    try:
      run = saved_steps.read_run(directory, number)
      if network is None or not _is_same_network(network.run, run):
        source = str(directory / str(number))
        network = make_network(run, source, on_all_devices=on_all_devices)
      weights = _read_weights(
        directory / str(number),
        network.shapes,
        averaged=run_record.has_average(run) and not raw_weights,
      )
      read = run, network, weights
    except InputError as error:
      read = error
    untouched = _is_untouched(directory, number, before)
    if not cluster.sum_over_processes(int(not untouched)):
      # Where one process alone cannot read what is there, the others go on
      # until they hear of it.
      if isinstance(read, InputError):
        raise read
      return as_trained(number, *read)
    if isinstance(step, int):
      raise choice.deleted(directory, step)
  raise choice.deleted_too_fast(directory)


def _is_untouched(
  directory: pathlib.Path, step: int, before: saved_steps.Identity | None
) -> bool:
  """Whether a step was there, not half-deleted, all the time it was read."""
  return before is not None and before == saved_steps.identity(directory, step)


def _is_same_network(run: dict[str, Any], other: dict[str, Any]) -> bool:
  return all(run[key] == other[key] for key in ("config", "dataset"))


def make_network(
  run: dict[str, Any], source: str, *, on_all_devices: bool
) -> Network:
  """Builds the network that a run record describes; `source` for messages."""
  config = ml_collections.ConfigDict(run["config"])
  metadata = metadata_from_json(run["dataset"], source)
  model = make_model(config.model, metadata)
  shapes = jax.eval_shape(
    lambda key: init_weights(
      model, key, num_table_rows(metadata.num_puzzle_identifiers)
    ),
    jax.random.key(0),
  )
  devices = jax.devices() if on_all_devices else jax.local_devices()[:1]
  table = config.mesh.table
  mesh = sharding.make_mesh(
    table=table if len(devices) % table == 0 else 1, devices=devices
  )
  shapes = jax.tree.map(
    lambda s, at: s.update(sharding=at),
    shapes,
    sharding.of_weights(mesh, shapes),
  )
  return Network(run, config, metadata, mesh, model, shapes)


@functools.cache
def _ignore_reads_given_up() -> None:
  """Keeps quiet, in this process, about arrays that are read in vain.

  Orbax gives up at the first array that cannot be read and closes its event
  loop. The others then fail too, or find nobody to report to, and asyncio and
  Python would print pages of tracebacks on stderr, though `explained` has said
  it all in one line.
  """
  logging.getLogger("asyncio").addFilter(
    lambda record: _NOT_RETRIEVED not in record.getMessage()
  )
  otherwise = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    code = getattr(unraisable.object, "cr_code", None)
    if not (
      _CLOSED in str(unraisable.exc_value)
      or "orbax" in getattr(code, "co_filename", "")
    ):
      otherwise(unraisable)

  sys.unraisablehook = hook


def _read_weights(
  path: pathlib.Path, shapes: Weights, *, averaged: bool
) -> Weights:
  """Reads the weights alone of a checkpoint's state; the average of them."""
  _ignore_reads_given_up()
  item: dict[str, Any] = {"weights": shapes._asdict()}
  if averaged:
    item["average"] = {"params": item["weights"].pop("params")}
  # Each process reads for itself. Orbax would have those that are done wait for
  # the others, and one that cannot read never comes.
  me = jax.process_index()
  alone = ocp.options.MultiprocessingOptions(
    primary_host=me, active_processes={me}
  )
  handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
  with (
    explained(path),
    ocp.Checkpointer(handler, multiprocessing_options=alone) as reader,
  ):
    restored = reader.restore(
      (path / "state").absolute(),
      args=ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
      ),
    )
  return Weights(**restored.get("average", {}), **restored["weights"])


def as_trained(
  number: int, run: dict[str, Any], network: Network, weights: Weights
) -> Trained:
  """Puts together what was read; chooses how attention is computed here."""
  # The run's implementation if it works here: the other one may need far more
  # memory.
  model = attention.choose(
    "auto",
    network.model,
    -(-network.config.global_batch_size // network.mesh.size),
    platform=sharding.platform(network.mesh),
    earlier=run.get("attention", "xla"),
  )
  return Trained(
    number, run, network.config, network.metadata, network.mesh, model, weights
  )


def attention_of(workdir: pathlib.Path) -> str | None:
  """The implementation of attention that a run has used; None before that."""
  steps = saved_steps.complete_steps(saved_steps.directory_of(workdir))
  if not steps:
    return None
  # The resume tells what is wrong with a checkpoint that cannot be read.
  with contextlib.suppress(InputError):
    return saved_steps.read_run(
      saved_steps.directory_of(workdir), steps[-1]
    ).get("attention")
  return None

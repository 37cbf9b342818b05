"""Reads what inference needs of a checkpoint; no optimiser is built."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from hrm_jax.checkpoint import saved_steps
from hrm_jax.console import InputError, one_line
from hrm_jax.data.puzzle import DatasetMetadata, metadata_from_json
from hrm_jax.machines import cluster, sharding
from hrm_jax.model import attention
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights, num_table_rows


class Trained(NamedTuple):
  """A checkpoint, ready to evaluate or solve with.

  Attributes:
    step: updates done.
    run: its run record.
    config: of the run.
    metadata: of the data it was trained on.
    mesh: the devices that have the weights.
    model: the network.
    weights: on all of them; the puzzle table may be split.
  """

  step: int
  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  mesh: Mesh
  model: HRM
  weights: Weights


def load(
  workdir: pathlib.Path,
  step: int | str | None = None,
  *,
  on_all_devices: bool = False,
) -> Trained:
  """Reads what inference needs of a checkpoint; no optimiser is built.

  Args:
    workdir: of the run.
    step: which checkpoint, or "best"; None takes the newest that is whole.
    on_all_devices: of all processes, with the table split as in the run if
      these devices can be; else this process's first one has all.

  Raises:
    InputError: there is no such checkpoint, or it is damaged.
  """
  number = cluster.decided_by_first(
    lambda: saved_steps.find_step(workdir, step)
  )
  run = saved_steps.read_run(saved_steps.directory_of(workdir), number)
  source = str(saved_steps.directory_of(workdir) / str(number))
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
  item = jax.tree.map(
    lambda s, at: s.update(sharding=at),
    shapes,
    sharding.of_weights(mesh, shapes),
  )
  with explained(source), ocp.PyTreeCheckpointer() as reader:
    restored = reader.restore(
      (saved_steps.directory_of(workdir) / str(number) / "state").absolute(),
      args=ocp.args.PyTreeRestore(
        item={"weights": item._asdict()},
        restore_args={
          "weights": ocp.checkpoint_utils.construct_restore_args(item._asdict())
        },
        partial_restore=True,
      ),
    )
  weights = Weights(**restored["weights"])
  # As in the run, if it runs here: the other one may need far more memory.
  model = attention.choose(
    "auto",
    model,
    -(-config.global_batch_size // mesh.size),
    earlier=run.get("attention", "xla"),
  )
  return Trained(number, run, config, metadata, mesh, model, weights)


def attention_of(workdir: pathlib.Path) -> str | None:
  """The implementation of attention that a run has used, if it has begun."""
  steps = saved_steps.complete_steps(saved_steps.directory_of(workdir))
  if not steps:
    return None
  # What is damaged is dealt with at the resume.
  with contextlib.suppress(InputError):
    return saved_steps.read_run(
      saved_steps.directory_of(workdir), steps[-1]
    ).get("attention")
  return None


class UnreadableError(InputError):
  """A checkpoint that Orbax cannot read, though its digests are right."""


@contextlib.contextmanager
def explained(path: str | pathlib.Path) -> Iterator[None]:
  """Turns what Orbax raises into one line that names the checkpoint."""
  try:
    yield
  except Exception as error:  # Of many kinds: Orbax, TensorStore, JAX.
    raise UnreadableError(
      f"{path}: its digests are right, yet it cannot be read: "
      f"{one_line(error)}."
    ) from error

"""Which keys of a configuration make its run need less memory."""

import math
import pathlib

import jax
import ml_collections

from hrm_jax.checkpoint import saved_steps
from hrm_jax.machines import out_of_memory
from hrm_jax.train.setup import Setup

# In bytes on each device. Less than this never decides whether a run fits.
_WORTH_NAMING = 2**26


def keys_that_help(
  config: ml_collections.ConfigDict,
  setup: Setup,
  workdir: pathlib.Path | None = None,
  *,
  training: bool = True,
) -> list[str]:
  """The keys that would make a difference here, those with most effect first.

  Args:
    config: of the run.
    setup: what was built from it.
    workdir: of the run, if it has one; checkpoints there keep the batch size.
    training: whether it is about the update; evaluation has no backward pass
      and touches no moments.

  Returns:
    Each with the value to give it, or with the one it has.
  """
  mesh, model = setup.mesh, config.model
  ways = []
  if training:
    rows = setup.rows_at_once or config.global_batch_size // mesh.size
    ways += out_of_memory.smaller("config.rows_at_once", rows, 1)
  if training and not model.remat:
    # Blocks that are written out cannot be computed again.
    also = " with config.model.unroll=False" if model.unroll else ""
    ways.append(f"config.model.remat=True{also}")
  smaller = out_of_memory.smaller(
    "config.global_batch_size", config.global_batch_size, mesh.size
  )
  if workdir and saved_steps.all_steps(saved_steps.directory_of(workdir)):
    smaller = [f"{way} in another --workdir" for way in smaller]
  ways += smaller
  if parts := _more_parts_of_the_table(setup):
    also = " with config.mesh.data=-1" if config.mesh.data != -1 else ""
    ways.append(f"config.mesh.table={parts}{also}")
  if (
    training
    and not config.mesh.split_moments
    and mesh.shape["data"] > 1
    and _num_bytes(setup.shapes.opt_state) >= _WORTH_NAMING
  ):
    ways.append("config.mesh.split_moments=True")
  return ways


def _more_parts_of_the_table(setup: Setup) -> int | None:
  """The most parts that the puzzle table can be split into, if that helps."""
  table = setup.shapes.weights.puzzle_table
  if table is None:
    return None
  now = setup.mesh.shape["table"]
  most = math.gcd(setup.mesh.size, table.shape[0])
  saved = _num_bytes(table) // now - _num_bytes(table) // most
  return most if saved >= _WORTH_NAMING else None


def _num_bytes(shapes: object) -> int:
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(shapes)
  )

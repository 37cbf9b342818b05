"""A run so small that tests can train it, and readers of what it leaves."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from tensorboardX.proto import event_pb2

from hrm_jax.train import loop
from hrm_jax.train.dashboard import event_files
from tests.tiny import tiny_config


def train_tiny(workdir: pathlib.Path, **overrides) -> dict:
  """Trains it; returns what `train` returns."""
  return loop.train(tiny_config(**overrides), workdir)


def read_state(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
  """Every array of a checkpoint, by its path."""
  with ocp.StandardCheckpointer() as reader:
    tree = reader.restore(
      (workdir / "checkpoints" / str(step) / "state").absolute()
    )
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): plain(leaf) for path, leaf in leaves}


def read_scalars(
  workdir: pathlib.Path, *, as_shown: bool = False
) -> list[tuple[str, int, float]]:
  """(name, step, value) of every scalar that the runs wrote, in order.

  What a kill cut off is not there.

  Args:
    workdir: of the runs.
    as_shown: as TensorBoard shows them: where a resumed run starts writing
      stands a mark, and what was there of that step and later ones is gone.
  """
  scalars = []
  for path in sorted((workdir / "tensorboard").iterdir()):
    for event in event_files.events(path):
      if as_shown and event.session_log.status == event_pb2.SessionLog.START:
        scalars = [scalar for scalar in scalars if scalar[1] < event.step]
      scalars += [
        (value.tag, event.step, value.simple_value)
        for value in event.summary.value
        if value.HasField("simple_value")
      ]
  return scalars


def read_summaries(workdir: pathlib.Path) -> list[tuple[int, Any]]:
  """(step, `Summary.Value`) of all that the runs wrote, in order."""
  return [
    (event.step, value)
    for path in sorted((workdir / "tensorboard").iterdir())
    for event in event_files.events(path)
    for value in event.summary.value
  ]


def plain(leaf: jax.Array) -> np.ndarray:
  """A leaf of a state as an array; keys become their data."""
  if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def steps_of(workdir: pathlib.Path) -> list[int]:
  """The checkpoints that are there."""
  return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir())

"""Runs that nobody has trained: random weights, saved as a checkpoint."""

import pathlib

import jax

from hrm_jax.checkpoint import run_record
from hrm_jax.checkpoint.store import Checkpoints
from hrm_jax.data import puzzle_kind
from hrm_jax.data.split import digest, open_split
from hrm_jax.model.build import make_model
from hrm_jax.model.weights import init_weights, num_table_rows
from tests.tiny import tiny_config
from tests.toys import random_like

STEP = 7


def write_run(
  workdir: pathlib.Path, root: pathlib.Path, *, seed: int = 0, **overrides
) -> pathlib.Path:
  """Writes the workdir of a run on a data set; the table is random, too."""
  splits = {name: open_split(root, name) for name in ("train", "test")}
  metadata = splits["train"].metadata
  config = tiny_config(
    **{"data.path": str(root), "data.generate": False, **overrides}
  )
  model = make_model(config.model, metadata)
  shapes = jax.eval_shape(
    lambda key: init_weights(
      model, key, num_table_rows(metadata.num_puzzle_identifiers)
    ),
    jax.random.key(0),
  )
  weights = random_like(shapes, seed)
  if weights.puzzle_table is not None:  # The spare rows of a table are zero.
    used = metadata.num_puzzle_identifiers
    table = weights.puzzle_table.at[used:].set(0)
    weights = weights._replace(puzzle_table=table)
  run = run_record.describe(
    config,
    metadata,
    {name: digest(split) for name, split in splits.items()},
    puzzle=puzzle_kind.kind_of(root, list(splits.values())),
  )
  run[run_record.WEIGHTS_ONLY] = True
  with Checkpoints(workdir) as checkpoints:
    checkpoints.save(STEP, {"weights": weights}, run)
  return workdir

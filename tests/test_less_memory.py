"""Which keys help where memory runs out: only those that do."""

import functools

import pytest

from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.train import less_memory
from hrm_jax.train.setup import make_setup
from tests.tiny import tiny_config

ROWS = "a smaller config.rows_at_once (now 2)"
REMAT = "config.model.remat=True"
BATCH = "a smaller config.global_batch_size (now 16)"
IN_ANOTHER = f"{BATCH} in another --workdir"
TABLE = "config.mesh.table=8"
MOMENTS = "config.mesh.split_moments=True"


def ways(*arguments, rows=1, training=True, **overrides):
  """What helps a run on the eight devices of the tests."""
  config = tiny_config(**overrides)
  metadata = DatasetMetadata(0, 0, 0, 6, 16, rows, 1, 1.0, ("all",))
  setup = make_setup(config, metadata, total_steps=10)
  return less_memory.keys_that_help(
    config, setup, *arguments, training=training
  )


def test_the_update_and_an_evaluation_have_their_own():
  assert ways() == [ROWS, REMAT, BATCH]
  assert ways(training=False) == [BATCH]


def test_what_is_done_already_is_not_named():
  assert ways(**{"model.remat": True}) == [ROWS, BATCH]
  assert ways(global_batch_size=8) == [REMAT]
  assert ways(rows_at_once=1) == [REMAT, BATCH]
  # A row per device is the least.
  assert ways(global_batch_size=8, training=False) == []


def test_blocks_that_are_written_out_are_named_beside_remat():
  both = f"{REMAT} with config.model.unroll=False"
  assert ways(**{"model.unroll": True}) == [ROWS, both, BATCH]


# With 16 numbers of 4 bytes a row: 128 MiB, of which an eighth is 16.
LARGE = functools.partial(ways, rows=2**21)


def test_a_large_table_is_split_further():
  assert LARGE() == [ROWS, REMAT, BATCH, TABLE]
  # It is there in evaluations, too.
  assert LARGE(training=False) == [BATCH, TABLE]
  whole = {"mesh.data": 8}
  assert LARGE(**whole)[-1] == f"{TABLE} with config.mesh.data=-1"


def test_a_table_that_is_small_or_split_is_not_named():
  assert ways(rows=2**19) == [ROWS, REMAT, BATCH]
  assert LARGE(**{"mesh.table": 8}) == [ROWS, REMAT, BATCH]
  # Halves would become eighths: 48 MiB.
  assert LARGE(**{"mesh.table": 2}) == [ROWS, REMAT, BATCH]
  assert ways(rows=2**22, **{"mesh.table": 2}) == [ROWS, REMAT, BATCH, TABLE]
  assert LARGE(**{"model.puzzle_emb_ndim": 0}) == [ROWS, REMAT, BATCH]


def test_large_moments_are_split():
  wide = functools.partial(ways, **{"model.hidden_size": 1024})
  assert wide() == [ROWS, REMAT, BATCH, MOMENTS]
  assert wide(training=False) == [BATCH]
  assert wide(**{"mesh.split_moments": True}) == [ROWS, REMAT, BATCH]
  # No device to split over.
  assert wide(**{"mesh.table": 8}) == [ROWS, REMAT, BATCH]


def test_a_run_with_checkpoints_keeps_its_batch(tmp_path, tiny_run):
  assert ways(tmp_path) == [ROWS, REMAT, BATCH]
  assert ways(tiny_run) == [ROWS, REMAT, IN_ANOTHER]
  assert ways(tiny_run, global_batch_size=8) == [REMAT]


@pytest.mark.parametrize("rows", [1, 2**21])
def test_each_key_is_one_that_the_configuration_takes(rows):
  named = ways(rows=rows, **{"model.hidden_size": 1024})
  overrides = {}
  for way in named:
    key, _, value = way.removeprefix("config.").partition("=")
    if value:
      overrides[key] = {"True": True}.get(value) or int(value)
  left = ways(rows=rows, **{"model.hidden_size": 1024}, **overrides)
  assert left == [ROWS, BATCH]

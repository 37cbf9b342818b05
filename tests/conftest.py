"""Strictness for every test: no silent broadcasting, and eight devices."""

import os
import pathlib

# Before jax is imported: the tests need no accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)  # sharding tests run on a laptop


@pytest.fixture
def hrm_data_dir() -> pathlib.Path:
  """The real data, where HRM_DATA_DIR says; skips where it does not."""
  if "HRM_DATA_DIR" not in os.environ:
    pytest.skip("HRM_DATA_DIR is not set: no real data on this machine")
  return pathlib.Path(os.environ["HRM_DATA_DIR"])

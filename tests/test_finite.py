"""What is not finite is found, wherever it stands, and can be named."""

import jax
import jax.numpy as jnp
import pytest

from hrm_jax.train import finite

GOOD = {"a": jnp.ones([3, 5]), "b": {"c": jnp.arange(4), "d": jnp.zeros([7])}}


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("place", range(7))
def test_the_first_is_found_by_number_and_has_a_name(value, place):
  find = jax.jit(finite.first_nonfinite)
  assert find(GOOD) == -1
  d = GOOD["b"]["d"].at[place].set(value)
  bad = {**GOOD, "b": {**GOOD["b"], "d": d}}
  assert finite.names(bad)[int(find(bad))] == "b.d"
  bad["a"] = bad["a"].at[2, 4].set(value)
  assert finite.names(bad)[int(find(bad))] == "a"


def test_nobody_looks_where_all_is_good():
  find = jax.jit(finite.first_nonfinite_unless)
  bad = {"a": jnp.array([jnp.nan])}
  assert find(jnp.array(False), bad) == 0
  assert find(jnp.array(True), bad) == -1


def test_a_gpu_has_no_branch_that_waits_for_the_host():
  traced = jax.jit(finite.first_nonfinite_unless).trace(jnp.array(True), GOOD)

  def branches(platform):
    lowered = traced.lower(lowering_platforms=(platform,))
    return lowered.as_text().count("stablehlo.case")

  # Those between the platforms go when it compiles.
  assert branches("cpu") == branches("cuda") + 1

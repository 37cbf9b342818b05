"""The formula of an update's arithmetic against XLA's own count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model import flops, halting
from hrm_jax.model.hrm import HRM
from hrm_jax.model.losses import Loss
from hrm_jax.train import update
from tests.toys import weight_shapes

B = 2


def loop_free(**changed):
  """No loops: XLA counts the body of a loop once."""
  sizes = {
    "vocab_size": 11,
    "seq_len": 63,
    "H_cycles": 1,
    "L_cycles": 1,
    "H_layers": 1,
    "L_layers": 1,
    "hidden_size": 128,
    "num_heads": 4,
    "forward_dtype": "float32",
  }
  return HRM(**{**sizes, **changed})


def shape(*sizes, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(sizes, dtype)


def xla_flops(function, *args):
  compiled = jax.jit(function).lower(*args).compile()
  return compiled.cost_analysis()["flops"] / B


def test_segment_is_what_xla_counts():
  model = loop_free()
  weights = weight_shapes(model)
  z = shape(B, model.num_positions, model.hidden_size)
  inputs = shape(B, model.seq_len, dtype=jnp.int32)
  rows = shape(B, model.puzzle_width)
  counted = xla_flops(model.apply, weights.variables, z, z, inputs, rows)
  assert flops.per_segment(model) == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize(
  ("changed", "table_only"),
  [
    ({"halt_max_steps": 1}, False),
    ({"halt_max_steps": 4}, False),
    ({"halt_max_steps": 4}, True),
    ({"halt_max_steps": 4, "q_target": "none"}, False),
    ({"gradient_scope": "last_cycle", "L_cycles": 2}, False),
    ({"gradient_scope": "last_cycle", "L_cycles": 2}, True),
    ({"shared_level": True, "H_layers": 7}, False),
    ({"mlp_t": True}, False),
    ({"H_only": True}, False),
  ],
)
def test_update_is_what_xla_counts(changed, table_only):
  model = loop_free(**changed)
  carry, batch, draws = jax.eval_shape(
    lambda key: (
      carry := halting.init_carry(
        B, (model.num_positions, 128), model.seq_len, model.dtype
      ),
      carry.current,
      halting.exploration_draws(key, B, model.halt_max_steps),
    ),
    jax.random.key(0),
  )
  one_update = functools.partial(
    update.forward_backward, model, loss=Loss(), table_only=table_only
  )
  counted = xla_flops(one_update, weight_shapes(model), carry, batch, draws)
  expected = flops.per_update(model, table_only=table_only)
  assert expected == pytest.approx(counted, rel=0.05)


def test_every_cycle_and_layer_counts():
  once = flops.per_segment(loop_free())
  head = flops.per_segment(loop_free(H_layers=0, L_layers=0))
  block = (once - head) / 2
  deep = loop_free(H_cycles=3, L_cycles=5, H_layers=2, L_layers=4)
  expected = head + (3 * 2 + 3 * 5 * 4) * block
  assert flops.per_segment(deep) == pytest.approx(expected)


def test_measured_peak_does_not_count_starting_a_program(monkeypatch):
  asked = []

  def seconds_of(factor, number):
    asked.append(number)
    return 30e-6 + number * 1e-5  # Starting, and the products.

  monkeypatch.setattr(flops, "_seconds_of", seconds_of)
  got = flops.measured_peak(jnp.dtype("float32"), size=64)
  assert asked == [1, 1250]
  # The made-up devices of a CPU share its cores.
  assert got == pytest.approx(2 * 64**3 / 1e-5, rel=0.01)


def test_products_in_a_row_are_timed(monkeypatch):
  powers = []
  jit = jax.jit

  def spying_jit(multiply):
    def call(factor):
      powers.append(jit(multiply)(factor))
      return powers[-1]

    return call

  monkeypatch.setattr(jax, "jit", spying_jit)
  assert flops._seconds_of(2 * jnp.eye(8), 3) > 0
  # Itself, times itself three times.
  np.testing.assert_array_equal(powers[-1], 16 * np.eye(8))

"""What writing the curves costs, measured against a clock of our own."""

import types

import pytest

from hrm_jax.benchmark import curves
from tests.toys import METRIC_SUMS


@pytest.fixture
def program(monkeypatch):
  """An update of one second; writing one takes a tenth, on the processor too.

  From the third pair on the machine is twice as slow.
  """
  clock = types.SimpleNamespace(now=0.0, updates=0)
  clock.perf_counter = clock.process_time = lambda: clock.now
  monkeypatch.setattr(curves, "time", clock)

  def spend(seconds):
    pace = 1 if clock.updates <= curves.update.WARM_UP_STEPS + 4 * 8 else 2
    clock.now += pace * seconds

  def step(state, batches):
    clock.updates += 1
    spend(1.0)
    return state, {name: value[None] for name, value in METRIC_SUMS.items()}, {}

  class SlowWriter(curves.NoWriter):
    def __init__(self, directory, first_logged_step):
      super().__init__()

    def scalars(self, step, values):
      spend(0.1)

  monkeypatch.setattr(curves, "Writer", SlowWriter)
  monkeypatch.setattr(curves.flops, "measured_peak", lambda dtype: 1.0)
  monkeypatch.setattr(curves.flops, "per_update", lambda model: 1.0)
  monkeypatch.setattr(
    curves.update, "generate_batches", lambda program: iter(range(100))
  )
  monkeypatch.setattr(curves.update, "circumstances", lambda program: {})
  return types.SimpleNamespace(
    config=types.SimpleNamespace(global_batch_size=4, log_every=2),
    metadata=types.SimpleNamespace(seq_len=9),
    setup=types.SimpleNamespace(
      model=types.SimpleNamespace(dtype=None),
      init=lambda: 0,
      jit_update=lambda function: step,
    ),
  )


def test_the_cost_is_that_of_writing_whatever_else_the_machine_does(program):
  result = curves.curves(program, steps=8, pairs=4)
  # Of 8 updates 4 are written.
  assert result["cost"] == pytest.approx(0.05)
  assert result["cost_ends"] == pytest.approx([0.05] * 2)
  assert result["cpu_cost_quartiles"] == pytest.approx([0.05] * 2)
  assert result["off_s"] == pytest.approx(1.5)  # Half of the pairs are slow.
  assert (result["pairs"], result["steps"], result["log_every"]) == (4, 8, 2)

"""Which attention a run uses: the faster one, and only one that runs."""

import functools
import logging

import jax
import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.machines import cluster
from hrm_jax.model import attention, layers, positions_last
from tests.toys import toy_model


@pytest.fixture
def log(monkeypatch, caplog):
  monkeypatch.setattr(attention.log, "propagate", True)
  caplog.set_level(logging.INFO, "hrm_jax")
  return caplog


def taking(**seconds):
  """A timing that takes what is told; None: it does not run."""

  def timing(implementation, model, rows):
    assert rows == 5
    if seconds[implementation] is None:
      raise NotImplementedError("head dim\nof 2")
    return seconds[implementation]

  return timing


def never(*_):
  pytest.fail("nothing is to be timed")  # No Exception: nobody catches it.


def chosen(setting, timing, earlier=None, platform="gpu"):
  model = attention.choose(
    setting, toy_model(), 5, timing, platform=platform, earlier=earlier
  )
  return model.attention


# The kernel that XLA's has to be faster than, and what messages call it.
ON_ACCELERATORS = pytest.mark.parametrize(
  ("platform", "kernel", "called"),
  [("gpu", "cudnn", "cuDNN"), ("tpu", "splash", "splash attention")],
)


@ON_ACCELERATORS
@pytest.mark.parametrize(("xla", "other"), [(2.0, 1.0), (1.0, 2.0)])
def test_the_faster_one_is_used(log, platform, kernel, called, xla, other):
  timing = taking(**{"xla": xla, kernel: other})
  faster = "xla" if xla < other else kernel
  assert chosen("auto", timing, platform=platform) == faster
  assert (
    f"attention: {faster}; forward and backward take {xla * 1e3:.3f} ms by "
    f"XLA and {other * 1e3:.3f} ms by {called}"
  ) in log.text


@ON_ACCELERATORS
def test_where_xla_does_not_run_the_kernel_does(log, platform, kernel, called):
  timing = taking(**{"xla": None, kernel: 1.0})
  assert chosen("auto", timing, platform=platform) == kernel
  assert (
    f"attention: {kernel}; forward and backward take 1000.000 ms by {called}; "
    "XLA's does not run here (NotImplementedError: head dim of 2)"
  ) in log.text


@ON_ACCELERATORS
def test_where_the_kernel_does_not_run_xla_does(log, platform, kernel, called):
  # Without another there is nothing to time XLA's against.
  timing = taking(**{kernel: None})
  assert chosen("auto", timing, platform=platform) == "xla"
  message = f"attention: xla; {called}'s does not run here (NotImplementedError"
  assert message in log.text


@ON_ACCELERATORS
def test_a_run_that_resumes_keeps_what_it_had(platform, kernel, called):
  def resumed(setting, timing):
    return chosen(setting, timing, earlier=kernel, platform=platform)

  assert chosen("auto", never, earlier="xla", platform=platform) == "xla"
  assert resumed("auto", taking(**{"xla": 1.0, kernel: 2.0})) == kernel
  assert resumed("auto", taking(**{kernel: None})) == "xla"
  assert resumed("xla", never) == "xla"


def test_a_run_that_moves_to_other_machines_chooses_anew():
  timing = taking(xla=2.0, splash=1.0)
  assert chosen("auto", timing, earlier="cudnn", platform="tpu") == "splash"
  assert chosen("auto", never, earlier="splash", platform="cpu") == "xla"


def test_a_cpu_times_nothing():
  assert chosen("auto", never, platform="cpu") == "xla"


def test_xla_needs_no_timing():
  assert chosen("xla", never) == "xla"


@ON_ACCELERATORS
def test_a_kernel_that_does_not_run_is_refused_if_asked_for(
  platform, kernel, called
):
  with pytest.raises(InputError, match=rf"{called}'s .*: head dim of 2\)"):
    chosen(kernel, taking(**{kernel: None}), platform=platform)
  timing = taking(**{kernel: 1.0})
  assert chosen(kernel, timing, platform=platform) == kernel


@pytest.mark.parametrize("kernel", ["cudnn", "splash"])
def test_a_kernel_is_refused_on_a_cpu(kernel):
  if jax.default_backend() != "cpu":
    pytest.skip("needs a CPU")
  model = toy_model(forward_dtype="bfloat16")
  with pytest.raises(InputError, match=r"config.attention: expected auto or"):
    attention.choose(kernel, model, 2, platform="cpu")


def test_all_processes_use_what_the_first_one_chose(monkeypatch):
  monkeypatch.setattr(cluster, "is_first", lambda: False)
  monkeypatch.setattr(cluster, "from_first", lambda number: 2)
  assert chosen("auto", never) == "cudnn"


def test_xla_is_timed_as_the_model_runs_it(monkeypatch):
  mix_values, shapes = layers.mix_values, set()

  def mix(query, key, value, implementation):
    assert implementation == "xla"
    shapes.update((t.shape, t.dtype.name) for t in (query, key, value))
    return mix_values(query, key, value, implementation)

  monkeypatch.setattr(layers, "mix_values", mix)
  model = toy_model(hidden_size=24, num_heads=3, forward_dtype="bfloat16")
  assert attention.measured_seconds("xla", model, 2, repeats=1) > 0
  assert shapes == {((2, model.num_positions, 3, 8), "bfloat16")}
  # On a TPU it runs in another layout, which has products of its own.
  attend, shapes_there = positions_last.attend, set()

  def attend_there(x, *kernels, **settings):
    shapes_there.add((x.shape, x.dtype.name))
    return attend(x, *kernels, **settings)

  monkeypatch.setattr(positions_last, "attend", attend_there)
  shapes.clear()
  on_tpu = model.clone(for_tpu=True)
  assert attention.measured_seconds("xla", on_tpu, 2, repeats=1) > 0
  assert shapes_there == {((2, model.num_positions, 24), "bfloat16")}
  assert not shapes


def test_what_is_timed_knows_the_platform():
  asked = []

  def timing(implementation, model, rows):
    asked.append((implementation, model.for_tpu))
    return 1.0

  for platform in ("gpu", "tpu"):
    chosen("auto", timing, platform=platform)
  assert asked == [
    ("cudnn", False),
    ("xla", False),
    ("splash", True),
    ("xla", True),
  ]


def test_the_implementation_is_no_part_of_the_network():
  with pytest.raises(InputError, match=r"config.model.attention: unknown key"):
    toy_model(attention="xla")


def test_every_choice_has_a_name():
  used = {name for names in attention.OF_PLATFORM.values() for name in names}
  assert used == set(attention.NAMES)


def test_the_position_added_for_cudnn_is_not_heard(monkeypatch):
  mixing = jax.nn.dot_product_attention
  asked = []

  def mix(query, *others, implementation, **settings):
    assert implementation == "cudnn"
    asked.append(query.shape)
    return mixing(query, *others, implementation="xla", **settings)

  monkeypatch.setattr(jax.nn, "dot_product_attention", mix)
  for S in (7, 8):
    keys = jax.random.split(jax.random.key(S), 4)
    *qkv, cotangent = (jax.random.normal(k, (2, S, 2, 4)) for k in keys)
    results = []
    for name in ("xla", "cudnn"):
      mix = functools.partial(layers.mix_values, implementation=name)
      mixed, backward = jax.vjp(jax.jit(mix), *qkv)
      results.append([mixed, *backward(cotangent)])
    for want, got in zip(*results, strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  assert asked == [(2, 8, 2, 4)] * 2


@pytest.mark.gpu
@pytest.mark.parametrize("positions", [82, 901])
def test_cudnn_computes_what_xla_does(positions):
  if jax.default_backend() != "gpu":
    pytest.skip("needs a GPU")
  keys = jax.random.split(jax.random.key(0), 4)
  query, key, value, cotangent = (
    jax.random.normal(k, (4, positions, 8, 64), "bfloat16") for k in keys
  )
  results = {}
  for name in ("xla", "cudnn"):
    mixed, backward = jax.vjp(
      lambda *qkv, name=name: layers.mix_values(*qkv, name), query, key, value
    )
    results[name] = [mixed, *backward(cotangent)]
  for one, other in zip(*results.values(), strict=True):
    one, other = (np.asarray(x, np.float32) for x in (one, other))
    np.testing.assert_allclose(one, other, atol=0.02 * np.abs(one).max())

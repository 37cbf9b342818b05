"""Which attention a run uses: the faster one, and only one that runs."""

import logging

import jax
import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.machines import cluster
from hrm_jax.model import attention, layers
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


@pytest.mark.parametrize(
  ("xla", "cudnn", "faster"), [(2.0, 1.0, "cudnn"), (1.0, 2.0, "xla")]
)
def test_a_gpu_gets_the_faster_one(log, xla, cudnn, faster):
  assert chosen("auto", taking(xla=xla, cudnn=cudnn)) == faster
  assert f"attention: {faster}; " in log.text
  assert f"{xla * 1e3:.3f} ms by XLA and {cudnn * 1e3:.3f}" in log.text


def test_where_xla_does_not_run_cudnn_does(log):
  assert chosen("auto", taking(xla=None, cudnn=1.0)) == "cudnn"
  assert "attention: cudnn; XLA's does not run here (NotImpl" in log.text


def test_where_cudnn_does_not_run_xla_does(log):
  assert chosen("auto", taking(xla=1.0, cudnn=None)) == "xla"
  message = (
    "xla; cuDNN's does not run here (NotImplementedError: head dim of 2)"
  )
  assert message in log.text


def test_a_run_that_resumes_keeps_what_it_had():
  assert chosen("auto", never, earlier="xla") == "xla"
  slow = taking(xla=1.0, cudnn=2.0)
  assert chosen("auto", slow, earlier="cudnn") == "cudnn"
  gone = taking(xla=1.0, cudnn=None)
  assert chosen("auto", gone, earlier="cudnn") == "xla"
  assert chosen("xla", never, earlier="cudnn") == "xla"


def test_a_cpu_times_nothing():
  assert chosen("auto", never, platform="cpu") == "xla"


def test_xla_needs_no_timing():
  assert chosen("xla", never) == "xla"


def test_cudnn_that_does_not_run_is_refused_if_asked_for():
  with pytest.raises(InputError, match=r"not run here \(.*: head dim of 2\)"):
    chosen("cudnn", taking(cudnn=None))
  assert chosen("cudnn", taking(cudnn=1.0)) == "cudnn"


def test_cudnn_is_refused_on_a_cpu():
  if jax.default_backend() != "cpu":
    pytest.skip("needs a CPU")
  model = toy_model(forward_dtype="bfloat16")
  with pytest.raises(InputError, match=r"config.attention: expected auto or"):
    attention.choose("cudnn", model, 2, platform="cpu")


def test_all_processes_use_what_the_first_one_chose(monkeypatch):
  monkeypatch.setattr(cluster, "is_first", lambda: False)
  monkeypatch.setattr(cluster, "from_first", lambda number: 2)
  assert chosen("auto", never) == "cudnn"


def test_xla_is_timed_at_the_sizes_of_the_model(monkeypatch):
  mix_values, shapes = layers.mix_values, set()

  def mix(query, key, value, implementation):
    assert implementation == "xla"
    shapes.update((t.shape, t.dtype.name) for t in (query, key, value))
    return mix_values(query, key, value, implementation)

  monkeypatch.setattr(layers, "mix_values", mix)
  model = toy_model(hidden_size=24, num_heads=3, forward_dtype="bfloat16")
  assert attention.measured_seconds("xla", model, 2, repeats=1) > 0
  assert shapes == {((2, model.num_positions, 3, 8), "bfloat16")}


def test_the_implementation_is_no_part_of_the_network():
  with pytest.raises(InputError, match=r"config.model.attention: unknown key"):
    toy_model(attention="xla")


@pytest.mark.gpu
def test_cudnn_computes_what_xla_does():
  if jax.default_backend() != "gpu":
    pytest.skip("needs a GPU")
  keys = jax.random.split(jax.random.key(0), 4)
  query, key, value, cotangent = (
    jax.random.normal(k, (4, 82, 8, 64), "bfloat16") for k in keys
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

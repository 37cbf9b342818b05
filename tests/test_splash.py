"""Attention of TPUs: what XLA computes, without the scores in memory.

The kernel runs on the CPU here, interpreted; the last tests compile it for TPUs
that are not there.
"""

import functools
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from hrm_jax.evaluate import scoring
from hrm_jax.machines import sharding
from hrm_jax.model import layers, splash
from hrm_jax.train.setup import make_setup
from hrm_jax.train.update import train_step
from tests.tiny import tiny_config
from tests.toys import METADATA, toy_batch


def results(mix, *arrays):
  """What a mix yields, and its gradients."""

  @jax.jit  # One program compiles sooner than its operations.
  def run(*arrays):
    *qkv, cotangent = arrays
    mixed, backward = jax.vjp(mix, *qkv)
    return [mixed, *backward(cotangent)]

  return run(*arrays)


def drawn(shape, dtype="float32"):
  keys = jax.random.split(jax.random.key(0), 4)
  return [jax.random.normal(key, shape, dtype) for key in keys]


def by_xla(*qkv):
  return layers.mix_values(*qkv, "xla")


def by_splash(*qkv):
  return splash.mix_values(*qkv, interpret=True)


# Fewer positions than a tile holds, exactly so many, and more than one tile;
# a size of the head whose root is no power of two, and one of two.
@pytest.mark.parametrize(
  "shape", [(2, 9, 3, 8), (1, 128, 2, 16), (2, 200, 1, 64), (1, 300, 1, 32)]
)
def test_it_computes_what_xla_does(monkeypatch, shape):
  monkeypatch.setattr(splash, "_LONGEST_TILE", 256)
  arrays = drawn(shape)
  want, got = results(by_xla, *arrays), results(by_splash, *arrays)
  for one, other in zip(want, got, strict=True):
    assert other.shape == one.shape
    np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def test_it_is_as_exact_as_xla_in_bfloat16():
  arrays = drawn((2, 200, 2, 64), "bfloat16")
  exact = results(by_xla, *(x.astype("float32") for x in arrays))
  want, got = results(by_xla, *arrays), results(by_splash, *arrays)
  for true, one, other in zip(exact, want, got, strict=True):
    assert other.dtype == one.dtype
    off = [
      np.abs(np.asarray(x, np.float32) - np.asarray(true)).max()
      for x in (one, other)
    ]
    assert 0 < off[1] < 2 * off[0]


@pytest.mark.parametrize(
  ("positions", "size", "cut"),
  [
    (82, 64, (1, 128, 128)),
    (128, 64, (1, 128, 128)),
    (129, 64, (1, 256, 256)),
    (901, 64, (1, 1024, 512)),
    (901, 256, (2, 512, 512)),
    (1025, 64, (2, 640, 128)),
  ],
)
def test_a_sequence_is_cut_into_few_tiles(positions, size, cut):
  assert splash.tiles(positions, size) == cut


@pytest.mark.parametrize("what", ["init", "update", "full", "act"])
def test_every_device_of_a_mesh_runs_a_kernel_of_its_own(what):
  # JAX refuses, for a TPU, a kernel that XLA would have to split.
  config = tiny_config()
  config.attention = "splash"
  config.global_batch_size = 8
  setup = make_setup(config, METADATA, total_steps=10, timing=lambda *_: 0.0)
  assert setup.mesh.size == 8
  by_row = sharding.by_row(setup.mesh)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_row),
    toy_batch(batch_size=8),
  )
  settings = {"model": setup.model, "loss": setup.loss, "mesh": setup.mesh}
  weights = setup.shapes.weights
  if what == "init":
    traced = setup.init.trace()
  elif what == "update":
    traced = setup.jit_update(train_step).trace(setup.shapes, batch)
  elif what == "full":
    evaluate = functools.partial(scoring.eval_step, **settings, halt=what)
    traced = jax.jit(evaluate).trace(weights, batch)
  else:
    evaluate = functools.partial(
      scoring.eval_chunk, **settings, batches=1, with_logits=False
    )
    waiting = jax.ShapeDtypeStruct((8,), bool, sharding=by_row)
    traced = jax.jit(evaluate).trace(weights, batch, waiting)
  text = traced.lower(lowering_platforms=("tpu",)).as_text()
  # Weights are drawn on all devices at once; nobody asks for attention then.
  assert ("tpu_custom_call" in text) == (what != "init")


COMPILE = """
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from hrm_jax.model import layers

device = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[0]
one = jax.ShapeDtypeStruct(
  (4, 901, 8, 64), jnp.bfloat16, sharding=SingleDeviceSharding(device)
)

def results(name, *arrays):
  mix = lambda *qkv: layers.mix_values(*qkv, name)
  mixed, backward = jax.vjp(mix, *arrays[:3])
  return mixed, backward(arrays[3])

for name in ("xla", "splash"):
  run = jax.jit(lambda *arrays: results(name, *arrays))
  print(run.lower(one, one, one, one).compile().as_text())
  print("END OF PROGRAM")
"""


@pytest.mark.aot
def test_a_tpu_keeps_no_scores_in_memory():
  pytest.importorskip("libtpu", reason="compiling for TPUs needs libtpu")
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  }
  # In a process of its own: libtpu reads its environment once.
  ran = subprocess.run(
    [sys.executable, "-c", COMPILE],
    env=environment,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert ran.returncode == 0, ran.stderr[-2000:]
  xla, kernel, _ = ran.stdout.split("END OF PROGRAM")
  scores = re.compile(r"\[4,8,(901|1024),(901|1024)\]")
  assert scores.search(xla)
  assert not scores.search(kernel)
  assert kernel.count('"tpu_custom_call"') == 2  # Forward and backward.

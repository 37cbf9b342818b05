"""Planning with the real compilers, for TPUs and GPUs that are not here."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import SingleDeviceSharding

from hrm_jax.benchmark import __main__ as benchmark
from hrm_jax.plan import hlo, planning, targets
from tests.commands import Commands
from tests.toys import toy_model

pytestmark = [
  pytest.mark.aot,
  pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler for TPUs: pip install -e '.[tpu]'",
  ),
]

ROOT = pathlib.Path(__file__).parent.parent
TINY = (
  "--config.model.hidden_size=32",
  "--config.model.num_heads=2",
  "--config.model.H_layers=1",
  "--config.model.L_layers=1",
  "--config.model.H_cycles=1",
  "--config.model.L_cycles=1",
  "--config.model.expansion=1.0",
  "--config.model.halt_max_steps=3",
  "--config.model.q_target=none",
  "--config.model.forward_dtype=float32",
  "--config.global_batch_size=16",
  "--config.attention=xla",  # What `auto` takes has a test of its own.
  "--json",
)


def start(directory, *flags):
  """The command in a process of its own, without the settings it makes."""
  env = {k: v for k, v in os.environ.items() if k not in targets.LIBTPU}
  # Set for the machine that shall run it, in a profile, say.
  env["JAX_PLATFORMS"] = "tpu"
  cache = {
    "JAX_COMPILATION_CACHE_DIR": str(directory / "programs"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  return subprocess.Popen(
    [sys.executable, "-m", "hrm_jax.plan", *TINY, *flags],
    cwd=directory,
    env=env | {"PYTHONPATH": str(ROOT)} | cache,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_two_plans_at_once_each_for_its_own_slice(tmp_path):
  plans = [
    start(tmp_path, "--target=v5e:4x4", "--hlo=update.hlo"),
    start(
      tmp_path,
      "--target=v5e:2x2",
      "--slices=2",
      "--config.mesh.table=2",
      "--only=update",
    ),
  ]
  done = [plan.communicate(timeout=600) for plan in plans]
  for plan, (_, err) in zip(plans, done, strict=True):
    assert plan.returncode == 0, err
    # Its worries about a machine that is not here would confuse.
    assert "worker" not in err.lower()
    assert "WARNING" not in err
  # Kept programs could not be read back, and the next plan would warn of it.
  assert not (tmp_path / "programs").exists()
  one, two = (json.loads(out.splitlines()[-1]) for out, _ in done)

  assert (one["devices"], one["hosts"]) == (16, 4)
  assert one["device"] == "TPU v5 lite"
  for name in ("update", "evaluate_full", "evaluate_act"):
    program = one[name]
    assert program["fits"] is True
    need = program["memory_bytes"]
    assert need["available"] == 15.75 * 2**30
    assert need["left"] == need["available"] - need["total"]
    assert program["estimate"]["ms"] > 0
  links = {row["links"] for row in one["update"]["collectives"]}
  assert links == {"across hosts"}
  # As many segments as there are, without a word of XLA's.
  assert one["evaluate_full"]["estimate"]["loops_of_unknown_length"] == 0
  assert one["evaluate_act"]["estimate"]["loops_of_unknown_length"] == 1
  text = (tmp_path / "update.hlo").read_text()
  assert text.startswith("HloModule")
  assert "estimated_cycles" in text

  assert (two["devices"], two["slices"]) == (8, 2)
  sent = two["update"]["collectives"]
  links = {row["links"] for row in sent}
  assert links == {"within a host", "across slices"}
  # The dense gradient crosses the slower network once.
  block = 32 * 3 * 32 + 32 * 32 + 32 * 2 * 256 + 256 * 32
  dense = 2 * block + 2 * 11 * 32 + 32 * 2 + 2
  across = sum(r["bytes"] for r in sent if r["links"] == "across slices")
  assert 4 * dense / 4 <= across <= 1.5 * 4 * dense


def test_a_plan_that_does_not_fit_ends_with_one_line(tmp_path):
  flags = ("--only=update", "--config.global_batch_size=4194304")
  plan = start(tmp_path, "--target=v5e:2x2", *flags)
  out, err = plan.communicate(timeout=600)
  assert plan.returncode == 2, err
  assert out == ""
  (line,) = [x for x in err.splitlines() if x.startswith("error: ")]
  assert err.endswith(line + "\n")
  assert "out of memory in the update for v5e:2x2: " in line
  assert "15.75 GiB there" in line
  assert "config.model.remat=True" in line
  assert "config.global_batch_size" in line


def test_loops_of_a_tpu_program_are_counted():
  def nested(x):
    def body(i, x):
      return lax.fori_loop(0, 5, lambda _, x: jnp.sin(x) @ x, x)

    x, _ = lax.scan(lambda x, _: (jnp.cos(x), x[0]), x, length=7)
    return lax.fori_loop(2, 5, body, x)

  device = targets.find("v5e:2x2").devices[0]
  x = jax.ShapeDtypeStruct(
    (256, 256), jnp.float32, sharding=SingleDeviceSharding(device)
  )
  text = jax.jit(nested).lower(x).compile().as_text()
  assert "known_trip_count" not in text
  times = {r.times for r in hlo.Program(text).runs()}
  assert times == {1, 3, 7, 15}


@pytest.mark.parametrize(
  ("target", "kind", "devices", "hosts"),
  [
    ("v5e:1x1", "TPU v5 lite", 1, 1),
    ("v5e:2x4", "TPU v5 lite", 8, 1),
    ("v5e:16x16", "TPU v5 lite", 256, 64),
    ("v6e:4x4", "TPU v6 lite", 16, 4),
    ("v4:2x2x2", "TPU v4", 8, 2),
    ("v5p:2x2x1", "TPU v5", 4, 1),
  ],
)
def test_targets_have_the_devices_that_google_says(
  target, kind, devices, hosts
):
  found = targets.find(target).devices
  assert {d.device_kind for d in found} == {kind}
  assert len(found) == devices
  assert len({d.process_index for d in found}) == hosts


def test_a_slice_that_cannot_be_gets_one_line():
  with pytest.raises(targets.InputError, match="a slice that there can be"):
    targets.find("v5e:3x5")


def test_attention_is_timed_by_its_estimate_on_the_target():
  target = targets.find("v5e:2x2")
  timing = planning.TimingByCompiler(target)
  model = toy_model()
  few, many = (timing("xla", model, rows) for rows in (8, 2048))
  assert 0 < few < many
  assert timing.seconds == {"xla": many}
  with pytest.raises(RuntimeError, match="cuDNN"):
    timing("cudnn", model, 8)
  assert "cuDNN" in timing.not_compiled["cudnn"]


def test_comm_reads_the_program_of_a_target(monkeypatch, capsys):
  commands = Commands(monkeypatch, capsys)
  tiny = [flag for flag in TINY if flag != "--json"]
  flags = ("comm", "--target=v5e:2x4", "--json", *tiny)
  result = commands(benchmark, *flags)
  assert (result["target"], result["devices"]) == ("v5e:2x4", 8)
  assert result["device"] == "TPU v5 lite"
  assert {row["links"] for row in result["sent"]} == {"within a host"}
  sent = sum(row["bytes"] for row in result["sent"])
  assert sent == result["bytes_per_device"]
  # The dense gradient in float32, and not by missing some of it.
  assert 4 * result["dense_parameters"] <= sent
  assert 1 <= result["over_minimum"] <= 1.2

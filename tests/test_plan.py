"""Planning for devices that are not here: what needs no compiler of theirs."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from configs import arc, grid, maze, sudoku
from hrm_jax.machines import sharding
from hrm_jax.plan import __main__ as plan
from hrm_jax.plan import chips, hlo, memory, planning, sizes, targets
from tests.commands import Commands
from tests.datasets import write_split
from tests.toys import mesh_of, toy_model

TINY = (
  "--config.model.hidden_size=16",
  "--config.model.num_heads=2",
  "--config.model.H_layers=1",
  "--config.model.L_layers=1",
  "--config.model.expansion=1.0",
  "--config.model.halt_max_steps=3",
  "--config.global_batch_size=16",
)


@pytest.fixture
def commands(monkeypatch, capsys, tmp_path):
  monkeypatch.chdir(tmp_path)  # No data set of the configurations is there.
  jax.devices()  # JAX has started, and has the eight devices of all tests.
  return Commands(monkeypatch, capsys)


def test_a_plan_for_cpu_devices(commands, tmp_path):
  result = commands(plan, "--target=cpu:8", "--json", "--hlo=update.hlo", *TINY)
  assert (result["devices"], result["hosts"]) == (8, 1)
  assert result["rows_per_device"] == 2
  assert result["seq_len"] == 81
  assert "build_sudoku" in result["sizes_from"]
  update = result["update"]
  # Nobody knows how much memory a CPU has for it, nor how long it takes.
  assert update["fits"] is None
  assert update["estimate"]["ms"] is None
  need = update["memory_bytes"]
  assert need["temporaries"] > 0
  assert need["arguments"] >= need["state"] > 0
  parts = ("arguments", "outputs", "temporaries", "program")
  assert need["total"] == sum(need[part] for part in parts)
  # The gradient, once, besides what belongs to the rows.
  block = 16 * 3 * 16 + 16 * 16 + 16 * 2 * 256 + 256 * 16
  dense = 2 * block + 2 * 11 * 16 + 16 * 2 + 2
  sent = {
    (row["kind"], row["dtype"], row["links"]): row["bytes"]
    for row in update["collectives"]
  }
  got = sent["all-reduce", "f32", "within a host"]
  assert 4 * dense <= got <= 1.1 * 4 * dense
  assert (tmp_path / "update.hlo").read_text().startswith("HloModule")
  # An evaluation needs neither moments nor gradients.
  full, act = result["evaluate_full"], result["evaluate_act"]
  assert full["memory_bytes"]["state"] < need["state"] / 2
  assert full["flops_per_device"] > 0
  assert act["flops_per_device"] is None
  # How long rows think depends on the data.
  assert full["estimate"]["loops_of_unknown_length"] == 0
  assert act["estimate"]["loops_of_unknown_length"] == 1


def test_one_program_alone(commands):
  result = commands(plan, "--target=cpu:1", "--json", "--only=update", *TINY)
  assert "update" in result
  assert not {"evaluate_full", "evaluate_act"} & set(result)
  assert result["update"]["collectives"] == []


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (["--target=v5e"], "--target: expected CHIP:SIZE, the chip one of v4, v5e"),
    (["--target=v9:2x2"], "got 'v9:2x2'"),
    (["--target=v5e:4"], "the shape of a slice after 'v5e:', such as 4x4; got"),
    (["--target=v5p:4x4"], "such as 4x4x4; got '4x4'"),
    (["--target=v5e:4xx4"], "got '4xx4'"),
    (["--target=cpu:0"], "a number of devices after 'cpu:', got '0'"),
    (["--target=cpu:9"], "at most 8 CPU devices"),
    (["--target=h100:9"], "1 to 8 or a multiple of 8 after 'h100:', got '9'"),
    (["--target=h100:8", "--slices=2"], "--slices: expected 1, for only TPUs"),
    (["--target=cpu:8", "--slices=0"], "--slices: expected at least 1, got 0"),
    (["--target=cpu:8", "--only=evaluate", "--hlo=x"], "--hlo: expected no"),
    (["--target=cpu:8", "--hlo=no/x", "--only=update"], "cannot be written"),
    (["--target=cpu:8", "--hlo=."], "--hlo=.: cannot be written (it is no"),
    (["--target=cpu:9999"], "at most 1,024 CPU devices, got 9,999"),
    (
      ["--target=cpu:8", "--num-identifiers=3000000000"],
      "--num-identifiers: expected less than 2,147,483,648, got 3,000,000,000",
    ),
    (["--target=cpu:3", "--only=update"], "multiple of the number of devices"),
    ([], "required: --target"),
  ],
)
def test_what_cannot_be_planned_gets_one_line(commands, flags, said):
  assert said in commands.error(plan, *TINY, *flags)


@pytest.mark.parametrize(
  ("target", "extra", "error"),
  [
    ("v5e:2x2", "tpu", RuntimeError("JAX TPU support not installed")),
    ("h100:1", "gpu", NotImplementedError("topology not implemented")),
  ],
)
def test_a_missing_compiler_gets_one_line(
  commands, monkeypatch, target, extra, error
):
  def missing(*args, **kwargs):
    raise error

  monkeypatch.setattr(topologies, "get_topology_desc", missing)
  said = commands.error(plan, f"--target={target}", *TINY)
  assert f"pip install -e '.[{extra}]'" in said
  assert str(error) in said


def test_a_plan_that_does_not_fit_names_the_keys_to_change(
  commands, monkeypatch
):
  small = chips.CHIPS["cpu"]._replace(memory=2**20)
  monkeypatch.setitem(chips.CHIPS, "cpu", small)
  flags = ("--target=cpu:8", "--num-identifiers=2000000", *TINY)
  said = commands.error(plan, *flags)
  assert said.startswith("out of memory in the update for cpu:8: ")
  assert "1.0 MiB there; what helps: " in said
  assert "config.mesh.table=8" in said
  assert "config.model.remat=True" in said
  assert "config.global_batch_size" in said
  # What is set already does not help.
  said = commands.error(
    plan,
    *flags,
    "--config.mesh.table=8",
    "--config.model.remat",
    "--config.global_batch_size=8",
  )
  assert said.endswith("more devices, or some with more memory.")


@pytest.mark.parametrize(
  ("config", "found"),
  [
    (sudoku.get_config("1k"), (81, 11, 1)),
    (sudoku.get_config("mini"), (16, 6, 1)),
    (maze.get_config(), (900, 6, 1)),
    (arc.get_config(), (900, 12, 1_045_829)),
  ],
)
def test_without_data_a_task_has_its_usual_sizes(
  tmp_path, monkeypatch, config, found
):
  monkeypatch.chdir(tmp_path)
  metadata, where = sizes.of_run(config)
  assert (
    metadata.seq_len,
    metadata.vocab_size,
    metadata.num_puzzle_identifiers,
  ) == found
  assert "no data set" in where or "config.data.box=2x2" in where


def test_flags_and_the_data_set_come_before_what_is_usual(tmp_path):
  config = sudoku.get_config()
  config.data.path = str(tmp_path)
  write_split(tmp_path, groups=[[1]])
  written = json.loads((tmp_path / "train/dataset.json").read_text())
  metadata, where = sizes.of_run(config, vocab_size=77)
  assert metadata.seq_len == written["seq_len"] != 81
  assert metadata.vocab_size == 77
  assert where == f"--vocab-size; else the data set {tmp_path}"


def test_a_task_without_usual_sizes_asks_for_them(commands):
  said = commands.error(plan, "--config=grid.py", "--target=cpu:1")
  assert "expected it, or --seq-len, --vocab-size, --num-identifiers" in said
  metadata, where = sizes.of_run(grid.get_config(), 9, 12, 1)
  assert metadata.seq_len == 9
  assert where == "--seq-len, --vocab-size, --num-identifiers"


def test_state_is_counted_by_what_a_device_has_of_it():
  mesh = mesh_of(8)
  shapes = {
    "split": jax.ShapeDtypeStruct(
      (16, 3), jnp.bfloat16, sharding=sharding.by_row(mesh)
    ),
    "whole": jax.ShapeDtypeStruct(
      (5,), jnp.float32, sharding=sharding.replicated(mesh)
    ),
    "key": jax.eval_shape(lambda: jax.random.key(0)),
  }
  assert memory.bytes_on_a_device(shapes) == 2 * 3 * 2 + 5 * 4 + 8


def test_a_gpu_lends_what_jax_takes_of_it(monkeypatch):
  h100 = chips.CHIPS["h100"]
  name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
  monkeypatch.delenv(name, raising=False)
  assert memory.available(h100) == int(0.75 * 84_929_347_584)
  monkeypatch.setenv(name, "0.5")
  assert memory.available(h100) == int(0.5 * 84_929_347_584)
  monkeypatch.setenv(name, "90%")
  with pytest.raises(targets.InputError, match=f"{name}: expected a number"):
    memory.available(h100)


def test_a_slice_of_one_chip_is_a_host_of_its_own(monkeypatch):
  asked = []

  def described(name, **settings):
    asked.append((name, settings))
    raise targets.InputError("enough")

  monkeypatch.setattr(topologies, "get_topology_desc", described)
  for name in ("v5e:1x1", "v6e:2x4", "v4:2x2x1", "v5e:4x4"):
    with pytest.raises(targets.InputError, match="enough"):
      targets.find(name, slices=2 if name == "v5e:4x4" else 1)
  settings = [s for _, s in asked]
  assert settings[0]["chips_per_host_bounds"] == [1, 1, 1]
  assert settings[1]["chips_per_host_bounds"] == [2, 4, 1]
  assert settings[2]["chip_config_name"] == "megacore"
  assert settings[3] == {"platform": "tpu", "num_slices": 2}


KERNELS = """HloModule m

ENTRY %main (a: bf16[2,81]) -> bf16[2,81] {
  %a = bf16[2,81]{1,0} parameter(0)
  %f.1 = bf16[2,81]{1,0} custom-call(%a), custom_call_target="tpu_custom_call",\
 metadata={op_name="jit(step)/jvp(HRM)/attention"}
  %c.1 = bf16[2,81]{1,0} custom-call(%f.1), custom_call_target="ConcatBitcast"
  ROOT %b.1 = bf16[2,81]{1,0} custom-call(%c.1), \
custom_call_target="tpu_custom_call", \
metadata={op_name="jit(step)/transpose(jvp(HRM))/attention"}
}
"""


def test_kernels_take_at_least_their_products_or_their_bytes():
  program, model = hlo.Program(KERNELS), toy_model()
  v5e = chips.CHIPS["v5e"]
  slow = v5e._replace(peak_flops=1e3)
  S, D, rows = model.num_positions, model.hidden_size, 3
  product = 2 * S**2 * D * rows
  seconds = planning._seconds_of_kernels(program, slow, model, rows)
  assert seconds == pytest.approx((2 + 5) * product / 1e3)
  far = v5e._replace(bandwidth=1e3)
  seconds = planning._seconds_of_kernels(program, far, model, rows)
  assert seconds == pytest.approx(2 * (2 * 2 * 81 * 2) / 1e3)
  # On a GPU their bytes are part of the estimate.
  gpu = chips.CHIPS["h100"]
  assert planning._seconds_of_kernels(program, gpu, model, rows) == 0

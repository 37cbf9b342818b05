"""A file imports only from rows below it; this reads the imports."""

import ast
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent

# Top to bottom.
ROWS = (
  ("train", "benchmark"),
  ("benchmark_eval", "run_data"),
  ("evaluate", "solve", "measure", "benchmark_data"),
  (
    "checkpoint",
    "predictions",
    "reference_params",
    "arc_vote",
    "recipe",
    "preemption",
    "divergence",
    "compilation_cache",
  ),
  ("step", "inference", "checkpoint_cli", "run_item"),
  ("refill", "weights"),
  ("act", "flops", "attention", "arc_tally", "path_score", "meter", "arch"),
  ("model", "losses", "data", "puzzle_kind", "sparse_embedding"),
  (
    "layers",
    "dataset",
    "optim",
    "metrics",
    "curves",
    "sharding",
    "cluster",
    "collectives",
    "command_line",
    "finite",
    "host_memory",
    "watchdog",
    "workdir_lock",
    "saved_steps",
    "sudoku",
    "maze",
    "arc",
  ),
  ("puzzle", "manifest", "roll_call"),
  ("console", "atomic_file", "provenance"),
)
HEIGHT = {name: -row for row, names in enumerate(ROWS) for name in names}

# What `data_tools` shares with the network's side.
CONTRACT = {
  "puzzle",
  "puzzle_kind",
  "dataset",
  "sudoku",
  "maze",
  "arc",
  "console",
  "provenance",
}


def imports(source: str) -> set[str]:
  """Every name imported in a file, also inside functions, in full."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute here"
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


@functools.cache
def imports_of(path: pathlib.Path) -> frozenset[str]:
  return frozenset(imports(path.read_text(encoding="utf-8")))


def files_in(package: str) -> list[pathlib.Path]:
  paths = (ROOT / package).rglob("*.py")
  return sorted(path for path in paths if path.name != "__init__.py")


def ours(path: pathlib.Path) -> set[str]:
  """The files of hrm_jax that a file imports."""
  names = (name.split(".") for name in imports_of(path))
  return {parts[1] for parts in names if parts[0] == "hrm_jax"}


def packages(path: pathlib.Path) -> set[str]:
  return {name.split(".")[0] for name in imports_of(path)}


def from_file(name: str) -> pathlib.Path:
  return ROOT / "hrm_jax" / f"{name}.py"


def test_imports_are_read_wherever_they_stand():
  source = "import a.b\ndef f():\n  from c import d as e\n"
  assert imports(source) == {"a.b", "c.d"}


def test_every_file_has_one_row():
  assert [path.stem for path in files_in("hrm_jax")] == sorted(HEIGHT)
  assert sum(map(len, ROWS)) == len(HEIGHT)


@pytest.mark.parametrize("name", HEIGHT)
def test_file_imports_only_from_rows_below(name):
  not_below = {
    other for other in ours(from_file(name)) if HEIGHT[other] >= HEIGHT[name]
  }
  assert not_below == set()


@pytest.mark.parametrize("path", files_in("data_tools"), ids=lambda p: p.stem)
def test_data_tools_share_only_the_contract(path):
  assert ours(path) <= CONTRACT
  assert not packages(path) & {"jax", "flax", "optax", "orbax", "configs"}


@pytest.mark.parametrize(
  "name",
  [
    "data",
    "dataset",
    "predictions",
    "arc_tally",
    "arc_vote",
    "manifest",
    "saved_steps",
    "checkpoint_cli",
    "benchmark_data",
    *sorted(CONTRACT),
  ],
)
def test_what_reads_data_needs_no_jax(name):
  assert not packages(from_file(name)) & {"jax", "flax", "optax"}


@pytest.mark.parametrize(
  "name", ["model", "layers", "losses", "act", "refill", "step"]
)
def test_the_mathematics_knows_no_devices(name):
  path = from_file(name)
  words = {
    node.attr if isinstance(node, ast.Attribute) else node.id
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Attribute | ast.Name)
  }
  assert not any("shard" in word or "device" in word for word in words)
  assert not any("sharding" in name for name in imports_of(path))


@pytest.mark.parametrize("name", ["evaluate", "solve", "checkpoint"])
def test_files_of_inference_ask_for_no_optimiser(name):
  assert not ours(from_file(name)) & {"train", "optim", "sparse_embedding"}
  assert "optax" not in packages(from_file(name))


def test_the_network_is_imported_without_what_a_run_needs():
  show = "import sys, hrm_jax.model; print(*sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", show],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  loaded = set(done.stdout.split())
  assert "flax.linen" in loaded
  assert not loaded & {"orbax.checkpoint", "grain", "optax", "tensorboardX"}


@pytest.mark.parametrize("package", ["hrm_jax", "data_tools", "configs"])
def test_nothing_imports_torch_or_the_tests(package):
  for path in files_in(package):
    assert not packages(path) & {"torch", "tests"}, path


def test_configs_need_only_configs():
  for path in files_in("configs"):
    assert ours(path) <= {"console"}, path
    assert not packages(path) & {"jax", "flax", "optax", "data_tools"}, path

"""Commands that run out of memory: one line, exit code 2, nothing half-done.

XLA's error is put in the place of a program of theirs, but for one test, where
a limit of the process makes it come by itself.
"""

import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

from hrm_jax.arc_vote import __main__ as arc_vote
from hrm_jax.benchmark import __main__ as benchmark
from hrm_jax.checkpoint import load as load_module
from hrm_jax.checkpoint import store
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.solve import __main__ as solve
from hrm_jax.solve.solver import Solver
from hrm_jax.train import __main__ as train
from hrm_jax.train.setup import Setup
from tests.commands import Commands, files_of

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = f"--config={ROOT}/tests/tiny.py"
PUZZLE = ".41..3.231....31"

SAID = (
  "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for "
  "HLO temporaries (20.70G) exceeds available HBM (15.75G)."
)
FIGURES = "20.70 GiB asked for, 15.75 GiB there; what helps: "
IN_TRAINING = (
  f"out of memory in training: {FIGURES}a smaller config.rows_at_once (now 2), "
  "config.model.remat=True, "
)
IN_EVALUATION = f"out of memory in evaluation: {FIGURES}"


def run_out(*arguments, **keywords):
  raise jax.errors.JaxRuntimeError(SAID)


@pytest.fixture
def commands(monkeypatch, capsys) -> Commands:
  return Commands(monkeypatch, capsys)


@pytest.fixture
def run(tiny_run, tmp_path) -> pathlib.Path:
  """A copy of the tiny run and its data."""
  return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture
def update_runs_out(monkeypatch):
  """Makes the dispatch of a number, from 1, run out, and none before it."""
  whole, at = Setup.jit_update, []

  def jit_update(self, update):
    program, count = whole(self, update), iter(range(1, 1000))
    return lambda *args: (run_out if next(count) in at else program)(*args)

  monkeypatch.setattr(Setup, "jit_update", jit_update)
  return at.append


def test_a_first_update_that_runs_out_leaves_no_checkpoint(
  commands, update_runs_out, tmp_path
):
  update_runs_out(1)
  assert commands.error(train, CONFIG, f"--workdir={tmp_path}") == (
    f"{IN_TRAINING}a smaller config.global_batch_size (now 16)."
  )
  assert files_of(tmp_path / "checkpoints") == {}


def test_updates_that_run_out_later_lose_nothing_that_was_saved(
  commands, update_runs_out, tmp_path
):
  update_runs_out(4)
  flags = (CONFIG, f"--workdir={tmp_path}", "--config.checkpoint_interval=2")
  # The batch of what is saved cannot change any more.
  assert commands.error(train, *flags) == (
    f"{IN_TRAINING}a smaller config.global_batch_size (now 16) in another "
    "--workdir."
  )
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
  assert load_module.load(tmp_path).step == 2


def test_an_evaluation_in_training_names_what_helps_it(
  commands, monkeypatch, tmp_path
):
  monkeypatch.setattr(Evaluator, "__call__", run_out)
  assert commands.error(train, CONFIG, f"--workdir={tmp_path}") == (
    f"{IN_EVALUATION}a smaller config.global_batch_size (now 16)."
  )


def test_a_checkpoint_too_large_to_restore_is_not_passed_over(
  commands, monkeypatch, run
):
  before = files_of(run / "checkpoints")
  monkeypatch.setattr(store.Checkpoints, "restore", run_out)
  assert IN_TRAINING in commands.error(train, CONFIG, f"--workdir={run}")
  assert files_of(run / "checkpoints") == before


def test_weights_too_large_to_load_are_not_called_unreadable(
  commands, monkeypatch, run
):
  monkeypatch.setattr(load_module.ocp.Checkpointer, "restore", run_out)
  # No flag of this command makes them smaller.
  assert commands.error(evaluate, f"--workdir={run}") == (
    f"{IN_EVALUATION}more devices, or some with more memory."
  )


def test_an_evaluation_names_its_own_flag(commands, monkeypatch, run):
  monkeypatch.setattr(Evaluator, "__call__", run_out)
  flags = (f"--workdir={run}", "--save-predictions")
  assert commands.error(evaluate, *flags) == (
    f"{IN_EVALUATION}a smaller --batch-size (now 16)."
  )
  assert not [name for name in files_of(run) if "predictions" in name]
  # A puzzle per device is the least.
  assert "more devices" in commands.error(evaluate, *flags, "--batch-size=8")


def test_solving_takes_fewer_puzzles(commands, monkeypatch, run):
  monkeypatch.setattr(Solver, "__call__", run_out)
  said = f"out of memory in solving: {FIGURES}"
  flags = (f"--workdir={run}", "--json", PUZZLE)
  assert commands.error(solve, *flags, PUZZLE) == (
    f"{said}fewer than 2 puzzles at once."
  )
  assert commands.error(solve, *flags, *[PUZZLE] * 30) == (
    f"{said}fewer than 16 puzzles at once."
  )
  assert "more devices" in commands.error(solve, *flags)


@pytest.mark.parametrize("command", ["train", "compile"])
def test_benchmarks_of_the_update_name_keys(commands, monkeypatch, command):
  monkeypatch.setattr(benchmark.update, "train", run_out)
  monkeypatch.setattr(benchmark.update, "compilation", run_out)
  assert commands.error(benchmark, command, CONFIG) == (
    f"{IN_TRAINING}a smaller config.global_batch_size (now 16)."
  )


@pytest.mark.parametrize(
  ("command", "what"), [("eval", "evaluation"), ("solve", "solving")]
)
def test_benchmarks_of_a_run_name_a_flag(
  commands, monkeypatch, run, command, what
):
  monkeypatch.setattr(Evaluator, "__call__", run_out)
  monkeypatch.setattr(Solver, "__call__", run_out)
  assert commands.error(benchmark, command, f"--workdir={run}") == (
    f"out of memory in {what}: {FIGURES}a smaller --batch-size."
  )


def test_a_command_without_devices_says_so_too(commands, monkeypatch, tmp_path):
  def no_array(*_, **__):
    raise MemoryError("Unable to allocate 64.0 GiB for an array")

  monkeypatch.setattr(arc_vote, "_predictions_directory", no_array)
  said = commands.error(arc_vote, f"--workdir={tmp_path}")
  assert said == (
    "no memory is left for this process (MemoryError: Unable to allocate 64.0 "
    "GiB for an array)"
  )


LIMITED = """
import resource
from hrm_jax import console
from hrm_jax.train import __main__ as train

resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
console.run(train.main)
"""


def test_a_limit_of_the_process_ends_a_run_in_one_line(tmp_path):
  # One matrix of this network takes more.
  flags = (CONFIG, f"--workdir={tmp_path}", "--config.model.hidden_size=65536")
  done = subprocess.run(
    [sys.executable, "-c", LIMITED, *flags],
    capture_output=True,
    text=True,
    check=False,
    cwd=ROOT,
  )
  assert (done.returncode, done.stdout) == (2, ""), done.stderr
  *_, last = done.stderr.splitlines()
  assert last.startswith("error: out of memory in training: 48.00 GiB asked")
  assert last.count(" GiB there in all; what helps: a smaller config.rows") == 1
  assert "Traceback" not in done.stderr
  assert files_of(tmp_path / "checkpoints") == {}

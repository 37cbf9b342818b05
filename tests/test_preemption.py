"""A run that is told to stop: saved after the update, and nothing lost."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from hrm_jax.checkpoint import saved_steps
from hrm_jax.checkpoint.load import load
from hrm_jax.evaluate import evaluator
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.machines.preemption import PreemptedError, Preemption
from hrm_jax.train import __main__ as train_command
from hrm_jax.train import loop, setup
from tests import runs
from tests.commands import Commands
from tests.tiny import tiny_config
from tests.toys import mesh_of


@pytest.mark.parametrize(
  "name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"]
)
def test_the_first_signal_asks_for_a_stop(name):
  number = getattr(signal, name)
  before = signal.getsignal(number)
  with Preemption() as preemption:
    preemption.check(mesh_of(1))
    os.kill(os.getpid(), number)
    with pytest.raises(PreemptedError):
      preemption.check(mesh_of(1))
  assert signal.getsignal(number) == before


def test_a_time_that_is_up_is_a_signal(monkeypatch, lines):
  now = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  with Preemption(stop_at=160) as preemption:
    preemption.check(mesh_of(1))
    now[0] = 160
    for _ in range(2):
      with pytest.raises(PreemptedError):
        preemption.check(mesh_of(1))
  assert lines == ["the time is up: stops and saves as soon as it can"]


def signalled(*names, before=""):
  """A process that gets these signals, and says after each that it lives."""
  program = (
    "import os, signal\n"
    "from hrm_jax.machines.preemption import Preemption\n"
    f"{before}\n"
    "with Preemption() as preemption:\n"
    f"  for name in {names}:\n"
    "    os.kill(os.getpid(), getattr(signal, name))\n"
    "    print(name, preemption._heard, flush=True)\n"
  )
  return subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=False
  )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_second_signal_ends_the_process(name):
  done = signalled(name, name)
  assert done.stdout == f"{name} True\n"
  assert done.returncode == -getattr(signal, name)
  assert f"{name}: stops and saves as soon as it can; again" in done.stderr


@pytest.mark.parametrize(
  "names",
  [
    ("SIGHUP", "SIGHUP"),  # The terminal's, and the shell's.
    ("SIGTERM", "SIGHUP"),  # From systemd, with SendSIGHUP.
    ("SIGUSR1", "SIGTERM"),  # From Slurm, ahead of the limit and at it.
    ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGUSR1"),
    ("SIGXCPU", "SIGXCPU", "SIGXCPU"),
  ],
)
def test_what_only_asks_does_not_insist(names):
  done = signalled(*names)
  assert done.stdout == "".join(f"{name} True\n" for name in names)
  assert done.returncode == 0


def test_a_run_under_nohup_does_not_hear_that_its_terminal_closes():
  ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
  done = signalled("SIGHUP", before=ignore)
  assert (done.stdout, done.stderr) == ("SIGHUP False\n", "")


def test_a_signal_whose_message_nobody_reads_is_heard_all_the_same():
  program = (
    "import os, signal\n"
    "from hrm_jax.machines.preemption import Preemption\n"
    "read, write = os.pipe()\n"
    "os.close(read)\n"
    "os.dup2(write, 2)\n"
    "with Preemption() as preemption:\n"
    "  os.kill(os.getpid(), signal.SIGINT)\n"
    "  print(preemption._heard)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, check=False
  )
  assert (done.stdout, done.returncode) == (b"True\n", 0)


def test_processes_that_heard_nothing_stop_with_the_others(monkeypatch):
  preemption = Preemption()
  monkeypatch.setattr(preemption, "_alone", False)
  mesh = mesh_of(8)
  preemption.check(mesh)
  preemption._heard = True  # As one process would; the sum tells all.
  preemption.check(mesh)
  preemption.check(mesh)
  with pytest.raises(PreemptedError):
    preemption.check(mesh)


def signal_during(monkeypatch, update):
  """Sends SIGTERM while an update is dispatched."""
  make = setup.Setup.jit_update

  def make_signalling(*args, **kwargs):
    train_step = make(*args, **kwargs)

    def signalling(state, batch):
      if int(state.step) == update - 1:
        os.kill(os.getpid(), signal.SIGTERM)
      return train_step(state, batch)

    return signalling

  monkeypatch.setattr(setup.Setup, "jit_update", make_signalling)


# Update 5 is the last of an iteration: its evaluation is given up.
@pytest.mark.parametrize("update", [3, 5, 10])
def test_a_preempted_run_loses_nothing(tmp_path, monkeypatch, tiny_run, update):
  with monkeypatch.context() as patch:
    signal_during(patch, update)
    result = runs.train_tiny(tmp_path)
  assert (result["ended"], result["step"]) == ("preempted", update)
  assert runs.steps_of(tmp_path)[-1] == update
  assert result["evaluation"] is None or result["evaluation"]["step"] < update
  again = runs.train_tiny(tmp_path)
  assert again["ended"] == "finished"
  assert again["evaluation"]["step"] == 10
  # Also where it was made up for, when its step had been saved.
  scores = saved_steps.scores(saved_steps.directory_of(tmp_path))
  assert [s for s, score in scores.items() if score is not None] == [5, 10]
  best = load(tmp_path, "best")
  assert best.run["evaluation"]["step"] == best.step
  with monkeypatch.context() as patch:
    patch.setattr(Evaluator, "__call__", None)
    assert runs.train_tiny(tmp_path)["evaluation"]["step"] == 10
  got, want = (runs.read_state(w, 10) for w in (tmp_path, tiny_run))
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, err_msg=path)
  seen, expected = (
    [
      (step, value)
      for name, step, value in runs.read_scalars(workdir)
      if name in ("train/lm_loss", "eval/all/lm_loss")
    ]
    for workdir in (tmp_path, tiny_run)
  )
  assert sorted(seen) == sorted(expected)


def test_a_signal_before_the_first_update_is_saved_too(tmp_path, monkeypatch):
  make_setup = loop.make_setup

  def signalling(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return make_setup(*args, **kwargs)

  monkeypatch.setattr(loop, "make_setup", signalling)
  result = runs.train_tiny(tmp_path)
  assert (result["ended"], result["step"]) == ("preempted", 0)
  assert result["saved_step"] == 0  # And not None, which is a failed save.
  assert runs.steps_of(tmp_path) == [0]


def test_an_evaluation_is_given_up_after_the_batch(tmp_path, monkeypatch):
  scored = []

  def count(total, sums):
    if "count" in sums:  # The metrics, once for each batch.
      scored.append(sums)
      os.kill(os.getpid(), signal.SIGTERM)
    return call(total, sums)

  call = evaluator._add
  monkeypatch.setattr(evaluator, "_add", count)
  result = runs.train_tiny(tmp_path)
  assert (result["ended"], result["step"]) == ("preempted", 5)
  assert len(scored) == 1  # There are two batches.


def test_a_run_without_time_is_saved(tmp_path):
  result = loop.train(tiny_config(), tmp_path, stop_at=time.monotonic())
  assert (result["ended"], result["saved_step"]) == ("preempted", 0)


def test_the_command_counts_the_seconds_from_its_start(
  tmp_path, monkeypatch, capsys
):
  told = []

  def train(config, workdir, *, stop_at, **rest):
    told.append(stop_at - time.monotonic())
    return {"step": 3, "saved_step": 3, "ended": "preempted"}

  monkeypatch.setattr(train_command, "train", train)
  flags = "--config=tests/tiny.py", f"--workdir={tmp_path}"
  with pytest.raises(SystemExit) as exit_info:
    Commands(monkeypatch, capsys)(train_command, *flags, "--max-seconds=900")
  assert exit_info.value.code == 75
  assert 600 < told[0] < 900


@pytest.mark.slow
def test_a_run_whose_terminal_closes_is_saved_and_goes_on(tmp_path):
  workdir, go_on = tmp_path / "run", tmp_path / "go_on"
  train = ["tests.faults.observed", "--config=tests/tiny.py"]
  command = [sys.executable, "-m", *train, f"--workdir={workdir}"]
  hold = {"FAULTS_HOLD": "update@4", "FAULTS_GO_ON": str(go_on)}
  closed = ["-m", "tests.closed_terminal", "held update@4", str(go_on)]
  code = subprocess.call(
    [sys.executable, *closed, *command], env={**os.environ, **hold}
  )
  assert code == 75
  assert runs.steps_of(workdir) == [4]
  assert runs.train_tiny(workdir)["ended"] == "finished"

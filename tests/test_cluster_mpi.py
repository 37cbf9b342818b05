"""Training under the real mpirun of Open MPI."""

import shutil
import signal
import subprocess
import sys

import pytest

from tests.held_runs import HELD_AT, PATIENCE, UPDATES, HeldRun
from tests.launch_scripts import PREEMPTED

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# Root may start it, and there may be fewer than two processors.
MPIRUN = ("mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2")


@pytest.fixture
def run(tmp_path):
  """One to be started by mpirun; skips where there is no mpirun."""
  if not shutil.which("mpirun"):
    pytest.skip("no Open MPI on this machine: mpirun not found")
  version = subprocess.run(
    ["mpirun", "--version"], capture_output=True, text=True, check=True
  ).stdout.splitlines()[0]
  if not version.startswith("mpirun (Open MPI) 4."):
    pytest.skip(f"JAX knows Open MPI 4 only, and this is {version!r}")
  return HeldRun(tmp_path)


def test_mpirun_ends_with_a_killed_process_and_the_next_one_resumes(run):
  with run.started_by(*MPIRUN, sys.executable, **run.variables) as process:
    run.until_held()
    run.kill(OMPI_COMM_WORLD_RANK="1")
    assert process.wait(PATIENCE) == 128 + signal.SIGKILL, run.said()
  assert run.saved() == HELD_AT - 2
  run.go_on()
  with run.started_by(*MPIRUN, sys.executable, **run.variables) as process:
    assert process.wait(PATIENCE) == 0, run.said()
  assert f"in 2 processes, update {HELD_AT - 2} to {UPDATES}" in run.said()
  assert [step for step, _ in run.losses()] == list(range(1, UPDATES + 1))


def test_mpirun_passes_usr1_on_and_ends_as_preempted(run):
  with run.started_by(*MPIRUN, sys.executable, **run.variables) as process:
    run.until_held()
    process.send_signal(signal.SIGUSR1)
    run.until_said("SIGUSR1: stops and saves", times=2)
    run.go_on()
    assert process.wait(PATIENCE) == PREEMPTED, run.said()
  assert HELD_AT <= run.saved() < UPDATES

"""launch/slurm.sbatch under a real Slurm of one node."""

import pathlib
import re
import signal

import numpy as np
import pytest

from tests import held_runs, one_node_slurm, runs
from tests.held_runs import HELD_AT, PATIENCE, UPDATES, HeldRun
from tests.launch_scripts import is_alive

pytestmark = pytest.mark.cluster

RESOURCES = ("--ntasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1")


@pytest.fixture(scope="module")
def slurm():
  """A real one; a requeued job waits for 5 s instead of two minutes."""
  if why := one_node_slurm.missing():
    pytest.skip(why)
  with one_node_slurm.running(requeue_seconds=5) as slurm:
    yield slurm


def submit(slurm, run, *options) -> int:
  """Submits it as a user would, but on 2 tasks; the number of the job."""
  return int(
    slurm.ask(
      *("sbatch", "--parsable", f"--chdir={held_runs.ROOT}"),
      *(*RESOURCES, "--time=10", f"--output={run.log}", *options),
      *("launch/slurm.sbatch", *run.arguments),
      **run.variables,
    )
  )


def until_ended(slurm, number) -> dict[str, str]:
  """What Slurm tells of a job that has ended, or will not run again."""
  states = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT")
  slurm.until(lambda: slurm.job(number)["JobState"] in states, PATIENCE)
  return slurm.job(number)


@pytest.fixture(scope="module")
def limited(slurm, tmp_path_factory):
  """A job that gets its TERM ahead of the limit while others are tested.

  That is 10 s after its start, rounded up to Slurm's next look at all jobs,
  one in every 30 s.
  """
  run = HeldRun(tmp_path_factory.mktemp("limited"))
  return run, submit(slurm, run, "--signal=TERM@590")


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
def test_a_cancelled_job_saves_and_does_not_come_back(slurm, tmp_path):
  run = HeldRun(tmp_path)
  number = submit(slurm, run)
  run.until_held()
  slurm.ask("scancel", str(number))
  run.until_said("SIGTERM: stops and saves", times=2)
  run.go_on()
  job = until_ended(slurm, number)
  assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0"), run.said()
  run.until_said("==> saved; the job is COMPLETING and does not go back")
  assert HELD_AT <= run.saved() < UPDATES
  assert f"update {run.saved()} is saved" in run.said()


@pytest.mark.slow
@pytest.mark.usefixtures("limited")
def test_a_killed_task_ends_the_job_and_the_next_one_resumes(slurm, tmp_path):
  run = HeldRun(tmp_path)
  number = submit(slurm, run)
  run.until_held()
  run.kill(SLURM_PROCID="1")
  job = until_ended(slurm, number)
  ended = [job[name] for name in ("JobState", "ExitCode", "Restarts")]
  assert ended == ["FAILED", f"{128 + signal.SIGKILL}:0", "0"], run.said()
  assert run.saved() == HELD_AT - 2
  run.go_on()
  job = until_ended(slurm, submit(slurm, run))
  assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), run.said()
  assert f"update {HELD_AT - 2} to {UPDATES} of" in run.said()
  assert [step for step, _ in run.losses()] == list(range(1, UPDATES + 1))


@pytest.mark.slow
def test_a_job_that_comes_to_its_limit_saves_and_resumes(
  slurm, limited, tmp_path
):
  run, number = limited
  run.until_said("SIGTERM: stops and saves", times=2)
  # It would come again 10 s after the next start, however far that has got.
  slurm.ask("scontrol", "update", f"JobId={number}", "TimeLimit=60")
  run.go_on()
  job = until_ended(slurm, number)
  assert (job["JobState"], job["ExitCode"]) == ("COMPLETED", "0:0"), run.said()
  # Once; more often where it takes so long to start that TERM comes before,
  # and then there may be nothing to save yet.
  preemptions = run.said().count("==> preempted: back into the queue")
  # Both tasks say what is saved, and process 0 at which update each start is.
  saved = re.findall(r"update (\d+) is saved, .* \(exit code 75\)", run.said())
  assert saved[::2] == saved[1::2]
  starts = re.findall(rf"in 2 processes, update (\d+) to {UPDATES}", run.said())
  assert starts == ["0", *saved[::2]], run.said()
  assert int(job["Restarts"]) == preemptions >= len(saved[::2]) >= 1
  # One process that nobody stops trains alike.
  runs.train_tiny(tmp_path, **held_runs.OVERRIDES)
  alone = [
    (step, value)
    for name, step, value in runs.read_scalars(tmp_path)
    if name == "train/lm_loss"
  ]
  assert [step for step, _ in alone] == list(range(1, UPDATES + 1))
  np.testing.assert_allclose(run.losses(), alone, rtol=1e-4)


def test_nothing_of_slurm_outlives_its_user(slurm, tmp_path):
  del slurm  # Where none can be started it has skipped by now.
  with one_node_slurm.running() as other:
    stubborn = "trap '' TERM; while :; do sleep 1; done"
    options = ("--parsable", f"--chdir={tmp_path}", f"--wrap={stubborn}")
    number = int(other.ask("sbatch", *options))
    other.until(lambda: other.job(number)["JobState"] == "RUNNING", 60)
    pids = other.processes()
    assert len(pids) > len(("munged", "slurmctld", "slurmd", "the job"))
  assert [pid for pid in pids if is_alive(pid)] == []
  assert not pathlib.Path(other.environment["SLURM_CONF"]).parent.exists()

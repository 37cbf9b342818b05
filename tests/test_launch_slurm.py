"""launch/slurm.sbatch, with programs that play srun, squeue and scontrol."""

import re
import shutil

import pytest

from tests.launch_scripts import LAUNCH, fake_program, run

# Of `sbatch --help`, those that a script like ours may use.
SBATCH_OPTIONS = {
  "account",
  "constraint",
  "cpus-per-task",
  "exclusive",
  "gpus-per-node",
  "job-name",
  "mem",
  "nodes",
  "ntasks-per-node",
  "open-mode",
  "output",
  "partition",
  "requeue",
  "signal",
  "time",
}


def sbatch_directives() -> dict[str, str]:
  text = (LAUNCH / "slurm.sbatch").read_text()
  # sbatch stops reading at the first line that is no comment.
  head = re.match(r"((#.*)?\n)+", text)[0]
  assert head.count("#SBATCH") == text.count("#SBATCH")
  found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", head, re.M)
  assert len(found) == head.count("#SBATCH")
  return dict(found)


def test_sbatch_directives_ask_for_a_task_per_gpu_that_may_be_requeued():
  directives = sbatch_directives()
  assert set(directives) <= SBATCH_OPTIONS
  assert directives["gpus-per-node"] == directives["ntasks-per-node"]
  assert directives["signal"] == "TERM@120"
  assert directives["requeue"] == ""
  assert directives["open-mode"] == "append"


def test_srun_gets_the_processors_of_a_task():
  flags = ("--dry-run", "-m", "x")
  _, out, _ = run("slurm.sbatch", *flags, SLURM_CPUS_PER_TASK="6")
  assert "\nsrun --kill-on-bad-exit=1 --cpus-per-task=6 bash -c " in out


@pytest.mark.parametrize(
  ("code", "state", "requeued"),
  [
    (0, "RUNNING None", 0),
    (1, "RUNNING None", 0),
    (75, "RUNNING None", 1),
    (75, "COMPLETING None", 0),  # After scancel.
    (75, "COMPLETING TimeLimit", 1),  # Saved after the limit, before the KILL.
  ],
)
def test_slurm_requeues_a_preempted_run_only(tmp_path, code, state, requeued):
  fake_program(
    tmp_path,
    "squeue",
    f'[[ $* == "--noheader --jobs=7 --format=%T %r" ]] && echo {state}',
  )
  fake_program(
    tmp_path, "srun", f'echo "$NCCL_DEBUG" "$@" >"{tmp_path}/srun"; exit {code}'
  )
  path = fake_program(
    tmp_path, "scontrol", f'echo "$@" >>"{tmp_path}/scontrol"'
  )
  # What Slurm runs is a copy, in a folder of its own.
  script = shutil.copy(LAUNCH / "slurm.sbatch", tmp_path / "slurm_script")
  result, _, _ = run(script, "-m", "x", PATH=path, SLURM_JOB_ID="7")
  assert result == code
  assert (tmp_path / "srun").read_text().startswith("WARN --kill-on-bad-exit=1")
  log = tmp_path / "scontrol"
  assert (log.read_text() if log.exists() else "") == requeued * "requeue 7\n"


# Stands for Python, and for Slurm, which signals the shell around it too.
STARTING = "kill -s TERM $PPID $$; sleep 20"
KILLED = "kill -s TERM $$; sleep 20"


@pytest.mark.parametrize(("python", "code"), [(STARTING, 75), (KILLED, 143)])
def test_a_task_that_was_still_starting_is_preempted(tmp_path, python, code):
  fake_program(tmp_path, "python", python)
  fake_program(tmp_path, "srun", 'shift; "$@"')
  fake_program(tmp_path, "squeue", "echo RUNNING None")
  path = fake_program(tmp_path, "scontrol", "exit 0")
  variables = {"PATH": path, "PYTHON": "python"}
  result, _, said = run(
    "slurm.sbatch", "-m", "x", SLURM_JOB_ID="7", **variables
  )
  assert result == code
  assert ("preempted: back into the queue" in said) == (code == 75)

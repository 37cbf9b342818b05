"""The scripts of launch/: linted, told to explain themselves, and run.

Clusters are played by programs that the tests put first on the PATH.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
LIBRARIES = {LAUNCH / "common.sh", LAUNCH / "supervise.sh"}
SCRIPTS = sorted({*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch"} - LIBRARIES)
PREEMPTED = 75
TPU = ("--name=t", "--zone=z")


def tool(name: str) -> str:
  """A program of the test extra; a missing one fails the test."""
  here = pathlib.Path(sys.executable).parent
  path = shutil.which(name, path=f"{here}{os.pathsep}{os.environ['PATH']}")
  assert path, f"{name} is missing: pip install -e '.[test]'"
  return path


def environment(**variables: object) -> dict[str, str]:
  unset = ("PYTHON", "SLURM_JOB_ID", "JAX_PLATFORMS", "NCCL_DEBUG")
  inherited = {k: v for k, v in os.environ.items() if k not in unset}
  return inherited | {k: str(v) for k, v in variables.items()}


@contextlib.contextmanager
def started(
  script: str, *args: str, **variables: object
) -> Iterator[subprocess.Popen]:
  """A running script; it does not outlive the test."""
  process = subprocess.Popen(
    ["bash", f"launch/{script}", *args],
    cwd=LAUNCH.parent,
    env=environment(**variables),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  with process:
    try:
      yield process
    finally:
      if process.poll() is None:
        process.kill()


def run(script: str, *args: str, **variables: object) -> tuple[int, str, str]:
  """Exit code, stdout and stderr."""
  with started(script, *args, **variables) as process:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def is_alive(pid: int) -> bool:
  """Whether it runs; who waits for its parent to ask no longer does."""
  try:
    status = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    return False
  return status.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def fakes(tmp_path):
  """Puts a program first on the PATH: fakes(name, script of bash)."""
  folder = tmp_path / "bin"
  folder.mkdir()

  def make(name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{textwrap.dedent(body)}")
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"

  return make


def python_program(tmp_path, body: str) -> str:
  """A program for the processes; `me` is their number."""
  path = tmp_path / "program.py"
  start = """\
    import os, pathlib, signal, sys, time
    flags = dict(a.split("=") for a in sys.argv[1:] if "=" in a)
    me = int(flags["--process-id"])
    pathlib.Path(__file__).with_name(f"pid{me}").write_text(str(os.getpid()))
    """
  path.write_text(textwrap.dedent(start) + textwrap.dedent(body))
  return str(path)


# --- all of them


def test_shellcheck_finds_nothing():
  command = [tool("shellcheck"), "-x", *map(str, [*SCRIPTS, *LIBRARIES])]
  done = subprocess.run(
    command, cwd=LAUNCH.parent, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_shows_usage_with_dry_run_and_does_nothing(script):
  code, out, err = run(script.name, "--help", PATH="/usr/bin:/bin")
  assert (code, err) == (0, "")
  assert out.startswith("usage: ")
  assert "--dry-run" in out
  assert f"launch/{script.name}" in out


@pytest.mark.parametrize(
  ("script", "args", "error"),
  [
    ("local_multiprocess.sh", ["--process=2"], "'--process=2'"),
    ("local_multiprocess.sh", ["--", "-c", ""], "expected --processes=N"),
    ("local_multiprocess.sh", ["--processes=x", "--", "a"], "got 'x'"),
    ("local_multiprocess.sh", ["--processes=2"], "arguments of Python"),
    ("ssh_hosts.sh", ["--", "a"], "expected --hosts"),
    ("ssh_hosts.sh", ["--hosts=a", "--env=X", "--", "a"], "'--env=X'"),
    ("ssh_hosts.sh", ["--hosts-file=/nowhere", "--", "a"], "'/nowhere'"),
    ("slurm.sbatch", [], "arguments of Python"),
    ("slurm.sbatch", ["-m", "x"], "submit it with sbatch"),
    ("tpu_vm.sh", ["run", "--name=a", "--zone=z"], "arguments of Python"),
    ("tpu_vm.sh", ["stop", "--name=a"], "expected --zone"),
    ("tpu_queued_resource.sh", ["delete", "--zone=z"], "expected --name"),
    ("tpu_queued_resource.sh", ["crate"], "'crate'"),
    ("gke.sh", ["apply", "--", "a"], "expected --image"),
    ("gke.sh", ["status", "--name=A_B"], "got 'A_B'"),
    ("env_gpu.sh", [], "to be sourced"),
  ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(script, args, error):
  code, out, err = run(script, *args)
  assert (code, out) == (2, "")
  assert err.startswith("error: ")
  assert err.count("\n") == 1
  assert error in err


DRY_RUNS = {
  "local_multiprocess.sh": (
    ["--processes=2", "--devices=4", "--port=99", "--dry-run"],
    ["--", "-m", "hrm_jax.train", "--workdir=a b"],
    """\
    env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 python3 -m hrm_jax.train \
'--workdir=a b' --coordinator=127.0.0.1:99 --num-processes=2 --process-id=0
    env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 python3 -m hrm_jax.train \
'--workdir=a b' --coordinator=127.0.0.1:99 --num-processes=2 --process-id=1
    """,
  ),
  "slurm.sbatch": (
    ["--dry-run"],
    ["-m", "hrm_jax.train", "--workdir=r"],
    """\
    sbatch launch/slurm.sbatch -m hrm_jax.train --workdir=r
    source launch/env_gpu.sh
    srun --kill-on-bad-exit=1 bash -c 'trap : TERM; "$@"; code=$?; \
((code != 75)) || sleep 10; exit "$code"' task python3 -m hrm_jax.train \
--workdir=r
    scontrol requeue "$SLURM_JOB_ID"  # on exit code 75
    """,
  ),
  "tpu_vm.sh": (
    ["run", *TPU, "--dry-run"],
    ["--", "-m", "hrm_jax.train"],
    """\
    gcloud compute tpus tpu-vm ssh t --zone=z --worker=all \
'--command=cd ~/hrm_jax && echo $$ >.run.pid && exec .venv/bin/python -m \
hrm_jax.train'
    """,
  ),
  "tpu_queued_resource.sh": (
    ["run", *TPU, "--accelerator=v6e-8", "--dry-run"],
    ["--", "-m", "hrm_jax.train"],
    """\
    gcloud compute tpus queued-resources create t --zone=z --node-id=t \
--accelerator-type=v6e-8 --runtime-version=v2-alpha-tpuv5-lite --spot
    gcloud compute tpus queued-resources describe t --zone=z \
'--format=value(state.state)'
    bash launch/tpu_vm.sh setup --name=t --zone=z
    bash launch/tpu_vm.sh run --name=t --zone=z -- -m hrm_jax.train
    """,
  ),
  "gke.sh": (
    ["apply", "--image=i:1", "--hosts=4", "--dry-run"],
    ["--", "-m", "hrm_jax.train"],
    """\
    bash launch/gke.sh render --name=hrm-jax --image=i:1 --hosts=4 \
--accelerator=nvidia-h100-80gb --devices=8 --claim=hrm-runs -- -m \
hrm_jax.train | kubectl apply -f -
    """,
  ),
  "env_gpu.sh": (
    ["--dry-run"],
    [],
    """\
    export XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
    export JAX_OPTIMIZATION_LEVEL=O1
    export JAX_COMPILATION_CACHE_DIR=/home/me/.cache/hrm_jax
    export NCCL_DEBUG=WARN
    """,
  ),
  "quickstart.sh": (
    ["--dry-run", "--workdir=/w"],
    [],
    """\
    .venv/bin/python -m pip install -q -e .
    .venv/bin/python -m hrm_jax.train --config=configs/sudoku.py:mini \
--workdir=/w
    .venv/bin/python -m hrm_jax.evaluate --workdir=/w
    .venv/bin/python -m hrm_jax.solve --workdir=/w .41..3.231....31
    """,
  ),
  "test.sh": (
    ["--dry-run", "tests/test_data.py"],
    [],
    """\
    rm -rf .venv-test
    PYTHON -m venv .venv-test
    .venv-test/bin/python -m pip install -q -e '.[test]'
    .venv-test/bin/ruff check --config 'extend-exclude=[".venv-test"]'
    .venv-test/bin/ruff format --check --config \
'extend-exclude=[".venv-test"]'
    .venv-test/bin/python -m pytest -m 'not gpu' tests/test_data.py
    """,
  ),
}
NEEDS_PYTHON = ("quickstart.sh", "test.sh")


@pytest.mark.parametrize("script", DRY_RUNS)
def test_dry_run_prints_exactly_the_commands(script):
  flags, args, expected = DRY_RUNS[script]
  python = {"PYTHON": sys.executable} if script in NEEDS_PYTHON else {}
  code, out, _ = run(script, *flags, *args, HOME="/home/me", **python)
  assert code == 0
  lines = [shlex.split(line) for line in out.splitlines()]
  wanted = textwrap.dedent(expected).replace("PYTHON", sys.executable, 1)
  if script == "env_gpu.sh":
    wanted = textwrap.dedent(expected)
  if script == "quickstart.sh":  # Makes .venv only where there is none.
    lines = [words for words in lines if "venv" not in words]
  assert lines == [shlex.split(line) for line in wanted.splitlines()]


def test_every_script_has_its_dry_run_checked():
  assert {*DRY_RUNS, "ssh_hosts.sh"} == {path.name for path in SCRIPTS}


def test_the_readme_names_every_file():
  text = (LAUNCH / "README.md").read_text(encoding="utf-8")
  names = {path.name for path in LAUNCH.iterdir() if path.is_file()}
  assert {name for name in names - {"README.md"} if name not in text} == set()


# --- several processes on this machine


def local(program: str, *flags: str, **variables: object):
  args = ("--processes=2", *flags, "--", program)
  return run("local_multiprocess.sh", *args, PYTHON=sys.executable, **variables)


def test_every_process_gets_its_number_and_its_devices(tmp_path):
  program = python_program(
    tmp_path,
    """
    print(me, flags["--num-processes"], os.environ["JAX_NUM_CPU_DEVICES"],
          os.environ["JAX_PLATFORMS"], flags["--coordinator"])
    """,
  )
  code, out, err = local(program, "--devices=3", "--port=4567")
  assert code == 0
  assert out == "0 2 3 cpu 127.0.0.1:4567\n"
  assert err == "[1] 1 2 3 cpu 127.0.0.1:4567\n"


def test_without_devices_the_environment_decides(tmp_path):
  program = python_program(tmp_path, 'print(os.getenv("JAX_PLATFORMS"))')
  assert local(program, JAX_PLATFORMS="tpu")[1] == "tpu\n"


def test_a_failing_process_ends_the_others_and_gives_its_exit_code(tmp_path):
  program = python_program(
    tmp_path,
    """
    if me == 1:
      while not pathlib.Path(__file__).with_name("pid0").exists():
        time.sleep(0.05)
      sys.exit(7)
    time.sleep(200)
    """,
  )
  code, _, err = local(program)
  assert code == 7
  assert "process 1 exited with code 7" in err
  assert not is_alive(int((tmp_path / "pid0").read_text()))


def test_who_ignores_the_end_is_killed_after_the_grace(tmp_path):
  program = python_program(
    tmp_path,
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready = pathlib.Path(__file__).with_name("ready")
    if me == 1:
      while not ready.exists():
        time.sleep(0.05)
      sys.exit(7)
    ready.touch()
    time.sleep(200)
    """,
  )
  code, _, err = local(program, "--grace=1")
  assert code == 7
  assert "process 0 did not end within 1 s: killed" in err
  assert not is_alive(int((tmp_path / "pid0").read_text()))


def test_a_preempted_process_leaves_the_others_time_to_save(tmp_path):
  program = python_program(
    tmp_path,
    """
    if me == 0:
      time.sleep(0.5)
      print("saved")
    sys.exit(75)
    """,
  )
  code, out, _ = local(program)
  assert (code, out) == (PREEMPTED, "saved\n")


WAITS_FOR_A_SIGNAL = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(76))
    print("ready", flush=True)
    time.sleep(200)
    """


@pytest.mark.parametrize(
  ("number", "expected"), [(signal.SIGTERM, 75), (signal.SIGINT, 76)]
)
def test_a_signal_reaches_every_process(tmp_path, number, expected):
  program = python_program(tmp_path, WAITS_FOR_A_SIGNAL)
  args = ("--processes=2", "--", program)
  with started(
    "local_multiprocess.sh", *args, PYTHON=sys.executable
  ) as process:
    assert process.stdout.readline() == "ready\n"
    assert process.stderr.readline() == "[1] ready\n"
    process.send_signal(number)
    process.communicate(timeout=30)
  assert process.returncode == expected
  for name in ("pid0", "pid1"):
    assert not is_alive(int((tmp_path / name).read_text()))


# --- plain ssh

FAKE_SSH = """
    shift 4  # -o ... -o ...
    if [[ $1 == down ]]; then echo "no route to host" >&2; exit 255; fi
    exec setsid sh -c "$2"
    """


def ssh_flags(tmp_path, *more: str) -> tuple[str, ...]:
  return ("--hosts=a,me@b", f"--dir={tmp_path}", *more, "--")


def test_ssh_dry_run_prints_one_command_for_each_host(tmp_path):
  code, out, _ = run(
    "ssh_hosts.sh", "--dry-run", *ssh_flags(tmp_path, "--env=X=a b"), "-m", "x"
  )
  assert code == 0
  commands = [shlex.split(line) for line in out.splitlines()]
  assert [words[:6] for words in commands] == [
    ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", host]
    for host in ("a", "me@b")
  ]
  for i, words in enumerate(commands):
    assert words[6].startswith(
      f"cd {tmp_path} && grace=120 && set -- env X=a\\ b python3 -m x "
      f"--coordinator=a:5510 --num-processes=2 --process-id={i} && "
    )


def test_the_hosts_file_may_hold_comments(tmp_path):
  hosts = tmp_path / "hosts"
  hosts.write_text("# rack 1\nn1\n\nn2 # slow\n")
  _, out, _ = run(
    "ssh_hosts.sh", f"--hosts-file={hosts}", "--dry-run", "--", "-m", "x"
  )
  assert [shlex.split(line)[5] for line in out.splitlines()] == ["n1", "n2"]


def test_ssh_runs_the_command_word_by_word(tmp_path, fakes):
  path = fakes("ssh", FAKE_SSH)
  program = python_program(tmp_path, 'print(os.getcwd(), os.environ["X"])')
  code, out, err = run(
    "ssh_hosts.sh",
    *ssh_flags(tmp_path, "--env=X=it's $HOME"),
    program,
    PATH=path,
    PYTHON=sys.executable,
  )
  assert (code, out) == (0, f"{tmp_path} it's $HOME\n")
  assert err == f"[1] {tmp_path} it's $HOME\n"


def test_a_host_that_is_down_ends_the_others(tmp_path, fakes):
  path = fakes("ssh", FAKE_SSH)
  program = python_program(tmp_path, "time.sleep(200)")
  code, _, err = run(
    "ssh_hosts.sh",
    *("--hosts=a,down", f"--dir={tmp_path}", "--", program),
    PATH=path,
    PYTHON=sys.executable,
  )
  assert code == 255
  assert "[1] no route to host" in err
  if (tmp_path / "pid0").exists():  # It may not have come that far.
    assert not is_alive(int((tmp_path / "pid0").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_preempts_the_processes_on_all_hosts(tmp_path, fakes, number):
  path = fakes("ssh", FAKE_SSH)
  program = python_program(tmp_path, WAITS_FOR_A_SIGNAL)
  args = (*ssh_flags(tmp_path), program)
  with started(
    "ssh_hosts.sh", *args, PATH=path, PYTHON=sys.executable
  ) as process:
    assert process.stdout.readline() == "ready\n"
    assert process.stderr.readline() == "[1] ready\n"
    process.send_signal(number)
    process.communicate(timeout=30)
  assert process.returncode == PREEMPTED
  for name in ("pid0", "pid1"):
    assert not is_alive(int((tmp_path / name).read_text()))


# --- Slurm

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


@pytest.mark.parametrize(("code", "requeued"), [(0, 0), (1, 0), (75, 1)])
def test_slurm_requeues_a_preempted_run_only(tmp_path, fakes, code, requeued):
  fakes("srun", f'echo "$NCCL_DEBUG" "$@" >{tmp_path}/srun; exit {code}')
  path = fakes("scontrol", f'echo "$@" >>{tmp_path}/scontrol')
  result, _, _ = run("slurm.sbatch", "-m", "x", PATH=path, SLURM_JOB_ID="7")
  assert result == code
  assert (tmp_path / "srun").read_text().startswith("WARN --kill-on-bad-exit=1")
  log = tmp_path / "scontrol"
  assert (log.read_text() if log.exists() else "") == requeued * "requeue 7\n"


# --- Cloud TPU


def fake_gcloud(fakes, tmp_path) -> str:
  """A zone in which the first TPU is taken away during its run."""
  return fakes(
    "gcloud",
    f"""
    cd {tmp_path}
    echo "$*" >>log
    case "$*" in
      *describe*) cat state || exit 1 ;;
      *"queued-resources create"*) echo ACTIVE >state ;;
      *"queued-resources delete"*) rm state ;;
      *"kill -TERM"*) kill -TERM "$(cat pid)" ;;
      *exec*)
        if [[ ! -e taken ]]; then
          touch taken
          echo SUSPENDED >state
          exit 255
        fi
        echo "$$" >pid
        trap 'exit 75' TERM
        echo ready
        sleep 50 >/dev/null 2>&1 &
        wait
        ;;
    esac
    """,
  )


def test_a_tpu_that_was_taken_away_is_queued_for_again(tmp_path, fakes):
  path = fake_gcloud(fakes, tmp_path)
  args = ("run", *TPU, "--", "-m", "x")
  with started(
    "tpu_queued_resource.sh", *args, PATH=path, TMPDIR=tmp_path
  ) as process:
    assert process.stdout.readline() == "ready\n"
    # And TERM stops the run over there, which is waited for.
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
  assert process.returncode == PREEMPTED, err
  verbs = re.findall(
    r"queued-resources (\w+)|kill (-TERM)|(exec)",
    (tmp_path / "log").read_text(),
  )
  assert " ".join("".join(verb) for verb in verbs) == (
    "describe create describe exec "
    "describe describe delete "
    "describe create describe exec -TERM"
  )


def test_a_mistake_of_the_run_is_not_repeated_on_the_tpu(tmp_path, fakes):
  path = fakes(
    "gcloud",
    """
    case "$*" in *describe*) echo ACTIVE ;; *exec*) exit 2 ;; esac
    """,
  )
  code, _, err = run(
    "tpu_queued_resource.sh",
    *("run", *TPU, "--", "-m", "x"),
    PATH=path,
    TMPDIR=tmp_path,
  )
  assert code == 2, err


# --- Kubernetes


def render(*flags: str) -> dict:
  code, out, err = run("gke.sh", "render", *flags)
  assert (code, err) == (0, "")
  return yaml.safe_load(out)


EXAMPLE = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
ARGS = EXAMPLE["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
  "spec"
]["containers"][0]["args"]
TRAINING = ("--", *ARGS[:4])


def check_jobset(jobset: dict, folder: pathlib.Path) -> dict:
  """What the JobSet controller asks for; returns the spec of the job."""
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert jobset["kind"] == "JobSet"
  assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
  spec = jobset["spec"]
  assert set(spec) == {"failurePolicy", "network", "replicatedJobs"}
  assert set(spec["network"]) == {
    "enableDNSHostnames",
    "publishNotReadyAddresses",
  }
  policy = spec["failurePolicy"]
  assert set(policy) == {"maxRestarts", "rules"}
  for rule in policy["rules"]:
    assert set(rule) == {"name", "action", "onJobFailureReasons"}
    assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
  (replicated,) = spec["replicatedJobs"]
  assert set(replicated) == {"name", "replicas", "template"}
  job = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "job"},
    **replicated["template"],
  }
  path = folder / "job.yaml"
  path.write_text(yaml.safe_dump(job))
  done = subprocess.run(
    [tool("kubernetes-validate"), "--strict", str(path)],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return job["spec"]


def test_the_example_is_a_valid_jobset(tmp_path):
  check_jobset(EXAMPLE, tmp_path)


def test_preemption_restarts_all_pods_however_often(tmp_path):
  job = check_jobset(EXAMPLE, tmp_path)
  codes, disruption = job["podFailurePolicy"]["rules"]
  assert codes["action"] == disruption["action"] == "FailJob"
  assert codes["onExitCodes"]["values"] == [PREEMPTED]
  assert disruption["onPodConditions"][0]["type"] == "DisruptionTarget"
  # The reason that a job fails for when FailJob matched.
  (rule,) = EXAMPLE["spec"]["failurePolicy"]["rules"]
  assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
  assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
  assert job["backoffLimit"] == 0
  assert job["completionMode"] == "Indexed"
  assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_rendered_with_the_defaults_it_is_the_example():
  assert render(*TRAINING) == EXAMPLE


def test_rendering_fills_in_hosts_and_arguments(tmp_path):
  jobset = render(
    *("--name=maze", "--image=r/i:2", "--hosts=5", "--devices=4"),
    *("--accelerator=nvidia-l4", "--claim=disk", "--", "-c", 'say "\\$"'),
  )
  job = check_jobset(jobset, tmp_path)
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  assert (job["completions"], job["parallelism"]) == (5, 5)
  assert container["image"] == "r/i:2"
  assert container["args"] == [
    "-c",
    'say "\\$"',
    "--coordinator=maze-train-0-0.maze:5510",
    "--num-processes=5",
    "--process-id=$(PROCESS_ID)",
  ]
  assert container["resources"]["limits"] == {"nvidia.com/gpu": 4}
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-accelerator": "nvidia-l4"
  }
  assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "disk"}


def test_on_tpus_jax_finds_the_hosts_itself(tmp_path):
  jobset = render("--tpu-topology=2x4", "--", "-m", "hrm_jax.train")
  pod = check_jobset(jobset, tmp_path)["template"]["spec"]
  (container,) = pod["containers"]
  assert container["args"] == ["-m", "hrm_jax.train"]
  assert container["resources"]["limits"] == {"google.com/tpu": 4}
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
    "cloud.google.com/gke-tpu-topology": "2x4",
  }
  assert "annotations" in jobset["metadata"]


# --- the image


def test_hadolint_finds_nothing_in_the_dockerfile():
  done = subprocess.run(
    [tool("hadolint"), str(LAUNCH / "Dockerfile")],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_both_targets_and_what_setup_cfg_packages():
  text = (LAUNCH / "Dockerfile").read_text()
  assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.M) == [
    "base",
    "gpu",
    "tpu",
  ]
  root = LAUNCH.parent
  for source in re.findall(r"^COPY (.+) \S+$", text, re.M):
    assert all((root / name).exists() for name in source.split())
  for extra in ("gpu", "tpu"):
    assert f"'.[{extra}]'" in text


def test_the_image_has_the_settings_of_env_gpu():
  _, out, _ = run("env_gpu.sh", "--dry-run")
  text = (LAUNCH / "Dockerfile").read_text()
  for line in out.splitlines():
    setting = shlex.split(line)[1]
    # In a container the home directory does not outlive the run.
    assert setting in text or setting.startswith("JAX_COMPILATION_CACHE_DIR=")


def test_settings_made_before_stay():
  done = subprocess.run(
    ["bash", "-euc", 'source launch/env_gpu.sh; echo "$NCCL_DEBUG" "$@"', "x"],
    cwd=LAUNCH.parent,
    env=environment(NCCL_DEBUG="INFO"),
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, "INFO\n")

"""All scripts of launch/: linted, told to explain themselves, and dry runs."""

import re
import shlex
import subprocess
import sys
import textwrap

import pytest

from tests.launch_scripts import (
  LAUNCH,
  LIBRARIES,
  PREEMPTED,
  SCRIPTS,
  run,
  tool,
)

TPU = ("--name=t", "--zone=z")


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


@pytest.mark.parametrize("script", sorted(LIBRARIES), ids=lambda p: p.name)
def test_a_part_of_others_says_so_when_it_is_run(script):
  code, out, err = run(script.name, "--help")
  assert (code, err, out.count("\n")) == (0, "", 1)
  assert out.startswith(f"launch/{script.name}: ")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_find_what_they_share_from_any_folder(script, tmp_path):
  done = subprocess.run(
    ["bash", script, "--help"], cwd=tmp_path, capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (0, "")


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
    ("gke.sh", ["render", "--tpu-topology=4", "--", "a"], "got '4'"),
    ("gke.sh", ["render", "--tpu-topology=1x1", "--", "a"], "1 chips do not"),
    (
      "gke.sh",
      ["render", "--tpu-topology=4x4", "--hosts=2", "--", "a"],
      "--hosts: expected 4",
    ),
    ("ssh_hosts.sh", ["--hosts=a, b", "--", "a"], "got 'a, b'"),
    ("ssh_hosts.sh", ["--hosts=a,,b", "--", "a"], "got 'a,,b'"),
    ("ssh_hosts.sh", ["--hosts=a", "--dir=~me/x", "--", "a"], "got '~me/x'"),
    ("ssh_hosts.sh", ["--hosts=a", "--", "a\nb"], "a newline"),
    ("ssh_hosts.sh", ["--hosts=a", "--env=X=a\nb", "--", "a"], "a newline"),
    ("env_gpu.sh", [], "to be sourced"),
    ("reproduce.sh", [], "expected a recipe: sudoku-1k, maze-1k or arc-1"),
    ("reproduce.sh", ["sudoku"], "sudoku-1k, maze-1k or arc-1, got 'sudoku'"),
    ("reproduce.sh", ["arc-1", "maze-1k"], "one recipe, got arc-1 and maze-1k"),
    ("reproduce.sh", ["arc-1"], "expected --source=DIR with checkouts of"),
    ("reproduce.sh", ["maze-1k", "--minutes=x"], "999999999, got 'x'"),
    ("reproduce.sh", ["maze-1k", "--minutes="], "from 1 to 999999999, got ''"),
    ("reproduce.sh", ["maze-1k", "--source=/no"], "a folder, got '/no'"),
    ("reproduce.sh", ["maze-1k", "--results=/no/x"], "there, got '/no/x'"),
    ("reproduce.sh", ["maze-1k", "--", "--workdir=x"], "than --workdir, which"),
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
    srun --kill-on-bad-exit=1 bash -c 'asked=; \
trap asked=yes TERM HUP USR1 USR2; "$@"; code=$?; case $asked$code in \
yes129 | yes138 | yes140 | yes143) code=75 ;; esac; \
((code != 75)) || sleep 10; exit "$code"' task \
python3 -m hrm_jax.train --workdir=r
    scontrol requeue "$SLURM_JOB_ID"  # on exit code 75, if not cancelled
    """,
  ),
  "tpu_vm.sh": (
    ["run", *TPU, "--dry-run"],
    ["--", "-m", "hrm_jax.train"],
    """\
    gcloud compute tpus tpu-vm ssh t --zone=z --worker=all \
'--command=pid=$(cat ~/hrm_jax/.run.pid 2>/dev/null); left=120; \
[ /proc/$pid/cwd -ef ~/hrm_jax ] && kill -TERM $pid; \
while [ /proc/$pid/cwd -ef ~/hrm_jax ]; do sleep 1; left=$((left - 1)); \
[ $left -gt 0 ] || kill -KILL $pid; done; \
cd ~/hrm_jax && if [ "$(cat .run.id 2>/dev/null)" = ID ]; then \
echo "the connection was lost; the run has stopped" >&2; exit 75; fi && \
echo ID >.run.id && echo $$ >.run.pid && exec .venv/bin/python -m hrm_jax.train'
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
  "reproduce.sh": (
    ["sudoku-1k", "--workdir=/w", "--results=/r.md", "--minutes=9"],
    ["--dry-run", "--", "--config.lr=1"],
    """\
    python3 -m data_tools.build_sudoku --output-dir /w/data --seed 0 \
--subsample-size 1000 --num-aug 1000 --keep-ratings
    python3 -m hrm_jax.train --config=configs/sudoku.py --workdir=/w \
--config.data.path= --config.eval.limit=2000 --max-seconds=486 --config.lr=1
    python3 -m hrm_jax.evaluate --workdir=/w --step=best
    python3 -m hrm_jax.plot --workdir /w --out /w/figures
    python3 -m hrm_jax.checkpoint export --workdir=/w --step=best \
--out=/w/model --dtype=bfloat16
    python3 -m hrm_jax.evaluate --model=/w/model --data=/w/data
    python3 launch/reproduced.py row --workdir=/w --task=sudoku-1k \
--results=/r.md '--command=bash launch/reproduce.sh sudoku-1k --minutes=9 -- \
--config.lr=1'
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
    .venv-test/bin/python -m pyright --pythonpath .venv-test/bin/python
    .venv-test/bin/python -m pytest -n 2 --dist loadfile \
      --no-loadscope-reorder -m 'not gpu' tests/test_data.py
    """,
  ),
}
NEEDS_PYTHON = ("quickstart.sh", "test.sh")


@pytest.mark.parametrize("script", DRY_RUNS)
def test_dry_run_prints_exactly_the_commands(script):
  flags, args, expected = DRY_RUNS[script]
  python = {"PYTHON": sys.executable} if script in NEEDS_PYTHON else {}
  code, out, _ = run(script, *flags, *args, **python)
  assert code == 0
  out = re.sub(r"\b\d{10,}\.\d+\b", "ID", out)  # Of tpu_vm.sh: time and number.
  lines = [shlex.split(line) for line in out.splitlines()]
  python_word = shlex.quote(sys.executable)
  wanted = textwrap.dedent(expected).replace("PYTHON", python_word, 1)
  if script == "env_gpu.sh":
    wanted = textwrap.dedent(expected)
  if script == "quickstart.sh":  # Makes .venv only where there is none.
    lines = [words for words in lines if "venv" not in words]
  assert lines == [shlex.split(line) for line in wanted.splitlines()]


def test_the_tests_install_the_extras_that_they_are_told():
  told = {"PYTHON": sys.executable, "EXTRAS": "test,tpu"}
  _, out, _ = run("test.sh", "--dry-run", **told)
  install = shlex.split(out.splitlines()[2])
  assert install[-2:] == ["-e", ".[test,tpu]"]


@pytest.mark.parametrize("extras", ["tpu", "test,", "test tpu", "test;id"])
def test_extras_that_cannot_be_or_lack_the_tests_give_one_line(extras):
  code, out, err = run("test.sh", "--dry-run", EXTRAS=extras)
  assert (code, out, err.count("\n")) == (2, "", 1)
  assert f"test among them, got '{extras}'" in err


@pytest.mark.parametrize("script", ["common.sh", "slurm.sbatch"])
def test_preemption_has_the_exit_code_of_hrm_jax(script):
  text = (LAUNCH / script).read_text()
  codes = re.findall(r"PREEMPTED=(.*)|code != ([0-9]+)", text)
  assert {"".join(code) for code in codes} == {str(PREEMPTED)}


def test_every_script_has_its_dry_run_checked():
  assert {*DRY_RUNS, "ssh_hosts.sh"} == {path.name for path in SCRIPTS}


def test_the_readme_names_every_file():
  text = (LAUNCH / "README.md").read_text(encoding="utf-8")
  names = {path.name for path in LAUNCH.iterdir() if path.is_file()}
  assert {name for name in names - {"README.md"} if name not in text} == set()

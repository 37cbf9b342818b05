"""launch/healthcheck.py: healthy machines, and the one reason otherwise.

It runs as a program of its own, without anything of hrm_jax.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from hrm_jax.data import puzzle
from tests import ports

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / "launch" / "healthcheck.py"
# A busy machine is no sick one.
PATIENT = "--timeout=240"


def start(*flags: object, **variables: str) -> subprocess.Popen:
  # Elsewhere than the repository: it has to stand alone.
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), *map(str, flags)],
    cwd="/",
    env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": ""} | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def start_until(line: str, *flags: object) -> subprocess.Popen:
  """Returns when it has said so much; the roll call is next."""
  process = start(*flags)
  while not process.stderr.readline().startswith(line):
    assert process.poll() is None
  return process


# Fails, and not before it has said that its data is fine.
FULL_DISK = "--min-free-gb=1e9"


def finish(process: subprocess.Popen) -> tuple[int, dict, str]:
  """Exit code, the JSON object of the last line, and stderr."""
  with process:
    out, err = process.communicate(timeout=280)
  return process.returncode, json.loads(out.splitlines()[-1]), err


def check(*flags: object, **variables: str) -> tuple[int, dict, str]:
  return finish(start(*flags, **variables))


def reason_for(*flags: object, **variables: str) -> str:
  """Why a check failed, which it has to, in one line."""
  code, result, err = check(*flags, **variables)
  assert (code, result["ok"]) == (1, False)
  assert err.splitlines()[-1] == f"error: {result['reason']}"
  assert "Traceback" not in err
  return result["reason"]


def peers(n: int) -> list[tuple[str, ...]]:
  port = ports.free(1)[0]
  return [
    (
      f"--coordinator=127.0.0.1:{port}",
      f"--num-processes={n}",
      f"--process-id={i}",
    )
    for i in range(n)
  ]


METADATA = '{"sets": ["all"]}'


@pytest.fixture
def data(tmp_path) -> pathlib.Path:
  for name in ("train", "test"):
    split = tmp_path / "data" / name
    split.mkdir(parents=True)
    (split / "dataset.json").write_text(METADATA)
    for field in puzzle.FIELDS:
      (split / f"all__{field}.npy").write_bytes(b"12345678")
  return tmp_path / "data"


def test_a_healthy_machine_passes_every_check(tmp_path, data):
  code, result, err = check(
    PATIENT,
    "--expect-devices=3",
    "--expect-processes=1",
    "--expect-platform=cpu",
    f"--data={data}",
    f"--workdir={tmp_path / 'runs' / 'new'}",
    JAX_NUM_CPU_DEVICES="3",
  )
  assert (code, result["ok"], result["reason"]) == (0, True, None), err
  assert (result["devices"], result["psum"]) == (3, 1 + 2 + 3)
  assert result["data"] == {
    "files": 2 * (1 + 5),
    "bytes": 2 * (len(METADATA) + 5 * 8),
  }
  assert 0 < result["matmul"]["min_tflops"] <= result["matmul"]["max_tflops"]
  assert result["attention"]["xla"] < 0.05
  assert not (tmp_path / "runs").exists()  # It leaves nothing behind.


def test_two_processes_pass_together():
  done = subprocess.run(
    [
      *("bash", "launch/local_multiprocess.sh", "--processes=2", "--devices=2"),
      *("--", str(SCRIPT), PATIENT, "--expect-devices=4", "--json"),
    ],
    cwd=ROOT,
    env=os.environ | {"PYTHON": sys.executable},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  # --json: nothing else is there, of either.
  result = json.loads(done.stdout)
  assert json.loads(done.stderr.removeprefix("[1] "))["process"] == 1
  assert (result["devices"], result["local_devices"]) == (4, 2)
  assert result["processes"] == 2
  assert result["psum"] == 1 + 2 + 3 + 4


def test_a_missing_device_is_the_reason():
  reason = reason_for(PATIENT, "--expect-devices=8", JAX_NUM_CPU_DEVICES="2")
  assert reason.startswith("devices: expected devices 8, found 2: 2 x cpu")


def test_a_gpu_that_jax_cannot_use_is_the_reason():
  reason = reason_for(PATIENT, "--expect-platform=gpu")
  assert reason.startswith("devices: expected platform gpu, found cpu")


def test_a_missing_process_is_the_reason():
  reason = reason_for(PATIENT, "--expect-processes=2")
  assert reason.startswith("devices: expected processes 2, found 1")


def test_process_0_tells_which_peer_is_missing():
  first, second, _ = peers(3)
  process = start_until("ok disk", *second, "--timeout=60")
  reason = reason_for(*first, "--timeout=3")
  assert reason.startswith("peers: process 2 of 3 did not report to 127.0.0.1")
  # And so does, thanks to it, everyone who is there.
  assert finish(process)[1]["reason"] == reason


def test_without_process_0_the_others_say_so():
  reason = reason_for(*peers(2)[1], "--timeout=1")
  assert reason.startswith("peers: process 1 of 2 cannot reach process 0 at")
  assert reason.endswith("refused")


def test_what_is_wrong_with_one_is_heard_by_all(tmp_path):
  first, second = peers(2)
  process = start(*first, "--timeout=60")
  reason = reason_for(*second, "--timeout=60", f"--data={tmp_path / 'gone'}")
  assert reason.startswith("process 1: data: ")
  assert finish(process)[1]["reason"] == reason


def test_who_comes_after_process_0_has_failed_hears_why(data):
  first, second = peers(2)
  failing = ("--timeout=60", f"--data={data}", FULL_DISK)
  process = start_until("ok data", *first, *failing)
  reason = reason_for(*second, "--timeout=20")
  assert reason.startswith("process 0: disk: ")
  assert finish(process)[1]["reason"] == reason


def test_who_comes_after_another_has_failed_hears_why(data, tmp_path):
  first, second, third = peers(3)
  failing = ("--timeout=60", f"--data={data}", FULL_DISK)
  processes = [
    start_until("ok disk", *first, "--timeout=60"),
    start_until("ok data", *second, *failing),
  ]
  reason = reason_for(*third, "--timeout=20", f"--data={tmp_path / 'lost'}")
  assert reason.startswith("process 1: disk: ")  # The first one stays.
  assert [finish(p)[1]["reason"] for p in processes] == [reason] * 2


def test_the_verdict_comes_before_the_first_gives_up():
  first, second, _ = peers(3)
  process = start_until("ok disk", *first, "--timeout=60")
  reason = reason_for(*second, "--timeout=4")
  assert reason.startswith("peers: process 2 of 3 did not report to ")
  assert finish(process)[1]["reason"] == reason


def test_a_process_0_that_gives_no_verdict_is_the_reason():
  flags = peers(2)[1]
  port = int(flags[0].rpartition(":")[2])
  with socket.create_server(("127.0.0.1", port)):  # It listens, no more.
    reason = reason_for(*flags, "--timeout=1")
  assert reason.endswith("but had no verdict of process 0 within 1 s")


def test_two_processes_with_one_number_are_told():
  first, second, _ = peers(3)
  others = [start_until("ok disk", *second, "--timeout=60") for _ in range(2)]
  reason = reason_for(*first, "--timeout=8")
  assert reason == "peers: two processes are process 1"
  assert all(finish(other)[0] == 1 for other in others)


def test_processes_that_disagree_on_their_number_are_told():
  first, second = peers(2)
  process = start(*(f.replace("=2", "=3") for f in second), "--timeout=60")
  assert "was told of 3 processes, process 0 of 2" in reason_for(
    *first, "--timeout=60"
  )
  assert finish(process)[0] == 1


# A step of Slurm with one of its two tasks: JAX finds it by itself, and waits
# where it can only be ended from outside.
HALF_A_STEP = {
  "SLURM_JOB_ID": "1",
  "SLURM_STEP_NODELIST": "localhost",
  "SLURM_NTASKS": "2",
  "SLURM_PROCID": "0",
  "SLURM_LOCALID": "0",
}


def test_a_peer_missing_in_a_detected_cluster_is_the_reason():
  reason = reason_for(
    "--timeout=5", JAX_COORDINATOR_PORT=str(ports.free(1)[0]), **HALF_A_STEP
  )
  assert reason.startswith(("connect: ", "jax: "))
  assert "after 5 s" in reason


def test_a_jax_that_cannot_be_imported_is_the_reason(tmp_path):
  (tmp_path / "jax.py").write_text("import no_such_wheel\n")
  reason = reason_for(PATIENT, PYTHONPATH=str(tmp_path))
  assert reason.startswith("jax: ModuleNotFoundError: No module named 'no_suc")


def test_a_process_that_jax_aborts_still_gives_a_reason(tmp_path):
  # What JAX's coordination client does from C++ when a peer dies.
  (tmp_path / "jax.py").write_text(
    "import os\n"
    "__version__ = 'fake'\n"
    "class distributed:\n"
    "  initialize = staticmethod(lambda *_, **__: os.abort())\n"
  )
  reason = reason_for(PATIENT, PYTHONPATH=str(tmp_path))
  assert "died of SIGABRT while it joined the others" in reason


def test_a_process_that_hangs_is_ended_and_gives_a_reason(tmp_path):
  (tmp_path / "jax.py").write_text(
    "import time\n"
    "__version__ = 'fake'\n"
    "class distributed:\n"
    "  initialize = staticmethod(lambda *_, **__: time.sleep(600))\n"
  )
  reason = reason_for("--timeout=2", PYTHONPATH=str(tmp_path))
  assert "was not done after 2 s" in reason


def test_missing_data_is_the_reason(tmp_path):
  gone = tmp_path / "gone"
  reason = reason_for(f"--data={gone}")
  assert reason == f"data: {gone} is not a directory that I can see"


def test_a_directory_that_holds_no_data_is_the_reason(tmp_path):
  assert "holds no train/dataset.json" in reason_for(f"--data={tmp_path}")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_metadata_is_the_reason(data, split):
  (data / split / "dataset.json").unlink()
  reason = reason_for(f"--data={data}")
  assert reason == f"data: {data} holds no {split}/dataset.json"


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("{sets", "is not JSON: "),
    ('{"sets": []}', "expected a list of names as 'sets', got []"),
    ('{"sets": ["../x"]}', "expected a list of names as 'sets', got ['../x']"),
    ('{"sets": ["a\\u0000"]}', "expected a list of names as 'sets', got "),
    ("[1]", "expected a list of names as 'sets', got None"),
  ],
)
def test_metadata_that_names_no_set_is_the_reason(data, text, reason):
  path = data / "test" / "dataset.json"
  path.write_text(text)
  assert f"data: {path}" in (got := reason_for(f"--data={data}"))
  assert reason in got


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_file_of_a_set_is_the_reason(data, split):
  path = data / split / "all__labels.npy"
  path.unlink()
  reason = reason_for(f"--data={data}")
  assert reason.startswith(f"data: {path} is missing, but the dataset.json")


def test_an_empty_file_of_a_set_is_the_reason(data):
  path = data / "test" / "all__group_indices.npy"
  path.write_bytes(b"")
  assert reason_for(f"--data={data}") == f"data: {path} is empty"


def test_a_file_of_a_set_that_cannot_be_read_is_the_reason(data):
  path = data / "train" / "all__inputs.npy"
  path.unlink()
  path.mkdir()  # Root reads a file without permissions, too.
  reason = reason_for(f"--data={data}")
  assert reason == f"data: {path} cannot be read: Is a directory"


def test_a_full_disk_is_the_reason(tmp_path):
  reason = reason_for(f"--workdir={tmp_path}", "--min-free-gb=1e9")
  assert reason.startswith(f"disk: {tmp_path} has ")
  assert reason.endswith("GB free, expected 1e+09")


def test_a_workdir_below_a_file_is_the_reason(tmp_path):
  (tmp_path / "file").touch()
  reason = reason_for(f"--workdir={tmp_path / 'file' / 'run'}")
  assert "cannot be written to: Not a directory" in reason


@pytest.mark.parametrize(
  "flags",
  [
    ["--coordinator=a:1"],
    ["--coordinator=a", "--num-processes=2", "--process-id=0"],
    ["--coordinator=a:0", "--num-processes=2", "--process-id=0"],
    ["--coordinator=a:65536", "--num-processes=2", "--process-id=0"],
    ["--coordinator=a:1", "--num-processes=2", "--process-id=2"],
  ],
)
def test_wrong_arguments_exit_with_2(flags):
  with start(*flags) as process:
    _, err = process.communicate()
  assert process.returncode == 2
  (line,) = err.splitlines()
  assert line.startswith("error: ")
  assert "Traceback" not in err


def test_dry_run_lists_the_checks_and_runs_none():
  with start("--dry-run", "--data=/nowhere") as process:
    out, err = process.communicate()
  assert (process.returncode, err) == (0, "")
  names = [line.partition(":")[0] for line in out.splitlines()]
  assert names[:3] == ["data", "disk", "roll call"]
  assert names[3:6] == ["jax", "connect", "devices"]
  assert names[6:] == ["psum", "matmul", "attention"]


def test_help_gives_an_example():
  with start("--help") as process:
    out, _ = process.communicate()
  assert process.returncode == 0
  assert "python launch/healthcheck.py --expect-devices=8" in out


@pytest.mark.parametrize("flag", ["--dry-run", "--help"])
def test_a_reader_that_has_enough_hears_no_complaint(flag):
  reads, writes = os.pipe()
  os.close(reads)
  done = subprocess.run(
    [sys.executable, str(SCRIPT), flag], stdout=writes, stderr=subprocess.PIPE
  )
  os.close(writes)
  assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")

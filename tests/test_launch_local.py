"""launch/local_multiprocess.sh, with real processes."""

import shutil
import signal
import subprocess
import sys

import pytest

from tests.launch_scripts import (
  LAUNCH,
  PREEMPTED,
  environment,
  exit_code_on_signal,
  is_alive,
  program_that_waits,
  python_program,
  run,
)


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


@pytest.mark.parametrize(
  ("number", "expected"),
  [
    (signal.SIGTERM, 75),
    (signal.SIGINT, 76),
    (signal.SIGHUP, 75),
    (signal.SIGUSR1, 75),
  ],
)
def test_a_signal_reaches_every_process(tmp_path, number, expected):
  code = exit_code_on_signal(
    number, tmp_path, "local_multiprocess.sh", "--processes=2"
  )
  assert code == expected


def test_a_terminal_that_closes_ends_every_process(tmp_path):
  """Nothing can be said any more, and that must not end the script before."""
  program = program_that_waits(tmp_path)
  ready = "(?s)ready.*ready"  # Both: who is not could not say so any more.
  closed = ["tests.closed_terminal", ready, str(tmp_path / "closed")]
  script = [shutil.which("bash"), "launch/local_multiprocess.sh"]
  done = subprocess.run(
    [sys.executable, "-m", *closed, *script, "--processes=2", "--", program],
    cwd=LAUNCH.parent,
    env=environment(PYTHON=sys.executable),
    check=False,
    timeout=30,
  )
  assert done.returncode == 75
  for name in ("pid0", "pid1"):
    assert not is_alive(int((tmp_path / name).read_text()))


def test_a_python_without_jax_gets_one_line(tmp_path):
  python = tmp_path / "python"
  python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
  python.chmod(0o755)
  code, _, err = run(
    "local_multiprocess.sh", "--processes=2", "--", "-m", "x", PYTHON=python
  )
  assert code == 2
  assert "has no jax; activate its environment, or set PYTHON" in err

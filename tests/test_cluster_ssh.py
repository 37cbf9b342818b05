"""launch/ssh_hosts.sh over a real sshd of this machine."""

import socket
import sys
import time

import pytest

from tests import local_sshd, ports
from tests.held_runs import HELD_AT, PATIENCE, UPDATES, HeldRun
from tests.launch_scripts import PREEMPTED, is_alive, python_program, run

pytestmark = pytest.mark.cluster

HOSTS = "127.0.0.1,localhost"


@pytest.fixture(scope="module")
def silent():
  """The port of somebody who lets connections in and says nothing."""
  with socket.create_server(("127.0.0.1", 0)) as server:
    yield server.getsockname()[1]


@pytest.fixture(scope="module")
def path(silent):
  """A PATH whose `ssh` knows the way to a real sshd, and to host `silent`."""
  if why := local_sshd.missing():
    pytest.skip(why)
  with local_sshd.running(silent=silent) as path:
    yield path


@pytest.mark.slow
def test_a_run_over_ssh_is_preempted_and_resumed(path, tmp_path):
  held = HeldRun(tmp_path)
  # sshd passes no variables on.
  settings = [f"--env={name}={text}" for name, text in held.variables.items()]
  (port,) = ports.free(1)
  launcher = (
    *("bash", "launch/ssh_hosts.sh", f"--hosts={HOSTS}"),
    *(f"--coordinator=127.0.0.1:{port}", *settings, "--"),
  )
  ours = {"PATH": path, "PYTHON": sys.executable}
  with held.started_by(*launcher, **ours) as process:
    held.until_held()
    process.terminate()
    held.until_said("SIGTERM: stops and saves", times=2)
    held.go_on()
    assert process.wait(PATIENCE) == PREEMPTED, held.said()
  saved = held.saved()
  assert HELD_AT <= saved < UPDATES
  with held.started_by(*launcher, **ours) as process:
    assert process.wait(PATIENCE) == 0, held.said()
  assert f"2 x cpu in 2 processes, update {saved} to {UPDATES}" in held.said()
  assert [step for step, _ in held.losses()] == list(range(1, UPDATES + 1))


def test_a_host_that_does_not_answer_ends_the_others(path, tmp_path):
  program = python_program(tmp_path, "time.sleep(200)")
  began = time.monotonic()
  code, _, err = run(
    "ssh_hosts.sh",
    *("--hosts=localhost,silent", "--timeout=3", f"--dir={tmp_path}"),
    *("--", program),
    PATH=path,
    PYTHON=sys.executable,
  )
  assert code == 255, err
  assert 3 <= time.monotonic() - began < 25
  assert err.count("error: ") == 1
  assert "[1] error: silent: no connection, or it is lost (ssh: 255)\n" in err
  assert not is_alive(int((tmp_path / "pid0").read_text()))


def test_a_host_that_is_lost_ends_the_others(path, tmp_path):
  program = python_program(
    tmp_path,
    """
    if me == 1:
      while not pathlib.Path(__file__).with_name("pid0").exists():
        time.sleep(0.05)
      sshd = os.getppid()
      while b"sshd" not in pathlib.Path(f"/proc/{sshd}/comm").read_bytes():
        stat = pathlib.Path(f"/proc/{sshd}/stat").read_text()
        sshd = int(stat.rpartition(")")[2].split()[1])
      os.kill(sshd, signal.SIGKILL)
    time.sleep(200)
    """,
  )
  code, _, err = run(
    "ssh_hosts.sh",
    *(f"--hosts={HOSTS}", f"--dir={tmp_path}", "--", program),
    PATH=path,
    PYTHON=sys.executable,
  )
  assert code == 255, err
  assert "[1] error: localhost: no connection, or it is lost" in err
  for name in ("pid0", "pid1"):
    pid = int((tmp_path / name).read_text())
    end = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < end:
      time.sleep(0.1)  # The other side hears of it by itself.
    assert not is_alive(pid)

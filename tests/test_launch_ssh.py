"""launch/ssh_hosts.sh, with a program that plays ssh."""

import shlex
import signal
import sys

import pytest

from tests.launch_scripts import (
  PREEMPTED,
  exit_code_on_signal,
  fake_program,
  is_alive,
  python_program,
  run,
)

FAKE_SSH = """
    shift 6  # -o ... -o ... -o ...
    if [[ $1 == down ]]; then echo "no route to host" >&2; exit 255; fi
    exec setsid sh -c "$2"
    """


def ssh_flags(tmp_path, *more: str) -> tuple[str, ...]:
  return ("--hosts=a,me@b", f"--dir={tmp_path}", *more)


def test_ssh_dry_run_prints_one_command_for_each_host(tmp_path):
  code, out, _ = run(
    "ssh_hosts.sh",
    *ssh_flags(tmp_path, "--env=X=a b", "--dry-run"),
    *("--", "-m", "x"),
  )
  assert code == 0
  commands = [shlex.split(line) for line in out.splitlines()]
  options = ("BatchMode=yes", "ConnectTimeout=30", "ServerAliveInterval=15")
  assert [words[:8] for words in commands] == [
    ["ssh", *(word for option in options for word in ("-o", option)), host]
    for host in ("a", "me@b")
  ]
  for i, words in enumerate(commands):
    there = shlex.split(words[8])
    assert there[: there.index(f"--process-id={i}") + 2] == [
      *("cd", str(tmp_path), "&&", "grace=120", "&&", "set", "--", "env"),
      *("X=a b", "python3", "-m", "x", "--coordinator=a:5510"),
      *("--num-processes=2", f"--process-id={i}", "&&"),
    ]


def test_the_hosts_file_may_hold_comments(tmp_path):
  hosts = tmp_path / "hosts"
  hosts.write_text("# rack 1\nn1\n\nn2 # slow\nn3")
  _, out, _ = run(
    "ssh_hosts.sh", f"--hosts-file={hosts}", "--dry-run", "--", "-m", "x"
  )
  assert [shlex.split(line)[7] for line in out.splitlines()] == [
    "n1",
    "n2",
    "n3",
  ]


def test_ssh_runs_the_command_word_by_word(tmp_path):
  path = fake_program(tmp_path, "ssh", FAKE_SSH)
  program = python_program(tmp_path, 'print(os.getcwd(), os.environ["X"])')
  code, out, err = run(
    "ssh_hosts.sh",
    *ssh_flags(tmp_path, "--env=X=it's $HOME"),
    *("--", program),
    PATH=path,
    PYTHON=sys.executable,
  )
  assert (code, out) == (0, f"{tmp_path} it's $HOME\n")
  assert err == f"[1] {tmp_path} it's $HOME\n"


def test_the_home_directory_is_that_of_the_other_side(tmp_path):
  path = fake_program(tmp_path, "ssh", FAKE_SSH)
  (tmp_path / "my code").mkdir()
  program = python_program(tmp_path, "print(os.getcwd())")
  code, out, err = run(
    "ssh_hosts.sh",
    *("--hosts=a", "--dir=~/my code", "--", program),
    PATH=path,
    HOME=tmp_path,
    PYTHON=sys.executable,
  )
  assert (code, out) == (0, f"{tmp_path}/my code\n"), err


def test_a_host_that_is_down_ends_the_others(tmp_path):
  path = fake_program(tmp_path, "ssh", FAKE_SSH)
  program = python_program(tmp_path, "time.sleep(200)")
  code, _, err = run(
    "ssh_hosts.sh",
    *("--hosts=a,down", f"--dir={tmp_path}", "--", program),
    PATH=path,
    PYTHON=sys.executable,
  )
  assert code == 255
  assert "[1] no route to host" in err
  assert "[1] error: down: no connection, or it is lost" in err
  if (tmp_path / "pid0").exists():  # It may not have come that far.
    assert not is_alive(int((tmp_path / "pid0").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_preempts_the_processes_on_all_hosts(tmp_path, number):
  path = fake_program(tmp_path, "ssh", FAKE_SSH)
  code = exit_code_on_signal(
    number, tmp_path, "ssh_hosts.sh", *ssh_flags(tmp_path), PATH=path
  )
  assert code == PREEMPTED

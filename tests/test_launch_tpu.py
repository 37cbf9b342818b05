"""launch/tpu_*.sh, with a program that plays gcloud."""

import pathlib
import signal
import subprocess
import threading

import pytest

from tests.launch_scripts import PREEMPTED, fake_program, run, started

TPU = ("--name=t", "--zone=z")


def fake_gcloud(tmp_path) -> str:
  """A zone in which the first TPU is taken away during its run."""
  return fake_program(
    tmp_path,
    "gcloud",
    f"""
    cd "{tmp_path}"
    case "$*" in
      *describe*)
        echo describe >>log
        if [[ -e state ]]; then cat state; exit; fi
        echo "ERROR: NOT_FOUND: Resource 'q' was not found" >&2
        exit 1
        ;;
      *"queued-resources create"*) echo create >>log; echo ACTIVE >state ;;
      *"queued-resources delete"*) echo delete >>log; rm state ;;
      *" && exec "*)
        echo exec >>log
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
      *"kill -TERM"*) echo TERM >>log; kill -TERM "$(cat pid)" ;;
    esac
    """,
  )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_tpu_that_was_taken_away_is_queued_for_again(tmp_path, number):
  path = fake_gcloud(tmp_path)
  args = ("run", *TPU, "--", "-m", "x")
  with started(
    "tpu_queued_resource.sh", *args, PATH=path, TMPDIR=tmp_path
  ) as process:
    assert process.stdout.readline() == "ready\n"
    # And a signal stops the run over there, which is waited for.
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
  assert process.returncode == PREEMPTED, err
  assert " ".join((tmp_path / "log").read_text().split()) == (
    "describe create describe exec "
    "describe describe delete "
    "describe create describe exec TERM"
  )


def babysit(tmp_path) -> tuple[int, str]:
  """Exit code and stderr, of a run in a zone that two files describe.

  `states` has a line for each look at the TPU, of which the last one stays;
  `runs` an exit code for each run.
  """
  path = fake_program(
    tmp_path,
    "gcloud",
    f"""
    cd "{tmp_path}"
    next() {{ head -n 1 $1; [[ $(wc -l <$1) == 1 ]] || sed -i 1d $1; }}
    case "$*" in
      *describe*)
        state=$(next states)
        [[ $state == [A-Z]* ]] || {{ echo "ERROR: $state" >&2; exit 1; }}
        echo "$state"
        ;;
      *create*) echo create >>log ;;
      *delete*) echo delete >>log ;;
      *" && exec "*) echo run >>log; exit "$(next runs)" ;;
    esac
    """,
  )
  (tmp_path / "log").touch()
  code, _, err = run(
    "tpu_queued_resource.sh",
    *("run", *TPU, "--", "-m", "x"),
    PATH=path,
    TMPDIR=tmp_path,
    TPU_PAUSE="0.1",
  )
  return code, err


def test_a_lost_connection_is_waited_out_until_the_state_tells(tmp_path):
  states = "ACTIVE ACTIVE ACTIVE ACTIVE SUSPENDED SUSPENDED ACTIVE"
  (tmp_path / "states").write_text("\n".join([*states.split(), ""]))
  (tmp_path / "runs").write_text("255\n0\n")
  code, err = babysit(tmp_path)
  assert code == 0, err
  assert (tmp_path / "log").read_text().split() == ["run", "delete", "run"]


def test_a_lost_connection_to_a_tpu_that_stays_ends_with_its_code(tmp_path):
  (tmp_path / "states").write_text("ACTIVE\n")
  (tmp_path / "runs").write_text("255\n")
  assert babysit(tmp_path)[0] == 255


def test_a_state_that_cannot_be_had_is_asked_for_again(tmp_path):
  (tmp_path / "states").write_text(
    "timed out\ntimed out\nACTIVE\nno route\nACTIVE\n"
  )
  (tmp_path / "runs").write_text(f"{PREEMPTED}\n0\n")
  code, err = babysit(tmp_path)
  assert code == 0, err
  assert (tmp_path / "log").read_text().split() == ["run", "run"]
  assert err.count("state unknown, asking again: ERROR: timed out") == 1


# A host: the last argument of gcloud is what runs there.
HOST = """
    if [[ $* == *" ssh "* ]]; then
      cd "$HOME"
      command=${!#}
      sh -c "${command#--command=}"
    fi
    """


def host(tmp_path, *, python: str = "") -> pathlib.Path:
  """The home directory of a host, with this as its Python."""
  folder = tmp_path / "hrm_jax"
  (folder / ".venv" / "bin").mkdir(parents=True)
  if python:
    program = folder / ".venv" / "bin" / "python"
    program.write_text(f"#!/bin/sh\n{python}\n")
    program.chmod(0o755)
  return folder


def test_a_run_first_stops_the_one_that_is_still_going(tmp_path):
  folder = host(tmp_path, python='echo "$@"; ls ~/saved')
  path = fake_program(tmp_path, "gcloud", HOST)
  former = subprocess.Popen(
    [
      *("bash", "-c"),
      "trap 'sleep 1; touch ../saved; exit 75' TERM; echo ready; "
      "while :; do sleep 0.1; done",
    ],
    cwd=folder,
    stdout=subprocess.PIPE,
  )
  with former:
    assert former.stdout.readline() == b"ready\n"
    (folder / ".run.pid").write_text(f"{former.pid}\n")
    # Whoever started it collects its exit code at once.
    threading.Thread(target=former.wait).start()
    code, out, err = run(
      "tpu_vm.sh", "run", *TPU, "--", "-m", "x", PATH=path, HOME=tmp_path
    )
    former.kill()  # Does nothing if all is well.
  assert (code, out) == (0, f"-m x\n{tmp_path}/saved\n"), err
  assert former.returncode == PREEMPTED


def test_a_run_leaves_alone_what_has_its_old_number(tmp_path):
  folder = host(tmp_path, python="echo begun")
  path = fake_program(tmp_path, "gcloud", HOST)
  with subprocess.Popen(["sleep", "60"]) as other:
    (folder / ".run.pid").write_text(f"{other.pid}\n")
    _, out, _ = run(
      "tpu_vm.sh", "run", *TPU, "--", "-m", "x", PATH=path, HOME=tmp_path
    )
    assert (out, other.poll()) == ("begun\n", None)
    other.kill()


def test_a_command_that_gcloud_repeats_does_not_begin_a_second_run(tmp_path):
  host(tmp_path, python="echo begun")
  path = fake_program(tmp_path, "gcloud", HOST + HOST)
  args = ("run", *TPU, "--", "-m", "x")
  for _ in range(2):  # The same `run` does.
    code, out, err = run("tpu_vm.sh", *args, PATH=path, HOME=tmp_path)
    assert (code, out) == (PREEMPTED, "begun\n")
    assert "the connection was lost" in err


PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")


def set_up(
  tmp_path, pythons: dict[str, str], installed: str = ""
) -> tuple[int, str, list[str]]:
  """Exit code, stderr and what happened, on a host with these Pythons."""
  host(tmp_path, python=installed)
  fake_program(tmp_path, "tar", "")
  for name in PYTHONS:
    fake_program(tmp_path, name, pythons.get(name, "exit 127"))
  path = fake_program(tmp_path, "gcloud", HOST)
  code, _, err = run(
    "tpu_vm.sh",
    *("setup", *TPU, "--setup-command=echo mounted >>~/log"),
    **{"PATH": path, "HOME": tmp_path, "TMPDIR": tmp_path},
  )
  return code, err, (tmp_path / "log").read_text().splitlines()


# `-m venv --clear .venv` makes a Python that logs what it is asked to do.
RECENT = """
    [[ $1 == -m ]] || exit 0
    echo "${0##*/} $*" >>~/log
    printf '#!/bin/sh\necho "$*" >>~/log\n' >.venv/bin/python
    chmod +x .venv/bin/python
    """
OLD = """
    [[ $1 == --version ]] || exit 1
    echo "Python 3.10.12"
    """


def test_setup_takes_a_python_that_is_recent_enough(tmp_path):
  code, err, log = set_up(tmp_path, {"python3.11": RECENT, "python3": OLD})
  assert code == 0, err
  assert log == [
    "mounted",
    "python3.11 -m venv --clear .venv",
    "-m pip install -q -e .[tpu]",
  ]


def test_setup_without_a_recent_python_says_so(tmp_path):
  code, err, log = set_up(tmp_path, {"python3": OLD})
  assert (code, log) == (1, ["mounted"])
  assert err.splitlines()[-1] == (
    "error: expected Python 3.11 or later with venv, found Python 3.10.12; "
    "--setup-command can install one."
  )


def test_a_mistake_of_the_run_is_not_repeated_on_the_tpu(tmp_path):
  path = fake_program(
    tmp_path,
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


def test_setup_leaves_the_environment_of_a_run_that_is_going(tmp_path):
  code, err, log = set_up(
    tmp_path, {"python3": RECENT}, '[ "$1" = -c ] || echo "$*" >>~/log'
  )
  assert code == 0, err
  assert log == ["mounted", "-m pip install -q -e .[tpu]"]

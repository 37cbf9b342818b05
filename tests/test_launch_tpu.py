"""launch/tpu_*.sh, with a program that plays gcloud."""

import re
import signal

from tests.launch_scripts import PREEMPTED, fake_program, run, started

TPU = ("--name=t", "--zone=z")


def fake_gcloud(tmp_path) -> str:
  """A zone in which the first TPU is taken away during its run."""
  return fake_program(
    tmp_path,
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


def test_a_tpu_that_was_taken_away_is_queued_for_again(tmp_path):
  path = fake_gcloud(tmp_path)
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

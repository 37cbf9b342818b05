"""The scenarios, with few kills; `python -m tests.faults` takes more."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults import __main__ as command
from tests.faults import processes
from tests.launch_scripts import QUICKLY_COMPILED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
  """What one run of all scenarios prints."""
  done = subprocess.run(
    [sys.executable, "-m", "tests.faults", "--kills=2", "--terms=1"],
    cwd=processes.ROOT,
    env=os.environ | QUICKLY_COMPILED,
    stdout=subprocess.PIPE,
    text=True,
    check=False,
  )
  return json.loads(done.stdout.splitlines()[-1])


def test_a_run_that_is_killed_ends_as_if_nothing_had_happened(found):
  assert found["scenarios"]["kills"]["problems"] == []
  assert (found["kills"], found["failed_restarts"]) == (2, 0)
  assert found["identical"] is True


def test_a_run_that_is_told_to_end_loses_no_update(found):
  assert found["scenarios"]["terms"]["problems"] == []
  assert (found["terms"], found["lost_steps"]) == (1, 0)


def test_a_nan_is_named_and_the_policy_obeyed(found):
  assert found["scenarios"]["nans"]["problems"] == []


def test_processes_end_with_their_peers_and_others_go_on(found):
  assert found["scenarios"]["peers"]["problems"] == []


def test_a_full_disk_costs_no_more_than_what_was_not_saved(found):
  assert found["scenarios"]["full_disk"]["problems"] == []


def test_who_reads_a_run_while_it_saves_is_never_refused(found):
  assert found["scenarios"]["readers"]["problems"] == []
  assert (found["reads"], found["failed_reads"]) == (100, 0)


def test_damage_to_any_file_costs_one_checkpoint_and_no_pickle_runs(found):
  damage = found["scenarios"]["damage"]
  assert damage["problems"] == []
  assert damage["damages"] > 2 * damage["files"] > 20


def test_nothing_is_called_identical_where_nothing_was_compared():
  fine = {"problems": []}
  assert command.summary({"nans": fine}) == {"ok": True}
  same = dict.fromkeys(("same_losses", "same_state", "each_step_once"), True)
  kills = {**fine, **same, "kills": 2, "failed_restarts": 0}
  counted = {"ok": True, "kills": 2, "failed_restarts": 0}
  assert command.summary({"kills": kills}) == {**counted, "identical": True}
  kills["same_state"] = False
  assert command.summary({"kills": kills}) == {**counted, "identical": False}

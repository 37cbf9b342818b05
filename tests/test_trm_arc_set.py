"""A set of TRM's ARC builder, from its files to a submission."""

import json
import pathlib

import pytest

from data_tools import build_arc, check, show
from hrm_jax.arc_vote import __main__ as arc_vote
from hrm_jax.evaluate import __main__ as evaluate
from tests.commands import Commands
from tests.runs import train_tiny
from tests.test_arc_vote import as_trm_writes_it
from tests.test_build_arc import make_task, write_json

pytestmark = pytest.mark.slow


def test_it_is_checked_shown_trained_on_evaluated_and_scored(
  tmp_path, monkeypatch, capsys
):
  commands = Commands(monkeypatch, capsys)
  for folder, tasks in (("training", 2), ("evaluation", 2)):
    for i in range(tasks):
      task = make_task(i + len(folder), test=1 + i)
      write_json(tmp_path / "source" / folder / f"{folder}{i}.json", task)
  data, workdir = tmp_path / "data", tmp_path / "run"
  build_arc.build(data, dataset_dirs=[tmp_path / "source"], num_aug=2)
  as_trm_writes_it(data)
  (data / "build.json").unlink()  # TRM writes none.

  assert commands(check, data)["puzzle"] == "arc"
  assert show.show(data)
  overrides = {"data.path": str(data), "global_batch_size": 8}
  train_tiny(workdir, num_steps=1, **overrides)
  commands(evaluate, "--workdir", workdir, "--save-predictions")
  result = commands(arc_vote, "--workdir", workdir)
  assert (result["tasks"], result["scored_tasks"], result["votes"]) == (2, 2, 9)
  submission = json.loads(pathlib.Path(result["submission"]).read_text())
  assert {name: len(answers) for name, answers in submission.items()} == {
    "evaluation0": 1,
    "evaluation1": 2,
  }

"""The ARC scorer: from saved predictions to pass@k and a submission."""

import json
import shutil

import numpy as np
import pytest

from data_tools import build_arc
from hrm_jax.arc_vote import __main__ as arc_vote
from hrm_jax.arc_vote import tally
from hrm_jax.console import InputError
from hrm_jax.data import arc
from hrm_jax.evaluate.predictions import check_place
from tests.commands import Commands
from tests.test_build_arc import examples, make_task, write_json


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def data(tmp_path):
  """A set of two evaluated tasks, `a` with two test inputs."""
  source = tmp_path / "source" / "evaluation"
  write_json(source / "a.json", make_task(0, test=2))
  write_json(source / "b.json", make_task(1))
  build_arc.build(tmp_path / "data", dataset_dirs=[source], num_aug=6)
  return tmp_path / "data"


def write_predictions(data, workdir, answer, q=None, name="all", step=7):
  """Saves what `answer(row, text, label board)` returns, a board, per row."""
  directory = workdir / "predictions" / str(step) / "test"
  directory.mkdir(parents=True, exist_ok=True)
  rows = examples(data, "test")
  names = json.loads((data / "identifiers.json").read_text())
  columns = {
    "rows": range(len(rows)),
    "inputs": [row[1] for row in rows],
    "puzzle_identifiers": [names.index(row[0]) for row in rows],
    "predictions": [answer(i, row[0], row[2]) for i, row in enumerate(rows)],
    "q_halt_logits": np.zeros(len(rows)) if q is None else q,
  }
  for column, values in columns.items():
    dtype = np.float32 if column.startswith("q") else np.int32
    np.save(directory / f"{name}__{column}.npy", np.array(values, dtype))
  return directory


def board(text, grid):
  """An answer as the network gives it for this variant."""
  grid = np.array(grid, np.uint8)
  return arc.to_tokens(arc.augment(grid, arc.parse_identifier(text)))


def test_a_perfect_oracle_scores_everything(data, tmp_path, commands):
  write_predictions(data, tmp_path, lambda row, text, label: label)
  out = tmp_path / "made" / "submission.json"
  flags = ["--workdir", tmp_path, "--data", data, "--output", out]
  result = commands(arc_vote, *flags)
  assert {k: v for k, v in result.items() if "pass" in k} == {
    f"pass@{k}": 1.0 for k in (1, 2, 10, 100, 1000)
  }
  assert result["tasks"] == result["scored_tasks"] == 2
  assert (result["test_inputs"], result["unanswered"]) == (3, 0)
  assert (result["votes"], result["step"]) == (21, 7)
  asked = json.loads((data / "test_puzzles.json").read_text())
  assert json.loads(out.read_text()) == {
    task: [
      dict.fromkeys(("attempt_1", "attempt_2"), p["output"]) for p in pairs
    ]
    for task, pairs in asked.items()
  }


def test_predictions_in_a_place_of_their_own_are_scored_alike(
  data, tmp_path, commands
):
  directory = write_predictions(data, tmp_path, lambda row, text, label: label)
  of_run = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  own = tmp_path / "answers"
  shutil.copytree(directory, own)
  result = commands(arc_vote, "--predictions", own, "--data", data)
  assert (of_run.pop("step"), result.pop("step")) == (7, None)
  assert result.pop("submission") == str(own / "submission.json")
  assert of_run.pop("submission") == str(directory / "submission.json")
  assert result == of_run
  # What voting has left does not stand in the way of the next evaluation.
  check_place(own)
  (own / "thesis.tex").touch()
  with pytest.raises(InputError, match=r"got thesis\.tex; choose another"):
    check_place(own)


def as_trm_writes_it(data):
  """Rewrites names and test pairs into the form of TRM's builder."""
  path = data / "identifiers.json"
  texts = map(arc.parse_identifier, json.loads(path.read_text()))
  plain = tuple(range(10))
  write_json(
    path,
    [
      name
      if (k, colors) == (0, plain)
      else f"{name}|||t{k}|||{''.join(map(str, colors))}"
      for name, k, colors in texts
    ],
  )
  path = data / "test_puzzles.json"
  asked = json.loads(path.read_text())
  write_json(path, {k: {"train": [], "test": v} for k, v in asked.items()})


def test_a_set_that_trm_built_is_scored_alike(data, tmp_path, commands):
  answer = planted([3, "right", 3, "right", 4, 3, "right"])
  directory = write_predictions(data, tmp_path, answer)
  flags = ["--workdir", tmp_path, "--data", data]
  ours = commands(arc_vote, *flags)
  submitted = (directory / "submission.json").read_text()
  as_trm_writes_it(data)
  assert commands(arc_vote, *flags) == ours
  assert (directory / "submission.json").read_text() == submitted


def test_answers_that_trm_did_not_know_are_not_scored(data, tmp_path, commands):
  write_predictions(data, tmp_path, lambda row, text, label: label)
  as_trm_writes_it(data)
  path = data / "test_puzzles.json"
  asked = json.loads(path.read_text())
  for task in asked.values():
    for pair in task["test"]:
      pair["output"] = [[0]]
  write_json(path, asked)
  result = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  assert (result["tasks"], result["scored_tasks"]) == (2, 0)


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ("[]", "expected an object with tasks by name, got []"),
    ('{"a": {"train": []}}', "task 'a': expected a list of pairs of grids, or"),
    ('{"a": ["input"]}', "task 'a': expected a list of pairs of grids, or"),
    ('{"a"', "expected JSON"),
  ],
)
def test_other_test_puzzles_get_one_line(
  content, message, data, tmp_path, commands
):
  write_predictions(data, tmp_path, lambda row, text, label: label)
  path = data / "test_puzzles.json"
  path.write_text(content)
  error = commands.error(arc_vote, "--workdir", tmp_path, "--data", data)
  assert error.startswith(f"{path}: {message}")
  assert "Error(" not in error


def test_predictions_that_are_not_there_get_one_line(data, tmp_path, commands):
  where = f"--predictions={tmp_path / 'no'}"
  error = commands.error(arc_vote, where, "--data", data / "no")
  assert error == f"{where}: no such directory."
  assert commands.error(arc_vote, where) == error
  (tmp_path / "no").mkdir()
  assert commands.error(arc_vote, where, "--data", data / "no") == (
    f"{tmp_path / 'no'}: expected *__predictions.npy, got none."
  )


def planted(votes):
  """Answers 1x1 grids to task b: `votes` names a colour for each variant."""
  turn = iter(votes)

  def answer(row, text, label):
    if not text.startswith("b"):
      return label
    color = next(turn)
    return label if color == "right" else board(text, [[color]])

  return answer


B = slice(14, 21)  # task b's rows, after seven variants of a's two test inputs


@pytest.mark.parametrize(
  ("votes", "q", "place"),
  [
    # Three, two and two votes.
    ([1, 1, 1, "right", "right", 2, 2], [0, 0, 0, 1, 1, 0, 0], 2),
    # The same, but the others are surer.
    ([1, 1, 1, "right", "right", 2, 2], [0, 0, 0, 1, 1, 2, 2], 3),
    # A tie in votes and confidence: the first seen.
    ([1, 1, 1, "right", 2, "right", 2], [0, 0, 0, 1, 2, 2, 1], 2),
    ([1, 1, 1, 2, "right", 2, "right"], [0, 0, 0, 1, 2, 2, 1], 3),
    (["right"] * 4 + [1] * 3, [-9] * 4 + [9] * 3, 1),
    ([1] * 7, [0] * 7, None),
  ],
)
def test_votes_then_confidence_then_first_seen(
  votes, q, place, data, tmp_path, commands
):
  logits = np.zeros(21)
  logits[B] = q
  directory = write_predictions(data, tmp_path, planted(votes), logits)
  result = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  for k in (1, 2, 10):
    # Task a is right at once.
    right = place is not None and place <= k
    assert result[f"pass@{k}"] == (1.0 if right else 0.5)
  made = json.loads((directory / "submission.json").read_text())
  attempts = list(made["b"][0].values())
  truth = json.loads((data / "test_puzzles.json").read_text())["b"][0]["output"]
  assert (truth in attempts) == (place in (1, 2))
  if place is None:
    assert attempts == [[[1]], [[1]]]


def test_a_task_is_right_only_with_all_its_test_inputs(
  data, tmp_path, commands
):
  second = json.loads((data / "test_puzzles.json").read_text())["a"][1]

  def answer(row, text, label):
    truth = board(text, second["output"])
    return board(text, [[3]]) if (label == truth).all() else label

  write_predictions(data, tmp_path, answer)
  result = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  assert result["pass@1"] == result["pass@1000"] == 0.5


def test_blank_rows_empty_answers_and_missing_ones(data, tmp_path, commands):
  directory = write_predictions(
    data, tmp_path, lambda row, text, label: np.zeros(900)
  )
  path = directory / "all__puzzle_identifiers.npy"
  identifiers = np.load(path)
  identifiers[B] = 0
  np.save(path, identifiers)
  result = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  assert (result["votes"], result["unanswered"]) == (14, 1)
  assert result["pass@1000"] == 0.0
  made = json.loads((directory / "submission.json").read_text())
  one = {"attempt_1": [[0]], "attempt_2": [[0]]}
  assert made == {"a": [one, one], "b": [one]}


def test_tallies_are_kept_and_files_add_up(
  data, tmp_path, commands, monkeypatch
):
  write_predictions(data, tmp_path, lambda row, text, label: label)
  flags = ["--workdir", tmp_path, "--data", data]
  first = commands(arc_vote, *flags)

  def fail(*args):
    raise AssertionError("counted again")

  with monkeypatch.context() as patch:
    patch.setattr(tally, "_count", fail)
    assert commands(arc_vote, *flags) == first
    write_predictions(data, tmp_path, lambda row, text, label: label * 0)
    with pytest.raises(AssertionError, match="counted again"):
      commands(arc_vote, *flags)
  assert commands(arc_vote, *flags)["pass@1000"] == 0.0
  write_predictions(data, tmp_path, lambda row, text, label: label, name="b")
  result = commands(arc_vote, *flags)
  assert result["votes"] == 42
  # Equal votes: the empty answers of the first file were seen first.
  assert (result["pass@1"], result["pass@2"]) == (0.0, 1.0)


@pytest.mark.parametrize("parts", [2, 12])
def test_ties_do_not_depend_on_which_process_wrote_what(
  parts, data, tmp_path, commands
):
  # One vote each, all equally sure; seen in this order.
  answer = planted([1, 2, "right", 3, 4, 5, 6])
  directory = write_predictions(data, tmp_path, answer)
  flags = ["--workdir", tmp_path, "--data", data]
  whole = commands(arc_vote, *flags)
  assert (whole["pass@2"], whole["pass@10"]) == (0.5, 1.0)
  submission = directory / "submission.json"
  submitted = submission.read_text()
  for path in directory.glob("all__*.npy"):
    _, column = path.name.split("__")
    values = np.load(path)
    path.unlink()
    for i in range(parts):
      # The last process has the first rows.
      name = f"all.{parts - 1 - i}of{parts}__{column}"
      np.save(directory / name, values[i::parts])
  assert commands(arc_vote, *flags) == whole
  assert submission.read_text() == submitted


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"made_from": 1}'])
def test_a_damaged_tally_is_counted_again(kept, data, tmp_path, commands):
  directory = write_predictions(data, tmp_path, lambda row, text, label: label)
  flags = ["--workdir", tmp_path, "--data", data]
  first = commands(arc_vote, *flags)
  path = directory / "all__votes.json"
  made_from = json.loads(path.read_text())["made_from"]
  for damaged in (kept, json.dumps({"made_from": made_from})):
    path.write_text(damaged)
    assert commands(arc_vote, *flags) == first


def test_unknown_answers_are_not_scored_but_submitted(tmp_path, commands):
  task = make_task(0)
  del task["test"][0]["output"]
  write_json(tmp_path / "source" / "test_challenges.json", {"a": task})
  data = tmp_path / "data"
  build_arc.build(data, dataset_dirs=[tmp_path / "source"], num_aug=2)
  directory = write_predictions(
    data, tmp_path, lambda row, text, label: board(text, [[4, 5]])
  )
  result = commands(arc_vote, "--workdir", tmp_path, "--data", data)
  assert result["scored_tasks"] == 0
  assert "pass@1" not in result
  made = json.loads((directory / "submission.json").read_text())
  assert made == {"a": [{"attempt_1": [[4, 5]], "attempt_2": [[4, 5]]}]}


def test_what_cannot_be_scored_gets_one_line(data, tmp_path, commands):
  flags = ["--workdir", tmp_path, "--data", data]
  assert "--save-predictions" in commands.error(arc_vote, *flags)
  directory = write_predictions(data, tmp_path, lambda row, text, label: label)
  assert "of step 3, got 7" in commands.error(arc_vote, *flags, "--step", 3)
  assert "pass --data" in commands.error(arc_vote, *flags[:2])
  error = commands.error(arc_vote, *flags[:2], "--data", tmp_path)
  assert "identifiers.json: cannot be read (No such file" in error
  path = directory / "all__inputs.npy"
  inputs = np.load(path)
  inputs[5] = 2
  np.save(path, inputs)
  error = commands.error(arc_vote, *flags)
  assert f"{path}: row 5: expected a test input of task 'a'" in error
  path.write_bytes(path.read_bytes()[:-50])
  assert "expected a complete .npy file" in commands.error(arc_vote, *flags)


def test_predictions_that_cannot_be_read_are_not_called_none(
  data, tmp_path, commands, unreadable
):
  directory = write_predictions(data, tmp_path, lambda row, text, label: label)
  flags = ["--workdir", tmp_path, "--data", data]
  for place in (directory, tmp_path / "predictions"):
    unreadable(place)
    assert commands.error(arc_vote, *flags) == (
      f"{place}: cannot be read (Permission denied)."
    )

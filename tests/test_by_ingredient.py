"""Scores by what was tried, on a run that tests share."""

import shutil

import numpy as np
import pytest

from hrm_jax.checkpoint.load import load
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.evaluate import by_ingredient
from hrm_jax.solve import by_votes
from hrm_jax.solve.ensemble import Ensemble, Noise
from tests.commands import Commands
from tests.toys import random_like

TRIED = Ensemble(3, Noise(0.5, 2, 1), None, verify=True)


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def settings(**changes):
  asked = {"halt": "act", "segments": None, "batch_size": 8, **changes}
  return by_votes.settings_of(TRIED, "sudoku", 16, **asked)


def networks(tiny_run):
  for seed in (19, 20):
    trained = load(tiny_run, on_all_devices=True)
    yield trained._replace(weights=random_like(trained.weights, seed))


def attempt(tiny_run, data, **changes):
  split = EvaluationData(open_split(data, "test"), batch_size=8)
  return by_ingredient.attempt(networks(tiny_run), split, settings(**changes))


@pytest.fixture(scope="module")
def attempted(tiny_run):
  return attempt(tiny_run, tiny_run / "data")


@pytest.mark.parametrize("halt", ["full", "act"])
def test_a_single_attempt_scores_as_it_always_did(tiny_run, command, halt):
  flags = f"--workdir={tiny_run}", f"--halt={halt}", "--split=train"
  plain = command(evaluate, *flags)
  several = command(
    evaluate,
    *flags,
    "--votes=2",
    "--noise=1",
    "--samples=2",
    "--checkpoints=last:2",
    "--verify",
  )
  found = several["sets"]["all"]
  assert list(found) == [
    "single",
    "votes",
    "samples",
    "checkpoints",
    "agreement",
    "combined",
  ]
  want = plain["sets"]["all"]
  assert found["single"]["exact_accuracy"] == want["exact_accuracy"]
  assert found["single"]["count"] == want["count"] == 160
  assert found["single"]["segments"] == want["steps"]
  assert found["single"]["gain"] == 0
  assert [found[name]["attempts"] for name in found] == [1, 2, 2, 2, 8, 8]
  assert several["checkpoints"] == [10, 5]
  assert several["step"] == plain["step"] == 10
  assert several["attempts"] == 8
  assert several["segments"] == 3
  for scores in found.values():
    n, share = scores["count"], scores["exact_accuracy"]
    assert scores["standard_error"] == pytest.approx(
      np.sqrt(share * (1 - share) / n)
    )
    assert scores["gain"] == pytest.approx(share - want["exact_accuracy"])
    assert scores["won"] - scores["lost"] == pytest.approx(n * scores["gain"])


def test_answers_are_the_same_whatever_the_labels(
  tiny_run, tmp_path, attempted
):
  shutil.copytree(tiny_run / "data", tmp_path / "noise")
  file = tmp_path / "noise/test/all__labels.npy"
  labels = np.load(file)
  noise = np.random.default_rng(0).integers(2, 6, labels.shape)
  np.save(file, noise.astype(labels.dtype))
  chosen = []
  for each in (attempted, attempt(tiny_run, tmp_path / "noise")):
    numbers = by_ingredient.choose(each, settings())
    for (_, tried), found in zip(each.batches, numbers, strict=True):
      row = np.arange(len(tried.answers))
      chosen.append({k: tried.answers[row, v] for k, v in found.items()})
  assert len(chosen) == 2
  for name, answers in chosen[0].items():
    np.testing.assert_array_equal(answers, chosen[1][name])
  # They do not all agree, so that choosing the same is no accident.
  assert np.any(chosen[0]["single"] != chosen[0]["agreement"])


def test_won_and_lost_are_counted_against_the_first_attempt(attempted):
  asked, tried = attempted.batches[0]
  n = len(asked.rows)
  labels = asked.batch["labels"][:n]
  answers = tried.answers.copy()
  answers[:, 0], answers[:, 1] = 1, labels
  answers[0] = answers[0, ::-1]  # Its first is another wrong one.
  answers[1, 0], answers[1, 1] = labels[1], 1
  answers[2, 0] = labels[2]
  sums = by_ingredient._count(
    asked,
    tried._replace(answers=answers),
    np.ones(n, int),
    np.array([0, 1]),
    mazes=False,
  )
  assert sums["count"] == n == 27
  assert (sums["won"], sums["lost"], sums["right"]) == (24, 1, 25)
  assert sums["segments"] == tried.segments[:, :2].sum()


def test_the_rules_choose_an_answer_that_obeys_them(attempted):
  asked, tried = attempted.batches[0]
  answers = tried.answers.copy()
  labels = asked.batch["labels"][: len(asked.rows)]
  answers[3, 5] = labels[3]  # One attempt alone is right.
  batches = [(asked, tried._replace(answers=answers))]
  (found,) = by_ingredient.choose(
    attempted._replace(batches=batches), settings()
  )
  assert found["combined"][3] == 5
  others = np.arange(len(labels)) != 3
  np.testing.assert_array_equal(
    found["combined"][others], found["agreement"][others]
  )


def test_scores_do_not_depend_on_the_size_of_batches(tiny_run, command):
  flags = f"--workdir={tiny_run}", "--votes=3", "--noise=1", "--samples=2"
  one, other = (
    command(evaluate, *flags, f"--batch-size={size}")["sets"]
    for size in (8, 32)
  )
  assert one == other


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--votes=x"], "argument --votes: invalid int value: 'x'"),
    (["--votes=2", "--save-predictions"], "expected a single attempt at each"),
    (["--checkpoints=last:3"], "expected at most 2, as "),
  ],
)
def test_a_bad_flag_gets_one_clear_line(tiny_run, command, flags, message):
  assert message in command.error(evaluate, f"--workdir={tiny_run}", *flags)

"""What the flags for several attempts ask for."""

import argparse

import numpy as np
import pytest

from hrm_jax.checkpoint import saved_steps
from hrm_jax.console import InputError
from hrm_jax.solve import ensemble
from hrm_jax.solve.ensemble import Choice, Ensemble, Noise


def flags(*given):
  parser = argparse.ArgumentParser()
  parser.add_argument("--workdir")
  parser.add_argument("--step")
  ensemble.add_flags(parser)
  return parser.parse_args(given)


@pytest.mark.parametrize(
  "given", [[], ["--votes=1"], ["--samples=1", "--seed=3"]]
)
def test_one_attempt_is_no_ensemble(given):
  assert ensemble.from_flags(flags(*given)) is None


def test_the_flags_say_what_is_tried():
  given = "--workdir=run --votes=8 --noise=0.5 --samples=4 --seed=9 --verify"
  got = ensemble.from_flags(flags(*given.split(), "--checkpoints=best:3"))
  assert got == Ensemble(8, Noise(0.5, 4, 9), Choice("best", 3), True)
  # Also one checkpoint alone may be chosen by its rank.
  got = ensemble.from_flags(flags("--workdir=run", "--checkpoints=last:1"))
  assert got == Ensemble(1, Noise(), Choice("last", 1), False)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ("--votes=0", "--votes: expected at least 1, got 0."),
    ("--samples=0", "--samples: expected at least 1, got 0."),
    ("--samples=2", "--samples=2: expected --noise=S above 0 too"),
    ("--noise=1", "--noise=1.0: expected --samples=2 or more too"),
    (
      "--noise=-1 --samples=2",
      "--noise: expected a number from 0 to 1e6, got -1",
    ),
    (
      "--noise=nan --samples=2",
      "--noise: expected a number from 0 to 1e6, got nan",
    ),
    ("--verify", "--verify: expected --votes, --samples or --checkpoints"),
    ("--seed=-1", "--seed: expected at least 0, got -1."),
    ("--checkpoints=last:2", "--checkpoints: only a --workdir has"),
    (
      "--workdir=run --step=5 --checkpoints=last:2",
      "--checkpoints: expected without --step, got --step=5.",
    ),
  ],
)
def test_what_makes_no_sense_is_refused(given, message):
  with pytest.raises(InputError, match=r"^--") as error:
    ensemble.from_flags(flags(*given.split()))
  assert message in str(error.value)


@pytest.mark.parametrize("value", ["last", "last:0", "worst:2", "best:x", "3"])
def test_a_bad_choice_of_checkpoints_is_named(value, capsys):
  with pytest.raises(SystemExit):
    flags(f"--checkpoints={value}")
  assert f"expected last:N or best:N, N at least 1, got '{value}'" in (
    capsys.readouterr().err
  )


@pytest.fixture
def kept(monkeypatch):
  """A run that kept the steps 5, 7 and 10, of which 7 was never evaluated."""
  monkeypatch.setattr(saved_steps, "complete_steps", lambda _: [5, 7, 10])
  scores = {5: 0.5, 7: None, 10: 0.5}
  monkeypatch.setattr(saved_steps, "scores", lambda _: scores)
  return scores


def test_checkpoints_come_newest_or_best_first(kept):
  args = flags("--workdir=run")
  assert ensemble.find_steps(args, Choice("last", 2)) == [10, 7]
  # The first of the best is what --step=best chooses.
  assert ensemble.find_steps(args, Choice("best", 2)) == [10, 5]
  assert saved_steps.best_step(kept) == 10
  kept[5] = 0.75
  assert ensemble.find_steps(args, Choice("best", 2)) == [5, 10]


def test_more_checkpoints_than_were_kept_are_refused(kept):
  args = flags("--workdir=run")
  with pytest.raises(InputError, match=r"at most 3, as .* has 5, 7, 10 that"):
    ensemble.find_steps(args, Choice("last", 4))
  with pytest.raises(InputError, match=r"at most 2, as .* has 5, 10 that"):
    ensemble.find_steps(args, Choice("best", 3))


def test_each_ingredient_has_its_attempts():
  got = ensemble.subsets(2, 3, 2)
  assert {name: which.tolist() for name, which in got.items()} == {
    "single": [0],
    "votes": [0, 2, 4],
    "samples": [0, 1],
    "checkpoints": [0, 6],
    "combined": list(range(12)),
  }
  assert set(ensemble.subsets(1, 4, 1)) == {"single", "votes", "combined"}
  np.testing.assert_array_equal(ensemble.subsets(1, 1, 1)["combined"], [0])

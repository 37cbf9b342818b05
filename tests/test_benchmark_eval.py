"""The benchmarks of evaluation and solving: they measure what they say."""

import pytest

from hrm_jax import benchmark, benchmark_eval, checkpoint
from tests.commands import Commands
from tests.toys import random_like

WAYS = {"full", "act", "refilled"}


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def test_evaluation_is_timed_in_every_way(tiny_run, command, monkeypatch):
  trained = checkpoint.load(tiny_run)
  trained = trained._replace(weights=random_like(trained.weights, seed=3))
  monkeypatch.setattr(checkpoint, "load", lambda *_: trained)
  flags = [f"--workdir={tiny_run}", "--limit=10", "--rounds=1"]
  result = command(benchmark, "eval", *flags)
  assert result["puzzles"] == 10
  assert result["halt_max_steps"] == 3
  assert result["batch_size"] == 16
  assert 1 < result["trained"]["mean_segments"] < 3
  assert result["never_halting"]["mean_segments"] == 3
  for case in ("trained", "never_halting"):
    rate = result[case]["puzzles_per_s"]
    assert set(rate) == set(result[case]["exact_accuracy"]) == WAYS
    for way in ("full", "act"):
      ratio = rate["refilled"] / rate[way]
      assert result[case][f"refilled_over_{way}"] == pytest.approx(ratio)


def test_solving_is_timed(tiny_run, command):
  flags = [f"--workdir={tiny_run}", "--limit=10", "--rounds=1"]
  result = command(benchmark, "solve", *flags)
  for name in ("full", "refilled"):
    rate = 10 / result["seconds"][name]
    assert result["puzzles_per_s"][name] == pytest.approx(rate)


def test_the_first_run_is_not_counted_and_ways_take_turns():
  calls = []
  runs = {
    name: lambda name=name: calls.append(name) or len(calls) for name in "ab"
  }
  assert benchmark_eval._in_rounds(runs, 2) == {"a": [3, 5], "b": [4, 6]}
  assert calls == ["a", "b"] * 3


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--rounds=0"], "--rounds: expected at least 1, got 0."),
    (["--batch-size=12"], "does not divide over 8 devices"),
    (["--step=7"], "no step 7 there"),
  ],
)
def test_a_bad_flag_gets_one_clear_line(tiny_run, command, flags, message):
  flags = [f"--workdir={tiny_run}", *flags]
  assert message in command.error(benchmark, "eval", *flags)

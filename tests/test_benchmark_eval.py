"""The benchmarks of evaluation and solving: they measure what they say."""

import pytest

from hrm_jax.benchmark import inference
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from tests.toys import random_like

WAYS = {"full", "act", "queued"}


def test_evaluation_is_timed_in_every_way(tiny_run, monkeypatch):
  trained = load(tiny_run)
  trained = trained._replace(weights=random_like(trained.weights, seed=19))
  monkeypatch.setattr(inference, "load", lambda *_, **__: trained)
  result = inference.benchmark_eval(tiny_run, limit=10, rounds=1)
  assert result["puzzles"] == 10
  assert result["halt_max_steps"] == 3
  assert result["batch_size"] == 10  # No more than are asked for.
  assert 1 < result["trained"]["mean_segments"] < 3
  assert result["never_halting"]["mean_segments"] == 3
  for case in ("trained", "never_halting"):
    rate = result[case]["puzzles_per_s"]
    assert set(rate) == set(result[case]["exact_accuracy"]) == WAYS
    for way in ("full", "act"):
      ratio = rate["queued"] / rate[way]
      assert result[case][f"queued_over_{way}"] == pytest.approx(ratio)


def test_solving_is_timed(tiny_run):
  result = inference.benchmark_solve(tiny_run, limit=10, rounds=1)
  for name in ("full", "queued"):
    rate = 10 / result["seconds"][name]
    assert result["puzzles_per_s"][name] == pytest.approx(rate)


def test_the_first_run_is_not_counted_and_ways_take_turns():
  calls = []
  runs = {
    name: lambda name=name: calls.append(name) or len(calls) for name in "ab"
  }
  assert inference._in_rounds(runs, 2) == {"a": [3, 5], "b": [4, 6]}
  assert calls == ["a", "b"] * 3


def test_a_batch_that_does_not_divide_is_refused(tiny_run):
  with pytest.raises(InputError, match="multiple of the number of devices, 8,"):
    inference.benchmark_eval(tiny_run, batch_size=12)

"""Means from sums."""

import numpy as np

from hrm_jax.evaluate import metrics
from tests.toys import METRIC_SUMS


def test_train_means_divide_rows_by_the_count_and_losses_by_the_batch():
  assert metrics.train_means(METRIC_SUMS, 32) == {
    "count": 4.0,
    "accuracy": 0.75,
    "exact_accuracy": 0.5,
    "q_halt_accuracy": 1.0,
    "steps": 2.5,
    "lm_loss": 0.5,
    "q_halt_loss": 0.25,
    "grad_norm": 0.5,
    "lr": 0.25,
  }


def test_eval_means_divide_everything_by_the_count():
  means = metrics.eval_means(METRIC_SUMS)
  assert means == {
    key: 4 if key == "count" else float(value) / 4
    for key, value in METRIC_SUMS.items()
  }


def test_nothing_halted_gives_zeros():
  nothing = dict.fromkeys(METRIC_SUMS, np.float32(0))
  for means in (
    metrics.train_means(nothing, 32),
    metrics.eval_means(nothing),
  ):
    assert set(means.values()) == {0.0}

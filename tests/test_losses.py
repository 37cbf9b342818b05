"""Losses and metric sums: edges, and what does not count."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.model import losses
from tests.toys import normal

V, G, B = 7, 5, 8

every_loss = pytest.mark.parametrize("loss_type", losses.LOSS_TYPES)


def toy_outputs():
  """What a segment yields for B rows: some right, some halted."""
  rng = np.random.default_rng(0)
  labels = rng.integers(1, V, (B, G), np.int32)
  labels[:, 0] = IGNORE_LABEL_ID
  logits = np.array(normal(B, G, V))
  rows, cells = np.nonzero(labels[: B // 2] >= 0)
  logits[rows, cells, labels[rows, cells]] += 9  # The first half is right.
  return {
    "logits": logits,
    "q_halt_logits": np.asarray(normal(B, seed=1)),
    "q_continue_logits": np.asarray(normal(B, seed=2)),
    "target_q_continue": np.asarray(jax.nn.sigmoid(normal(B, seed=3))),
    "labels": labels,
    "halted": np.arange(B) % 4 != 1,
    "segments": rng.integers(1, 5, B, np.int32),
  }


def judge(outputs, loss_type="stablemax_cross_entropy"):
  score = functools.partial(
    losses.loss_and_metrics, loss_type=loss_type, q_weight=0.5
  )
  return jax.jit(score)(**outputs)


def without_labels(outputs, rows):
  labels = outputs["labels"].copy()
  labels[rows] = IGNORE_LABEL_ID
  return {**outputs, "labels": labels}


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_finite_where_a_branch_could_divide_by_zero(
  loss_type, dtype
):
  logits = jnp.asarray([[1.0, 0.0, -0.0, -1.0, 1e30, -1e30, 3.0]], dtype)
  for label in range(V):
    loss, grad = jax.value_and_grad(
      lambda x, label=label: losses.cross_entropy(
        x, jnp.array([label]), loss_type
      ).sum()
    )(logits)
    assert np.isfinite(loss)
    assert np.all(np.isfinite(grad.astype(jnp.float32)))


def test_stablemax_score_has_the_right_value_and_slope():
  x = jnp.array([-3.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 5.0])
  score, slope = jax.vmap(jax.value_and_grad(losses.log_stablemax_scores))(x)
  s = np.where(x >= 0, 1 + x, 1 / (1 - x))
  np.testing.assert_allclose(score, np.log(s), atol=1e-6)
  np.testing.assert_allclose(slope, 1 / (1 + np.abs(x)), rtol=1e-6)


@every_loss
def test_probabilities_sum_to_one(loss_type):
  logits = 3 * normal(4, V)
  loss = [
    losses.cross_entropy(logits, jnp.full([4], y, jnp.int32), loss_type)
    for y in range(V)
  ]
  total = jnp.exp(-jnp.stack(loss)).sum(0)
  np.testing.assert_allclose(total, np.ones(4), rtol=1e-5)


def test_small_loss_keeps_its_digits():
  logits = jnp.array([[1e4, 0.0, 0.0]])
  label = jnp.array([0])
  loss = losses.cross_entropy(logits, label, "stablemax_cross_entropy")
  np.testing.assert_allclose(loss, [2e-4], rtol=1e-3)


@every_loss
def test_ignored_cells_have_neither_loss_nor_gradient(loss_type):
  labels = toy_outputs()["labels"]

  def total(logits):
    loss = losses.cross_entropy(logits, labels, loss_type)
    return loss.sum(), loss

  grad, loss = jax.grad(total, has_aux=True)(normal(B, G, V))
  ignored = labels == IGNORE_LABEL_ID
  for values in (loss[..., None], grad):
    assert not np.any(values[ignored])
    assert np.all(np.any(values[~ignored], axis=-1))


def test_unknown_loss_is_refused():
  with pytest.raises(ValueError, match="hinge"):
    losses.cross_entropy(normal(1, V), jnp.array([0]), "hinge")


@pytest.mark.parametrize("target", [None, 0.25])
def test_the_slope_of_a_chance_is_its_distance_from_the_target(target):
  """Exactly: none where the target is what is said, as at the first update."""
  outputs = toy_outputs()
  logits = jnp.linspace(-9.0, 9.0, B)
  chance = jax.jit(jax.nn.sigmoid)(logits)
  outputs["target_q_continue"] = jnp.full(B, target) if target else chance
  slope = jax.grad(lambda x: judge({**outputs, "q_continue_logits": x})[0])(
    logits
  )
  np.testing.assert_array_equal(
    slope, 0.5 * (chance - outputs["target_q_continue"])
  )


def test_row_without_labels_enters_the_halting_losses_alone():
  outputs = without_labels(toy_outputs(), rows=[6])
  _, sums = judge(outputs)
  other = {**outputs, "logits": outputs["logits"].copy()}
  other["logits"][6] += 1 + np.arange(V)
  other["segments"] = outputs["segments"] + 10 * (np.arange(B) == 6)
  _, same = judge(other)
  assert sums == same
  # It counts as right: sure of halting, it has no loss.
  surer = outputs["q_halt_logits"] + 50 * (np.arange(B) == 6)
  _, less = judge({**outputs, "q_halt_logits": surer})
  bce_of_right = np.log1p(np.exp(-outputs["q_halt_logits"][6]))
  np.testing.assert_allclose(
    sums["q_halt_loss"] - less["q_halt_loss"], bce_of_right, rtol=1e-4
  )
  assert less["count"] == sums["count"] == outputs["halted"].sum() - 1


def test_sums_of_the_parts_are_the_sum_of_the_whole():
  outputs = without_labels(toy_outputs(), rows=[2, 6])
  loss, sums = judge(outputs)
  halves = [
    judge({key: value[rows] for key, value in outputs.items()})
    for rows in (slice(0, 3), slice(3, None))
  ]
  np.testing.assert_allclose(loss, sum(part[0] for part in halves), rtol=1e-6)
  for key, value in sums.items():
    parts = sum(part[1][key] for part in halves)
    np.testing.assert_allclose(value, parts, rtol=1e-6, err_msg=key)


def test_metrics_are_those_of_the_rows_that_halted():
  outputs = toy_outputs()
  _, sums = judge(outputs)
  halted = outputs["halted"]
  right = np.argmax(outputs["logits"], -1) == outputs["labels"]
  correct = right[:, 1:].all(-1)
  knew = (outputs["q_halt_logits"] >= 0) == correct
  assert 0 < correct[halted].sum() < halted.sum()
  assert 0 < knew[halted].sum() < halted.sum()
  assert sums["count"] == halted.sum()
  assert sums["exact_accuracy"] == correct[halted].sum()
  assert sums["q_halt_accuracy"] == knew[halted].sum()
  assert sums["steps"] == outputs["segments"][halted].sum()
  np.testing.assert_allclose(
    sums["accuracy"], right[halted, 1:].mean(-1).sum(), rtol=1e-6
  )


def test_losses_are_those_of_all_rows():
  outputs = toy_outputs()
  nobody = {**outputs, "halted": np.zeros([B], bool)}
  (loss, sums), (same_loss, without) = judge(outputs), judge(nobody)
  assert loss == same_loss
  for key, value in without.items():
    assert value == (sums[key] if key.endswith("loss") else 0), key


def test_total_weighs_the_halting_losses():
  loss, sums = judge(toy_outputs())
  q_loss = sums["q_halt_loss"] + sums["q_continue_loss"]
  np.testing.assert_allclose(loss, sums["lm_loss"] + 0.5 * q_loss, rtol=1e-6)


def test_without_target_there_is_no_loss_of_going_on():
  outputs = toy_outputs()
  loss, sums = judge({**outputs, "target_q_continue": None})
  assert "q_continue_loss" not in sums
  np.testing.assert_allclose(
    loss, sums["lm_loss"] + 0.5 * sums["q_halt_loss"], rtol=1e-6
  )

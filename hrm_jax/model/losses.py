"""Losses of one segment, and the sums that its metrics are made of.

Arrays in, numbers out: nothing here calls the model. Everything is a *sum*
over rows; dividing once by the global batch size is the caller's task.

Source: arXiv 2506.21734; models/losses.py of its code. Differs from it in
working in float32 where it uses float64: in the form log(s(x)) the stablemax
needs no more (within 2e-6 x max(1, loss)).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from hrm_jax.data.puzzle import IGNORE_LABEL_ID

LOSS_TYPES = ("stablemax_cross_entropy", "softmax_cross_entropy")


def log_stablemax_scores(logits: jax.Array) -> jax.Array:
  """log s(x), where s(x) = x + 1 for x >= 0 and 1 / (1 - x) below.

  The stablemax is s(x) over its sum. It grows linearly where the softmax
  grows exponentially, so the loss keeps its gradient when the network is
  already sure (arXiv 2501.04697).

  Args:
    logits: [..., V] of any float dtype.

  Returns:
    [..., V] float32; their softmax is the stablemax of the logits.
  """
  x = logits.astype(jnp.float32)
  # Each branch sees only its own half line, which keeps both derivatives
  # finite everywhere (1 / (1 - x) at x = 1 is where a plain `where` fails).
  positive = jnp.where(x >= 0, x, 0.0)
  negative = jnp.where(x >= 0, 0.0, x)
  return jnp.where(x >= 0, jnp.log1p(positive), -jnp.log1p(-negative))


def cross_entropy(
  logits: jax.Array, labels: jax.Array, loss_type: str
) -> jax.Array:
  """Cross-entropy of each cell.

  Args:
    logits: [..., V] of any float dtype.
    labels: [...] int32 in [0, V), or IGNORE_LABEL_ID.
    loss_type: one of LOSS_TYPES.

  Returns:
    [...] float32; 0 at ignored cells, as is the gradient there.

  Raises:
    ValueError: unknown `loss_type`.
  """
  # Picked by comparison: the gradient of a gather would be a scatter. A label
  # that is ignored is no token, so it picks nothing.
  token = jnp.arange(logits.shape[-1], dtype=labels.dtype)  # [V]
  token = jnp.expand_dims(token, range(labels.ndim))  # [1, ..., V]
  is_label = token == labels[..., None]  # [..., V]
  if loss_type == "stablemax_cross_entropy":
    scores = log_stablemax_scores(logits)  # [..., V]
    score = jnp.where(is_label, scores, 0.0).sum(-1, keepdims=True)  # [..., 1]
    # The label's score goes in before the sum, not out after it: a small
    # loss would drown in the rounding of large scores.
    loss = jax.nn.logsumexp(scores - score, axis=-1)
  elif loss_type == "softmax_cross_entropy":
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    loss = -jnp.where(is_label, log_probs, 0.0).sum(-1)
  else:
    raise ValueError(
      f"loss_type: expected one of {', '.join(LOSS_TYPES)}, got {loss_type!r}."
    )
  return jnp.where(labels != IGNORE_LABEL_ID, loss, 0.0)


def sequence_correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Whether all valid cells of a row are right: [B] bool.

  A row without valid cells counts as right, as in the reference.
  """
  right = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels  # [B, G]
  return jnp.all(right | (labels == IGNORE_LABEL_ID), axis=-1)


@jax.custom_jvp
def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """The loss of a chance, sigmoid(logit), whose slope is chance - target.

  To the last bit, as in the reference. Both halting values start at the same
  logit, so going on is told the value that it has. The slope of the usual form
  is rounding noise there, and Adam-atan2, which knows no scale, makes whole
  steps of noise.

  Args:
    logits: [...] float32.
    targets: [...] float32 in 0..1; data, without a gradient of their own.

  Returns:
    [...] float32.
  """
  return optax.sigmoid_binary_cross_entropy(logits, targets)


@binary_cross_entropy.defjvp
def _slope(primals, tangents):
  logits, targets = primals
  slope = jax.nn.sigmoid(logits) - targets
  return binary_cross_entropy(logits, targets), slope * tangents[0]


def loss_and_metrics(
  logits: jax.Array,
  q_halt_logits: jax.Array,
  q_continue_logits: jax.Array,
  target_q_continue: jax.Array | None,
  *,
  labels: jax.Array,
  halted: jax.Array,
  segments: jax.Array,
  loss_type: str,
  q_weight: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss of a segment and the sums behind its metrics.

  Args:
    logits: [B, G, V].
    q_halt_logits: [B] float32; trained towards "the answer is right".
    q_continue_logits: [B] float32; trained towards `target_q_continue`.
    target_q_continue: [B] float32 in 0..1, without gradient; None where
      there is no such loss (evaluation, one segment only).
    labels: [B, G] int32 or IGNORE_LABEL_ID.
    halted: [B] bool, rows that end with this segment.
    segments: [B] int32, segments the row has spent on its puzzle.
    loss_type: one of LOSS_TYPES.
    q_weight: weight of the two halting losses.

  Returns:
    The loss, [] float32, summed over rows: cross-entropy averaged over each
    row's valid cells, plus `q_weight` times the halting losses of *all* rows,
    padding included. And the sums: `count`, `accuracy`, `exact_accuracy`,
    `q_halt_accuracy`, `steps` over rows that halted and have a valid cell
    (int32, accuracy float32), and the losses over all rows (float32).
  """
  valid = labels != IGNORE_LABEL_ID  # [B, G]
  valid_cells = valid.sum(-1)  # [B]
  right = valid & (jnp.argmax(logits, -1).astype(labels.dtype) == labels)
  correct = sequence_correct(logits, labels)  # [B]

  # Each row weighs the same, however many of its cells count. Every segment has
  # this loss, not the last one alone (deep supervision): an answer is asked for
  # wherever the row may halt.
  per_cell = cross_entropy(logits, labels, loss_type)  # [B, G]
  divisor = jnp.maximum(valid_cells, 1).astype(jnp.float32)  # [B]
  right_share = right.sum(-1).astype(jnp.float32) / divisor  # [B]
  lm_loss = (per_cell.sum(-1) / divisor).sum()
  # The value of halting is the chance that the answer, as it is now, is right:
  # the reward is 1 for a right answer and 0 otherwise.
  bce = binary_cross_entropy
  q_halt_loss = bce(q_halt_logits, correct.astype(jnp.float32)).sum()
  q_loss = q_halt_loss
  losses = {"lm_loss": lm_loss, "q_halt_loss": q_halt_loss}
  if target_q_continue is not None:
    q_continue_loss = bce(q_continue_logits, target_q_continue).sum()
    q_loss += q_continue_loss
    losses["q_continue_loss"] = q_continue_loss

  # Only answers that a row has settled on are judged; padding has none.
  counted = halted & (valid_cells > 0)  # [B]
  knew = (q_halt_logits >= 0) == correct
  metrics = {
    "count": counted.sum(dtype=jnp.int32),
    "accuracy": jnp.where(counted, right_share, 0.0).sum(),
    "exact_accuracy": (counted & correct).sum(dtype=jnp.int32),
    "q_halt_accuracy": (counted & knew).sum(dtype=jnp.int32),
    "steps": jnp.where(counted, segments, 0).sum(dtype=jnp.int32),
  }
  return lm_loss + q_weight * q_loss, metrics | losses


class Loss(NamedTuple):
  """Settings of `loss_and_metrics`; the keys of `config.loss`.

  Attributes:
    loss_type: one of LOSS_TYPES.
    q_weight: weight of the two halting losses.
  """

  loss_type: str = "stablemax_cross_entropy"
  q_weight: float = 0.5

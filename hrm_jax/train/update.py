"""One training update: pure functions of state and batch, no I/O, no mesh.

A run jits `train_steps`: one dispatch, of one or more updates. Below it, from
the outside in, stand the pieces it is made of, so that each can be held against
the reference: `train_step`, `compute_update`, `forward_backward`,
`apply_gradients`.

One update is one segment of thought for every row, not one puzzle: the loss is
taken after each segment and the weights move, while the states go on without
gradient (deep supervision). The batch is the global one. Nothing here knows of
machines: whoever has several hands in a `Spread` (see `data_parallel`), which
gives each its rows and adds up the gradients.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax

from hrm_jax.data.puzzle import Batch
from hrm_jax.model import halting, losses
from hrm_jax.model.halting import Carry, Draws
from hrm_jax.model.hrm import HRM, SegmentOutput
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import (
  Weights,
  gather_puzzle_rows,
  initial_latents,
)
from hrm_jax.optim import sparse_sign_sgd
from hrm_jax.optim.ema import EmaState
from hrm_jax.optim.sparse_sign_sgd import SparseRows
from hrm_jax.train import finite
from hrm_jax.train.state import Optimizers, TrainState


class Gradients(NamedTuple):
  """The gradients of an update: of its loss over the global batch size.

  Attributes:
    params: laid out like the parameters; None where only the table moves.
    puzzle_rows: a row per batch row, repeats not merged; None without table.
  """

  params: Any
  puzzle_rows: SparseRows | None


# Runs the forward and backward pass: a function from what all rows share, and
# arguments of B rows, to a pair, results of B rows and sums over the rows.
# A `Spread` is called with that function and its arguments; what it returns is
# what the function would return for all rows at once.
Spread = Callable[..., tuple[Any, Any]]


def all_rows_at_once(function: Callable, shared: Any, *by_row: Any) -> Any:
  """The `Spread` that does not spread."""
  return function(shared, *by_row)


class SegmentResult(NamedTuple):
  """What one segment of training yields, besides gradients.

  Attributes:
    output: of the network.
    target_q_continue: [B] float32, or None if nothing asks for it.
    loss: [] float32, summed over rows.
    sums: metric sums, see `losses.loss_and_metrics`.
  """

  output: SegmentOutput
  target_q_continue: jax.Array | None
  loss: jax.Array
  sums: dict[str, jax.Array]


class Examined(NamedTuple):
  """All that must be finite in an update, in the order it is computed.

  Weights and moments are not among it: an update that fails leaves them as they
  were, so they can be looked at later.

  Attributes:
    carry: before the update.
    output: of the segment.
    loss: [] float32.
    gradients: of the loss.
  """

  carry: Carry
  output: SegmentOutput
  loss: jax.Array
  gradients: Gradients


class Health(NamedTuple):
  """Whether updates were finite: [] after one of them, [n] after several.

  Attributes:
    is_good: bool, whether everything was.
    nonfinite: int32, which of `examined_names` is not, the first of them; -1
      if they all are.
  """

  is_good: jax.Array
  nonfinite: jax.Array


def train_steps(
  state: TrainState, batches: Sequence[Batch], **settings: Any
) -> tuple[TrainState, dict[str, jax.Array], Health]:
  """Several updates at once, the same as one after the other.

  Args:
    state: donate it.
    batches: n of them, as `train_step` takes one.
    **settings: of `train_step`.

  Returns:
    The new state; the metric sums and the health of each update, [n, ...].
  """

  def update(state, batch):
    state, sums, health = train_step(state, batch, **settings)
    return state, (sums, health)

  if len(batches) == 1:
    state, results = update(state, *batches)
    results = jax.tree.map(lambda leaf: leaf[None], results)
  else:
    # Each leaf [n, B, ...].
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *batches)
    state, results = lax.scan(update, state, stacked)
  sums, health = results
  return state, sums, health


def train_step(
  state: TrainState,
  batch: Batch,
  *,
  model: HRM,
  optimizers: Optimizers,
  loss: Loss,
  spread: Spread = all_rows_at_once,
) -> tuple[TrainState, dict[str, jax.Array], Health]:
  """One update: a segment for every row, then both optimisers.

  An update whose loss or gradients are not finite leaves the weights as they
  were; rows whose states are lost take new puzzles.

  Args:
    state: donate it.
    batch: B new puzzles; B is the *global* batch size.
    model: the network.
    optimizers: of the dense parameters and of the puzzle table.
    loss: which loss.
    spread: runs the pass.

  Returns:
    The new state; this update's metric sums, norms and learning rate; whether
    everything in it was finite. That stands apart from what is logged, because
    the two are read by different hands at different times.
  """
  state, sums, examined, is_good = compute_update(
    state, batch, model=model, optimizers=optimizers, loss=loss, spread=spread
  )
  nonfinite = finite.first_nonfinite_unless(is_good, examined)
  return state, sums, Health(is_good, nonfinite)


def compute_update(
  state: TrainState,
  batch: Batch,
  *,
  model: HRM,
  optimizers: Optimizers,
  loss: Loss,
  spread: Spread = all_rows_at_once,
) -> tuple[TrainState, dict[str, jax.Array], Examined, jax.Array]:
  """`train_step`, but with all that must be finite instead of a verdict on it.

  Args:
    state: before the update.
    batch: B new puzzles.
    model: the network.
    optimizers: of the dense parameters and of the puzzle table.
    loss: which loss.
    spread: runs the pass.

  Returns:
    The new state; metric sums, norms and learning rate; what must be finite;
    whether it is, [] bool.
  """
  # From the number of the update, not from a key that is handed on: a resumed
  # run draws what the uninterrupted one would have drawn.
  draws = halting.exploration_draws(
    jax.random.fold_in(state.key, state.step),
    batch["inputs"].shape[0],
    model.halt_max_steps,
  )
  carry, gradients, segment = forward_backward(
    model,
    state.weights,
    state.carry,
    batch,
    draws,
    loss,
    spread,
    table_only=optimizers.table_only,
  )
  new_state, norms, is_good = apply_gradients(
    state, gradients, optimizers, loss=segment.loss
  )
  sums = {
    **segment.sums,
    **norms,
    # The update that has just been done, counted from 1.
    "lr": optimizers.learning_rate(new_state.step),
  }
  examined = Examined(
    state.carry,
    segment.output,
    segment.loss,
    gradients,
  )
  return (
    new_state._replace(carry=halting.halt_broken(carry)),
    sums,
    examined,
    is_good,
  )


def forward_backward(
  model: HRM,
  weights: Weights,
  carry: Carry,
  batch: Batch,
  draws: Draws,
  loss: Loss,
  spread: Spread = all_rows_at_once,
  *,
  table_only: bool = False,
) -> tuple[Carry, Gradients, SegmentResult]:
  """One segment for every row, with gradient.

  Args:
    model: the network.
    weights: before the update; the bootstrapped target uses them too.
    carry: from the previous update.
    batch: new puzzles, for the rows that have halted.
    draws: this update's exploration.
    loss: which loss.
    spread: runs the pass.
    table_only: whether no gradient of the dense parameters is asked for.

  Returns:
    The new carry (detached), the gradients, and what the segment yielded.
  """
  # Rows that halted last time begin anew; the others go on where they were.
  carry = halting.refill(carry, batch, *initial_latents(model, weights))
  carry = carry._replace(segments=carry.segments + 1)  # This one included.
  # The gradient is taken for these rows, not for the table: it would be as
  # large as the table, and almost all zeros.
  ids = carry.current["puzzle_identifiers"]  # [B]
  rows = gather_puzzle_rows(model, weights, ids)  # [B, W]
  by_row, sums = spread(
    # By the global batch size, as in the reference: every row has a loss at
    # every segment, whether it halts or not.
    functools.partial(_differentiate, model, loss, ids.shape[0], table_only),
    weights._replace(puzzle_table=None),
    rows,
    carry,
    draws,
  )
  (d_rows, halted, output, target), (d_params, total, metrics) = by_row, sums
  new_carry = carry._replace(z_H=output.z_H, z_L=output.z_L, halted=halted)
  puzzle_rows = None
  if weights.puzzle_table is not None:
    puzzle_rows = SparseRows(ids, d_rows)
  segment = SegmentResult(output, target, total, metrics)
  return new_carry, Gradients(d_params, puzzle_rows), segment


def _differentiate(
  model, loss, batch_size, table_only, weights, rows, carry, draws
) -> Any:
  """The pass of `forward_backward`, for some rows of the batch or for all.

  Args:
    model: the network.
    loss: which loss.
    batch_size: what its sum is divided by, before the gradient is taken.
    table_only: whether the gradient of the parameters is None.
    weights: the table is not looked at.
    rows: [b, W] float32, each row's puzzle embedding.
    carry: the states and puzzles of these rows; `segments` counts this one.
    draws: of these rows.

  Returns:
    As a `Spread` takes it: by row the gradient of `rows`, [b] bool which halt,
    the network's output and the target; summed the gradient of the
    parameters, the loss (not divided) and the metric sums.
  """
  current, segments = carry.current, carry.segments

  def think(params, rows, z_H, z_L, method=None) -> Any:
    variables = weights._replace(params=params).variables
    inputs = current["inputs"]
    return model.apply(variables, z_H, z_L, inputs, rows, method=method)

  def scaled_loss(params, rows):
    output = think(params, rows, carry.z_H, carry.z_L)
    halted = halting.decide_halting(
      output,
      segments,
      draws,
      halt_max_steps=model.halt_max_steps,
      halt_exploration_prob=model.halt_exploration_prob,
      halt_early=model.halt_early,
    )
    target = None
    if model.needs_next_segment:
      # From where this segment ends, with the weights of this very update: the
      # next update thinks again from there, with the weights that have moved.
      frozen = lax.stop_gradient((params, rows))
      look_ahead = functools.partial(think, *frozen, method=HRM.q_logits)
      target = halting.bootstrap_target(
        look_ahead, output, segments, halt_max_steps=model.halt_max_steps
      )
    total, sums = losses.loss_and_metrics(
      output.logits,
      output.q_halt_logits,
      output.q_continue_logits,
      target,
      labels=current["labels"],
      halted=halted,
      segments=segments,
      loss_type=loss.loss_type,
      q_weight=loss.q_weight,
    )
    return total / batch_size, (halted, output, target, total, sums)

  # One gradient for both, for they come from one backward pass.
  argnums = (1,) if table_only else (0, 1)
  gradient = jax.grad(scaled_loss, argnums=argnums, has_aux=True)
  gradients, (halted, output, target, total, sums) = gradient(
    weights.params, rows
  )
  d_params, d_rows = (None, *gradients) if table_only else gradients
  return (d_rows, halted, output, target), (d_params, total, sums)


def apply_gradients(
  state: TrainState,
  gradients: Gradients,
  optimizers: Optimizers,
  *,
  loss: jax.Array | float = 0.0,
) -> tuple[TrainState, dict[str, jax.Array], jax.Array]:
  """Moves the weights, unless loss or gradients are not finite.

  Parameters that are not finite come out in their norm, afterwards: to look at
  the move before it is made would be two more passes over all of them.

  Args:
    state: before the update.
    gradients: of this update.
    optimizers: of the dense parameters and of the puzzle table.
    loss: of this update; if it is not finite, weights and moments stay as
      they are, as with gradients that are not.

  Returns:
    The state with the weights moved; norms; whether all was finite, [] bool.
  """
  weights = state.weights
  table, table_opt_state = weights.puzzle_table, state.table_opt_state
  norms = {}
  if gradients.params is not None:
    norms["grad_norm"] = optax.tree.norm(gradients.params)
  puzzle_rows, moves = gradients.puzzle_rows, None
  if table is not None and puzzle_rows is not None:
    # Not applied yet: [B, W], and the table is [N, W].
    row_updates, table_opt_state = optimizers.table.update(
      cast("Any", puzzle_rows), cast("Any", table_opt_state), table
    )
    moves = cast("SparseRows", row_updates)
    norms["puzzle_emb_grad_norm"] = optax.tree.norm(puzzle_rows.rows)
    norms["puzzle_emb_update_norm"] = optax.tree.norm(moves.rows)
  # A norm is finite only if all that it sums up is.
  is_good = jnp.all(jnp.isfinite(jnp.stack([loss, *norms.values()])))
  if table is not None and moves is not None:
    # A row beyond the table's end is dropped: a bad update moves none.
    ids = jnp.where(is_good, moves.ids, len(table))  # [B]
    table = sparse_sign_sgd.apply_sparse_updates(table, moves._replace(ids=ids))
    table_opt_state = jax.tree.map(
      lambda new, old: jnp.where(is_good, new, old),
      table_opt_state,
      state.table_opt_state,
    )
  params, opt_state = weights.params, state.opt_state
  average = state.average
  if gradients.params is not None:
    updates, opt_state = optimizers.dense.update(
      gradients.params, opt_state, params, is_good=is_good
    )
    if optimizers.average is not None:
      _, average = optimizers.average.update(
        updates, cast("Any", average), params, is_good=is_good
      )
    # If the update is bad, `updates` are zeros: the parameters stay.
    params = optax.apply_updates(params, updates)
  norms["param_norm"] = optax.tree.norm(params)
  state = state._replace(
    # Counted even so: the next update must take the next batch.
    step=state.step + 1,
    weights=weights._replace(params=params, puzzle_table=table),
    opt_state=opt_state,
    table_opt_state=table_opt_state,
    average=cast("EmaState | None", average),
  )
  return state, norms, is_good & jnp.isfinite(norms["param_norm"])

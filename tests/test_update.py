"""One training update, jitted as the trainer jits it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrm_jax.model import halting, losses
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import gather_puzzle_rows
from hrm_jax.train import divergence, update
from hrm_jax.train.divergence import examined_names
from tests.toys import (
  ARCHS,
  BATCH_SIZE,
  NUM_ROWS,
  Trainer,
  mesh_of,
  toy_batch,
  toy_model,
  toy_weights,
  without_halting,
)

LR, DECAY = 1e-2, 0.1  # What `toy_optimizers` use.


@functools.cache
def trainer(mesh=None):
  """Shared, for its compiled update: an exploring model on some devices."""
  return Trainer(toy_model(halt_exploration_prob=0.5), mesh)


def run(updates, mesh=None, seed=0):
  """The state after some updates, and each update's sums; host arrays."""
  ours = trainer(mesh)
  state, all_sums = ours.state(seed), []
  for i in range(updates):
    state, sums, _ = ours.step(state, ours.put(toy_batch(i)))
    all_sums.append(sums)
  state = state._replace(key=jax.random.key_data(state.key))
  return jax.device_get((state, all_sums))


def compiled(caplog):
  return [m for m in caplog.messages if m.startswith("Compiling")]


def assert_trees_equal(got, want):
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    np.testing.assert_array_equal(one, other)


def no_exploration():
  return halting.Draws(jnp.ones([BATCH_SIZE]), jnp.full([BATCH_SIZE], 2))


@functools.cache
def forward_backward():
  """Shared, for its compiled program: of the model of `trainer`."""
  return jax.jit(
    functools.partial(update.forward_backward, trainer().model, loss=Loss())
  )


def fresh_carry(model):
  z_shape = (model.num_positions, model.hidden_size)
  return halting.init_carry(BATCH_SIZE, z_shape, model.seq_len, model.dtype)


def test_update_is_a_pass_then_both_optimisers():
  ours = trainer()
  state = ours.state()
  draws = halting.exploration_draws(
    jax.random.fold_in(state.key, 0), BATCH_SIZE, ours.model.halt_max_steps
  )
  carry, gradients, segment = forward_backward()(
    state.weights, state.carry, toy_batch(), draws
  )
  apply = functools.partial(update.apply_gradients, optimizers=ours.optimizers)
  want, norms, _ = jax.jit(apply)(state, gradients)
  want = jax.device_get(want.weights)
  got, sums, _ = ours.step(state, ours.put(toy_batch()))
  assert sums.keys() == segment.sums.keys() | norms.keys() | {"lr"}
  assert int(got.step) == int(got.opt_state[0].count) == 1
  for one, other in zip(
    *map(jax.tree.leaves, (got.weights, want)), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-5)
  assert_trees_equal(got.carry.halted, carry.halted)
  np.testing.assert_allclose(got.carry.z_H, carry.z_H, atol=1e-5)


@pytest.mark.parametrize("axes", [(1, 1), (8, 1), (2, 4)])
def test_later_updates_do_not_recompile(axes, caplog):
  # `_cache_size` would count too much: with a typed key on several devices
  # JAX looks the same program up twice, without compiling it again.
  ours = trainer(mesh_of(*axes))
  batches = [ours.put(toy_batch(i)) for i in range(5)]
  state, *_ = ours.step(ours.state(), batches[0])
  with jax.log_compiles():
    for batch in batches[1:]:
      state, *_ = ours.step(state, batch)
    assert compiled(caplog) == []
    jax.jit(lambda x: x + 1)(np.ones(3))
    assert len(compiled(caplog)) == 1


def test_the_old_state_is_given_away():
  ours = trainer()
  state = ours.state()
  ours.step(state, ours.put(toy_batch()))
  kept = [
    jax.tree_util.keystr(path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    if not leaf.is_deleted()
  ]
  assert kept == []


def test_updates_move_nothing_between_host_and_device():
  ours = trainer()
  batches = [ours.put(toy_batch(i)) for i in range(3)]
  state, *_ = ours.step(ours.state(), batches[0])
  with jax.transfer_guard("disallow"):
    for batch in batches[1:]:
      state, *_ = ours.step(state, batch)
  assert int(state.step) == 3


def test_same_seed_gives_the_same_run():
  first, second, other = run(3), run(3), run(3, seed=1)
  assert_trees_equal(first, second)
  assert np.any(first[0].key != other[0].key)


@pytest.mark.parametrize("axes", [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_every_mesh_computes_what_one_device_does(axes):
  (one, one_sums), (many, many_sums) = run(10), run(10, mesh_of(*axes))
  for got, want in zip(many_sums, one_sums, strict=True):
    for name in want:
      np.testing.assert_allclose(got[name], want[name], rtol=1e-4, err_msg=name)
  np.testing.assert_array_equal(many.carry.segments, one.carry.segments)
  np.testing.assert_array_equal(many.carry.halted, one.carry.halted)
  assert len(np.unique(one.carry.segments)) > 1
  for got, want in zip(
    *map(jax.tree.leaves, (many.weights, one.weights)), strict=True
  ):
    # A five-hundredth of a move.
    np.testing.assert_allclose(got, want, rtol=0, atol=LR / 500)


@pytest.mark.parametrize("name", ARCHS)
def test_padding_rows_change_nothing_for_the_others(name):
  model, loss = toy_model(**ARCHS[name]), Loss()
  batch, real = toy_batch(padding=3), slice(BATCH_SIZE - 3)
  run_segment = jax.jit(
    functools.partial(update.forward_backward, model, loss=loss)
  )
  weights, draws = toy_weights(model), no_exploration()
  # So that all rows halt, those of padding too.
  weights.params["q_head"]["bias"] = jnp.asarray([100.0, -100.0])
  carry, _, padded = run_segment(weights, fresh_carry(model), batch, draws)
  _, _, full = run_segment(weights, fresh_carry(model), toy_batch(), draws)
  for got, want in zip(padded.output, full.output, strict=True):
    np.testing.assert_array_equal(got[real], want[real])
  _, sums = losses.loss_and_metrics(
    *(padded.output[i][real] for i in (2, 3, 4)),
    None,
    labels=batch["labels"][real],
    halted=carry.halted[real],
    segments=carry.segments[real],
    loss_type=loss.loss_type,
    q_weight=loss.q_weight,
  )
  assert np.all(carry.halted)
  for key in ("count", "accuracy", "exact_accuracy", "steps", "lm_loss"):
    np.testing.assert_allclose(padded.sums[key], sums[key], rtol=1e-6)


def test_several_updates_at_once_are_the_same_as_one_by_one():
  ours = trainer()
  eight = ours.setup.jit_update(update.train_steps)
  batches = tuple(ours.put(toy_batch(i)) for i in range(8))
  state, all_sums, health = eight(ours.state(), batches)
  want, want_sums = run(8)
  state = state._replace(key=jax.random.key_data(state.key))
  assert_trees_equal(state, want)
  for i, sums in enumerate(want_sums):
    assert_trees_equal({k: v[i] for k, v in all_sums.items()}, sums)
  assert health.is_good.tolist() == [True] * 8
  assert health.nonfinite.tolist() == [-1] * 8


def test_without_a_target_rows_halt_when_halting_is_likelier_than_not():
  model = toy_model(q_target="none", halt_exploration_prob=0.0)
  ours = Trainer(model)
  weights = toy_weights(model)
  # So that some rows like to halt, and some do not.
  weights.params["q_head"]["bias"] = jnp.zeros([2])
  carry, gradients, segment = jax.jit(
    functools.partial(update.forward_backward, model, loss=Loss())
  )(weights, fresh_carry(model), toy_batch(), no_exploration())
  assert segment.target_q_continue is None
  assert "q_continue_loss" not in segment.sums
  likely = jax.nn.sigmoid(segment.output.q_halt_logits) > 0.5
  np.testing.assert_array_equal(carry.halted, likely)
  assert 0 < likely.sum() < BATCH_SIZE
  np.testing.assert_array_equal(gradients.params["q_head"]["kernel"][:, 1], 0)
  *_, health = ours.step(ours.state(), ours.put(toy_batch()))
  assert health.is_good


def test_target_uses_the_weights_before_the_update():
  ours = trainer()
  model, weights = ours.model, toy_weights(ours.model)
  batch = toy_batch()
  new, sums, _ = ours.step(ours.state(), ours.put(batch))
  think = jax.jit(model.apply)

  def loss_of_going_on(weights):
    rows = gather_puzzle_rows(model, weights, batch["puzzle_identifiers"])
    inputs = (weights.variables, new.carry.z_H, new.carry.z_L)
    following = think(*inputs, batch["inputs"], rows)
    value = jnp.maximum(following.q_halt_logits, following.q_continue_logits)
    # The heads of the segment itself, from the state that it left.
    q_head = toy_weights(model).params["q_head"]
    q = new.carry.z_H[:, 0] @ q_head["kernel"] + q_head["bias"][None]
    return optax.sigmoid_binary_cross_entropy(
      q[:, 1], jax.nn.sigmoid(value)
    ).sum()

  got = sums["q_continue_loss"]
  np.testing.assert_allclose(got, loss_of_going_on(weights), rtol=1e-5)
  assert not np.isclose(got, loss_of_going_on(new.weights), rtol=1e-3)


def test_with_one_segment_there_is_no_target():
  model = toy_model(halt_max_steps=1)
  _, _, segment = jax.eval_shape(
    functools.partial(update.forward_backward, model, loss=Loss()),
    toy_weights(model),
    fresh_carry(model),
    toy_batch(),
    no_exploration(),
  )
  assert segment.target_q_continue is None
  assert "q_continue_loss" not in segment.sums


def test_no_gradient_crosses_updates():
  model = toy_model()
  carry = fresh_carry(model)
  carry = carry._replace(halted=jnp.zeros([BATCH_SIZE], bool))

  def loss(z_H, z_L):
    _, _, segment = update.forward_backward(
      model,
      toy_weights(model),
      carry._replace(z_H=z_H, z_L=z_L),
      toy_batch(),
      no_exploration(),
      Loss(),
    )
    return segment.loss

  grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(carry.z_H + 1, carry.z_L)
  assert not np.any(grads[0])
  assert not np.any(grads[1])


def test_gradient_is_that_of_the_mean_over_the_global_batch():
  model, batch = trainer().model, toy_batch()
  _, gradients, segment = forward_backward()(
    toy_weights(model), fresh_carry(model), batch, no_exploration()
  )
  output = segment.output
  correct = losses.sequence_correct(output.logits, batch["labels"])
  correct = correct.astype(jnp.float32)
  # The slope of a binary cross-entropy is probability minus target.
  q = jnp.stack([output.q_halt_logits, output.q_continue_logits])
  targets = jnp.stack([correct, segment.target_q_continue])
  want = 0.5 * (jax.nn.sigmoid(q) - targets).mean(axis=1)
  got = gradients.params["q_head"]["bias"]
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_rows_in_use_are_those_of_the_current_puzzles():
  ours = trainer()
  state = ours.state(weights=without_halting(toy_weights(ours.model)))
  before = np.array(state.weights.puzzle_table)
  mine, offered = toy_batch(0), toy_batch(1)
  mine["puzzle_identifiers"][:] = [1, 1, 1, 2, 2, 2, 4, 4]
  offered["puzzle_identifiers"][:] = 3
  for batch in (mine, offered, offered):
    state, *_ = ours.step(state, ours.put(batch))
  same = np.all(np.array(state.weights.puzzle_table) == before, axis=1)
  np.testing.assert_array_equal(np.nonzero(~same)[0], [1, 2, 4])
  assert state.carry.segments.tolist() == [3] * BATCH_SIZE


def test_the_blank_row_of_the_table_is_updated_too():
  ours = trainer()
  state = ours.state()
  before = np.array(state.weights.puzzle_table)
  batch = toy_batch(padding=3)
  state, sums, _ = ours.step(state, ours.put(batch))
  moves = np.array(state.weights.puzzle_table) - before * (1 - LR * DECAY)
  np.testing.assert_allclose(np.abs(moves[0]), np.full(16, LR), rtol=1e-3)
  assert sums["count"] <= BATCH_SIZE - 3


def test_without_table_there_is_nothing_to_move_in_it():
  ours = Trainer(toy_model(puzzle_emb_ndim=0))
  state, sums, _ = jax.eval_shape(ours.step, ours.shapes, toy_batch())
  assert state.weights.puzzle_table is state.table_opt_state is None
  assert "grad_norm" in sums
  assert "puzzle_emb_grad_norm" not in sums


def test_logged_norms_are_those_of_the_weights_and_of_the_table_s_move():
  ours = trainer()
  state = ours.state()
  before = jax.device_get(state.weights)
  state, sums, _ = ours.step(state, ours.put(toy_batch()))
  after = jax.device_get(state.weights)
  np.testing.assert_allclose(
    sums["param_norm"], optax.tree.norm(after.params), rtol=1e-5
  )
  table_move = np.linalg.norm(after.puzzle_table - before.puzzle_table)
  np.testing.assert_allclose(
    sums["puzzle_emb_update_norm"], table_move, rtol=1e-3
  )
  assert sums["lr"] == np.float32(LR)


def test_fresh_weights_have_a_table_of_zeros_and_a_modest_q_head():
  weights = trainer().fresh_state(0).weights
  assert weights.puzzle_table.shape == (NUM_ROWS, 16)
  assert not np.any(weights.puzzle_table)
  assert not np.any(weights.params["q_head"]["kernel"])
  assert weights.params["q_head"]["bias"].tolist() == [-5.0, -5.0]


# What is not finite.


def poisoned(state, what):
  """A state with one NaN in it."""
  if what == "table":
    table = state.weights.puzzle_table
    id_ = toy_batch()["puzzle_identifiers"][3]
    table = table.at[id_, 2].set(jnp.nan)
    return state._replace(weights=state.weights._replace(puzzle_table=table))
  if what == "carry":
    carry = state.carry
    carry = carry._replace(
      z_L=carry.z_L.at[3, 1, 2].set(jnp.inf),
      halted=carry.halted.at[3].set(False),
    )
    return state._replace(carry=carry)
  if what == "moments":
    first, *rest = state.opt_state
    nu = {
      **first.nu,
      "lm_head": {"kernel": first.nu["lm_head"]["kernel"] * jnp.nan},
    }
    return state._replace(opt_state=(first._replace(nu=nu), *rest))
  if what == "unused":
    table = state.weights.params["embed_tokens"]["embedding"]
    broken = {"embedding": table.at[1].set(jnp.nan)}
    params = {**state.weights.params, "embed_tokens": broken}
    return state._replace(weights=state.weights._replace(params=params))
  kernel = state.weights.params["lm_head"]["kernel"].at[1, 1].set(jnp.nan)
  params = {**state.weights.params, "lm_head": {"kernel": kernel}}
  return state._replace(weights=state.weights._replace(params=params))


@pytest.mark.parametrize(
  ("what", "named"),
  [
    ("params", "output.logits"),
    ("table", "output.z_H"),
    ("carry", "carry.z_L"),
  ],
)
def test_an_update_that_is_not_finite_moves_nothing_and_says_why(what, named):
  ours = trainer()
  state = poisoned(ours.state(), what)
  before = jax.device_get((state.weights, state.opt_state))
  batch = ours.put(toy_batch())
  names = examined_names(
    state,
    batch,
    model=ours.model,
    optimizers=ours.optimizers,
    loss=Loss(),
  )
  after, _, health = ours.step(state, batch)
  assert not health.is_good
  number = int(health.nonfinite)
  assert (names[number] if number >= 0 else None) == named
  assert_trees_equal((after.weights, after.opt_state), before)
  assert int(after.step) == 1


@pytest.mark.parametrize(
  ("what", "named"),
  [
    ("moments", "opt_state.0.nu.lm_head.kernel"),
    # The row of a token that no puzzle has: all that is computed is finite.
    ("unused", "weights.params.embed_tokens.embedding"),
  ],
)
def test_weights_and_moments_that_are_not_finite_are_named(what, named):
  ours = trainer()
  batch = toy_batch()
  batch["inputs"][batch["inputs"] == 1] = 2
  settings = {
    "model": ours.model,
    "optimizers": ours.optimizers,
    "loss": Loss(),
  }
  after, _, health = ours.step(poisoned(ours.state(), what), ours.put(batch))
  assert not health.is_good
  number = int(health.nonfinite)
  assert number == -1
  assert divergence.name_nonfinite(after, batch, number, **settings) == named


def test_rows_that_are_not_finite_take_a_new_puzzle_and_training_goes_on():
  ours = trainer()
  state, _, health = ours.step(
    poisoned(ours.state(), "carry"), ours.put(toy_batch())
  )
  assert not health.is_good
  assert state.carry.halted[3]
  before = jax.device_get(state.weights)
  state, _, health = ours.step(state, ours.put(toy_batch(1)))
  assert health.is_good
  assert int(health.nonfinite) == -1
  assert int(state.carry.segments[3]) == 1
  moved = jax.tree.map(
    lambda a, b: np.any(a != b), state.weights.params, before.params
  )
  assert all(jax.tree.leaves(moved))

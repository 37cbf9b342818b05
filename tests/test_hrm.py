"""One segment: what flows where, and what may not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.model import halting, layers
from hrm_jax.model.hrm import HRM, SegmentOutput, count_parameters
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import init_weights
from hrm_jax.train import update
from tests.toys import (
  ARCHS,
  BATCH_SIZE,
  METADATA,
  normal,
  toy_batch,
  toy_model,
  toy_weights,
  weight_shapes,
)


def segment_inputs(model, seed=0):
  """States, tokens and puzzle rows for `model`."""
  z_shape = (BATCH_SIZE, model.num_positions, model.hidden_size)
  z_H, z_L = normal(2, *z_shape, seed=seed, dtype=model.dtype)
  rows = normal(BATCH_SIZE, model.puzzle_width, seed=seed + 1)
  return z_H, z_L, jnp.asarray(toy_batch(seed)["inputs"]), rows


def think(model, *inputs):
  variables = toy_weights(model).variables
  return jax.jit(model.apply)(variables, *inputs)


def wave(output):
  """A number that depends on all that a segment yields."""
  return sum(jnp.sum(jnp.sin(leaf)) for leaf in output)


def assert_close(got, want, *, rtol):
  """Each leaf within `rtol` of the leaf's largest element."""
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    atol = rtol * np.abs(other).max()
    np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def test_sudoku_size_has_the_published_number_of_parameters():
  model = HRM(vocab_size=11, seq_len=81)
  weights = jax.eval_shape(
    lambda key: init_weights(model, key, 1), jax.random.key(0)
  )
  assert count_parameters(weights.params) == 27_275_266


# ------------------------------------------------- what every network holds


@functools.cache
def network(name):
  """The model of a row of ARCHS, its weights, and what it makes of inputs."""
  model = toy_model(**ARCHS[name])
  inputs = segment_inputs(model)
  return model, toy_weights(model).variables, inputs, think(model, *inputs)


@pytest.mark.parametrize("name", ARCHS)
def test_no_gradient_reaches_the_incoming_states(name):
  model, variables, inputs, _ = network(name)
  gradient = jax.grad(
    lambda *args: wave(model.apply(*args)), argnums=(0, 1, 2, 4)
  )
  d_variables, d_z_H, d_z_L, d_rows = jax.jit(gradient)(variables, *inputs)
  assert not np.any(d_z_H)
  assert not np.any(d_z_L)
  for d_param in jax.tree.leaves(d_variables["params"]):
    assert np.any(d_param)
  assert np.all(d_rows)


@pytest.mark.parametrize("name", ARCHS)
def test_rows_do_not_see_each_other(name):
  model, _, inputs, want = network(name)
  others = segment_inputs(model, seed=5)
  mixed = [a.at[3:].set(b[3:]) for a, b in zip(inputs, others, strict=True)]
  for got, one in zip(think(model, *mixed), want, strict=True):
    np.testing.assert_array_equal(got[:3], one[:3])


@pytest.mark.parametrize("name", ARCHS)
def test_outputs_move_with_their_rows(name):
  model, _, inputs, want = network(name)
  order = np.random.default_rng(0).permutation(BATCH_SIZE)
  moved = think(model, *(leaf[order] for leaf in inputs))
  for got, one in zip(moved, want, strict=True):
    np.testing.assert_array_equal(got, one[order])


@pytest.mark.parametrize("name", ARCHS)
def test_q_alone_is_what_the_segment_says(name):
  model, variables, inputs, output = network(name)
  q_logits = jax.jit(functools.partial(model.apply, method=HRM.q_logits))
  want = output.q_halt_logits, output.q_continue_logits
  assert np.std(want[0]) > 0
  assert_close(q_logits(variables, *inputs), want, rtol=2e-5)


@pytest.mark.parametrize("name", ARCHS)
def test_compiling_changes_nothing_but_rounding(name):
  model, variables, inputs, want = network(name)
  with jax.disable_jit():
    assert_close(model.apply(variables, *inputs), want, rtol=1e-4)


@pytest.mark.parametrize("name", ARCHS)
def test_states_stay_in_the_compute_dtype(name):
  model = toy_model(**ARCHS[name], forward_dtype="bfloat16")
  output = jax.eval_shape(
    model.apply, weight_shapes(model).variables, *segment_inputs(model)
  )
  dtypes = [leaf.dtype.name for leaf in output]
  assert dtypes == ["bfloat16"] * 3 + ["float32"] * 2


# ---------------------------------------------------------------- gradient


def written_out(model, variables, rows, z_H, z_L, inputs, first):
  """A segment as it is written down; gradient from the L update `first` on."""
  bound = model.bind(variables)
  f_H = bound.L_level if model.shared_level else bound.H_level
  x = bound.embed_inputs(inputs, rows)
  for i in range(model.H_cycles):
    for j in range(model.L_cycles):
      if (i, j) == first:
        z_H, z_L = jax.lax.stop_gradient((z_H, z_L))
      z_L = bound.L_level(z_L, z_H + x)
    z_H = f_H(z_H, z_L)
  q = bound.q_head(z_H[:, 0])
  logits = bound.lm_head(z_H[:, model.num_slots :])
  return SegmentOutput(z_H, z_L, logits, q[:, 0], q[:, 1])


@pytest.mark.parametrize(
  ("H_cycles", "L_cycles", "gradient_scope", "first", "shared_level", "unroll"),
  [
    (1, 1, "last_update", (0, 0), False, False),
    (2, 3, "last_update", (1, 2), False, False),
    (2, 3, "last_update", (1, 2), False, True),
    (2, 3, "last_update", (1, 2), True, False),
    (2, 3, "last_cycle", (1, 0), False, False),
    (2, 3, "last_cycle", (1, 0), True, True),
  ],
)
def test_gradient_passes_the_last_updates_alone(
  H_cycles, L_cycles, gradient_scope, first, shared_level, unroll
):
  model = toy_model(
    H_cycles=H_cycles,
    L_cycles=L_cycles,
    gradient_scope=gradient_scope,
    shared_level=shared_level,
    unroll=unroll,
  )
  z_H, z_L, inputs, rows = segment_inputs(model)

  def gradient(segment):
    def total(variables, rows):
      output = segment(variables, rows)
      return wave(output), output

    of_total = jax.grad(total, argnums=(0, 1), has_aux=True)
    return jax.jit(of_total)(toy_weights(model).variables, rows)

  got = gradient(
    lambda variables, rows: model.apply(variables, z_H, z_L, inputs, rows)
  )
  want = gradient(
    lambda variables, rows: written_out(
      model, variables, rows, z_H, z_L, inputs, first
    )
  )
  assert_close(got, want, rtol=1e-4)


def test_without_z_L_the_slow_state_hears_the_puzzle():
  model = toy_model(H_only=True, H_cycles=3)
  z_H, z_L, inputs, rows = segment_inputs(model)
  weights = toy_weights(model)
  assert "L_level" not in weights.params

  def by_hand(variables, rows):
    bound = model.bind(variables)
    x = bound.embed_inputs(inputs, rows)
    z = z_H
    for i in range(3):
      z = jax.lax.stop_gradient(z) if i == 2 else z
      z = bound.H_level(z, x)
    q = bound.q_head(z[:, 0])
    logits = bound.lm_head(z[:, model.num_slots :])
    return SegmentOutput(z, z_L, logits, q[:, 0], q[:, 1])

  def gradient(segment):
    of_total = jax.grad(lambda *args: wave(segment(*args)), argnums=(0, 1))
    return jax.jit(of_total)(weights.variables, rows)

  got = gradient(lambda v, rows: model.apply(v, z_H, z_L, inputs, rows))
  assert_close(got, gradient(by_hand), rtol=1e-4)


def test_slots_of_the_puzzle_are_filled_up_with_zeros():
  model = toy_model(puzzle_emb_len=3)
  _, _, inputs, rows = segment_inputs(model)
  variables = toy_weights(model).variables
  embed = functools.partial(model.apply, variables, method=HRM.embed_inputs)
  x = embed(inputs, rows)
  assert x.shape[1] == 3 + model.seq_len
  assert not np.any(x[:, 1:3])
  one = toy_model().apply(variables, inputs, rows, method=HRM.embed_inputs)
  np.testing.assert_array_equal(np.delete(x, [1, 2], axis=1), one)
  assert toy_model(puzzle_emb_len=3, puzzle_emb_ndim=0).num_slots == 0


def test_one_module_has_the_weights_of_one():
  both, one = toy_model(), toy_model(shared_level=True, L_layers=2)
  assert "H_level" in weight_shapes(both).params
  params = weight_shapes(one).params
  assert "H_level" not in params
  assert params["L_level"].keys() == {"layers_0", "layers_1"}


def test_remat_gives_the_same_gradients_in_less_memory():
  def gradients(remat):
    # One cycle, so that rounding is not amplified over many blocks.
    cycles = {"H_cycles": 1, "L_cycles": 1}
    model = toy_model(remat=remat, H_layers=4, L_layers=4, **cycles)
    variables = toy_weights(model).variables
    inputs = segment_inputs(model)
    gradient = jax.grad(lambda *args: wave(model.apply(*args)))
    gradient = jax.jit(gradient).lower(variables, *inputs).compile()
    memory = gradient.memory_analysis().temp_size_in_bytes
    return gradient(variables, *inputs), memory

  got, memory = gradients(remat=True)
  want, memory_without = gradients(remat=False)
  assert_close(got, want, rtol=2e-5)
  assert memory < 0.7 * memory_without, (memory, memory_without)


def test_unrolled_blocks_are_the_same_network():
  model = toy_model(H_layers=2, L_layers=3)
  inputs = segment_inputs(model)
  unrolled = toy_model(H_layers=2, L_layers=3, unroll=True)
  assert weight_shapes(unrolled) == weight_shapes(model)
  assert_close(think(unrolled, *inputs), think(model, *inputs), rtol=2e-5)


def test_the_layout_for_a_tpu_is_the_same_network():
  cycles = {"H_cycles": 3, "L_cycles": 3}
  model = toy_model(unroll=True, **cycles)
  inputs = segment_inputs(model)
  for_tpu = model.clone(for_tpu=True)
  assert weight_shapes(for_tpu) == weight_shapes(model)
  assert_close(think(for_tpu, *inputs), think(model, *inputs), rtol=2e-5)


@pytest.mark.parametrize("unroll", [True, False])
def test_for_a_tpu_cycles_are_written_out_where_blocks_are(unroll):
  cycles = {"H_cycles": 3, "L_cycles": 3}
  model = toy_model(unroll=unroll, **cycles).clone(for_tpu=True)
  variables = jax.eval_shape(lambda: toy_weights(model).variables)
  inputs = segment_inputs(model)
  text = jax.jit(model.apply).lower(variables, *inputs).as_text()
  assert ("while" in text) is not unroll


def test_puzzle_rows_are_padded_into_slots_before_the_grid():
  model = toy_model(puzzle_emb_ndim=24)  # 1.5 D
  variables = toy_weights(model).variables
  _, _, inputs, rows = segment_inputs(model)
  x = model.apply(variables, inputs, rows, method="embed_inputs")
  assert x.shape == (BATCH_SIZE, 2 + METADATA.seq_len, 16)
  np.testing.assert_allclose(x[:, 0], 4 * rows[:, :16])
  np.testing.assert_allclose(x[:, 1, :8], 4 * rows[:, 16:])
  assert not np.any(x[:, 1, 8:])
  cells = variables["params"]["embed_tokens"]["embedding"][inputs]
  np.testing.assert_allclose(x[:, 2:], 4 * cells)


@pytest.mark.parametrize("puzzle_emb_ndim", [0, 16, 24])
def test_heads_read_the_first_position_and_the_grid(puzzle_emb_ndim):
  model = toy_model(puzzle_emb_ndim=puzzle_emb_ndim)
  params = toy_weights(model).params
  output = think(model, *segment_inputs(model))
  q = output.z_H[:, 0] @ params["q_head"]["kernel"]
  q += params["q_head"]["bias"][None]
  np.testing.assert_allclose(output.q_halt_logits, q[:, 0], atol=1e-5)
  np.testing.assert_allclose(output.q_continue_logits, q[:, 1], atol=1e-5)
  cells = output.z_H[:, -METADATA.seq_len :]
  logits = cells @ params["lm_head"]["kernel"]
  np.testing.assert_allclose(output.logits, logits, atol=1e-5)


def test_one_query_is_no_work_for_cudnn(monkeypatch):
  used = []

  def mix_values(query, key, value, implementation):
    used.append((query.shape[1], implementation))
    return query + key[:, :1] + value[:, :1]

  monkeypatch.setattr(layers, "mix_values", mix_values)
  model = toy_model(unroll=True, H_cycles=1, L_cycles=1).clone(
    attention="cudnn"
  )
  S = model.num_positions
  jax.eval_shape(
    functools.partial(model.apply, method=HRM.q_logits),
    toy_weights(model).variables,
    *segment_inputs(model),
  )
  assert used[-2:] == [(S, "cudnn"), (1, "xla")]


def test_without_puzzle_embedding_there_is_no_table():
  model = toy_model(puzzle_emb_ndim=0)
  assert model.num_positions == METADATA.seq_len
  assert weight_shapes(model).puzzle_table is None


@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_only_positions_tell_the_cells_apart(positions):
  model = toy_model(pos_encodings=positions, puzzle_emb_ndim=0)
  z_H, z_L, inputs, rows = segment_inputs(model)
  order = np.random.default_rng(0).permutation(METADATA.seq_len)
  shuffled = (z_H[:, order], z_L[:, order], inputs[:, order], rows)
  got = think(model, *shuffled).logits
  want = think(model, z_H, z_L, inputs, rows).logits[:, order]
  assert np.allclose(got, want, atol=1e-4) == (positions == "none")
  learned = "embed_pos" in weight_shapes(model).params
  assert learned == (positions == "learned")


def test_bfloat16_is_near_float32():
  exact, rounded = (
    think(model, *segment_inputs(model))
    for model in (toy_model(), toy_model(forward_dtype="bfloat16"))
  )
  assert rounded.z_H.dtype == rounded.logits.dtype == jnp.bfloat16
  assert rounded.q_halt_logits.dtype == jnp.float32
  for one, other in zip(exact, rounded, strict=True):
    error = np.abs(one - other.astype(jnp.float32))
    assert 0 < error.max() < 0.1 * np.abs(one).max()


def test_initial_states_are_drawn_apart_and_not_trained():
  model = toy_model(hidden_size=512)
  weights = jax.jit(lambda key: init_weights(model, key, 2))(jax.random.key(0))
  H_init, L_init = weights.initial_states.values()
  assert not np.any(H_init == L_init)
  for state in (H_init, L_init):
    np.testing.assert_allclose(state.std(), 1.0, rtol=0.1)
  assert "H_init" not in weights.params


def training_program(**arch):
  """The text of the program before XLA sees it."""
  model = toy_model(**arch)
  states = jnp.zeros((BATCH_SIZE, model.num_positions, model.hidden_size))
  carry = halting.init_carry(
    BATCH_SIZE, states.shape[1:], model.seq_len, model.dtype
  )
  draws = halting.exploration_draws(
    jax.random.key(0), BATCH_SIZE, model.halt_max_steps
  )
  forward_backward = functools.partial(
    update.forward_backward, model, loss=Loss()
  )
  lowered = jax.jit(forward_backward).lower(
    weight_shapes(model), carry, toy_batch(), draws
  )
  return lowered.as_text()


def test_program_does_not_grow_with_cycles_and_layers():
  # Unlike numbers of layers: of like ones JAX writes some functions once.
  small = {"H_cycles": 2, "L_cycles": 2, "H_layers": 2, "L_layers": 3}
  expected = training_program(**small)
  for key in ("H_cycles", "L_cycles"):
    program = training_program(**{**small, key: 7})
    assert program.count("\n") == expected.count("\n"), key
  for key in ("H_layers", "L_layers"):  # Weights are stacked, one by one.
    program = training_program(**{**small, key: 7})
    assert program.count("dot_general") == expected.count("dot_general"), key

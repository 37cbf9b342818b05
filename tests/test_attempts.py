"""Attempts at puzzles, as rows of one queue."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.data import sudoku, sudoku_generator, symmetry
from hrm_jax.data.puzzle import Batch
from hrm_jax.machines import sharding
from hrm_jax.model.hrm import SegmentOutput
from hrm_jax.model.weights import Weights
from hrm_jax.solve import continuous_batching, inference, views, voting
from hrm_jax.solve.attempts import Attempts
from hrm_jax.solve.ensemble import Noise
from tests.toys import METADATA, mesh_of, toy_batch, toy_model, toy_weights

PUZZLES = 11
NOISY = Noise(scale=1.0, samples=3, seed=5)


@functools.cache
def toy(**arch):
  model = toy_model(halt_max_steps=6, **arch)
  return model, toy_weights(model, seed=2)


@functools.cache
def shuffling():
  """Three views of any puzzle: cells and tokens permuted."""
  rng = np.random.default_rng(0)
  cells = np.stack([np.arange(METADATA.seq_len)] * 3)
  tokens = np.stack([np.arange(METADATA.vocab_size)] * 3)
  for part in (cells, tokens):
    part[1:] = rng.permuted(part[1:], axis=1)
  return views.BoardViews(symmetry.Symmetries(cells, tokens))


def attempt(
  batch,
  *,
  looking=None,
  noise=NOISY,
  halt="act",
  devices=1,
  batch_size=8,
  places=None,
  model=None,
  weights=None,
  with_trace=False,
):
  """All attempts at a batch, in as many questions as that takes."""
  if model is None:
    model, weights = toy()
  mesh = mesh_of(devices)
  weights = jax.device_put(weights, sharding.replicated(mesh))
  attempts = Attempts(
    model,
    mesh,
    looking or shuffling(),
    noise,
    halt=halt,
    batch_size=batch_size,
    with_trace=with_trace,
  )
  count = len(batch["inputs"])
  places = np.arange(count) if places is None else places
  size = attempts.puzzles_at_once(count)
  assert size % devices == 0
  found = []
  for start in range(0, count, size):
    part = {k: v[start : start + size] for k, v in batch.items()}
    n = len(part["inputs"])
    padded = {
      k: np.concatenate([v, np.zeros((size - n, *v.shape[1:]), v.dtype)])
      for k, v in part.items()
    }
    here = places[start : start + n]
    result = attempts.ask(weights, padded, here, size)
    found.append(attempts.read(result, padded, n))
  return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def assert_alike(got, want):
  """The same answers after as many segments; numbers up to their rounding.

  Which random weights enlarge from segment to segment.
  """
  np.testing.assert_array_equal(got.answers, want.answers)
  np.testing.assert_array_equal(got.segments, want.segments)
  for name in ("q_halt", "q_continue", "halt_probability"):
    one, other = getattr(got, name), getattr(want, name)
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("halt", ["full", "act"])
def test_a_single_attempt_is_the_plain_answer(halt):
  batch = toy_batch(batch_size=PUZZLES)
  model, weights = toy()
  got = attempt(
    batch, looking=views.Identity(), noise=Noise(), halt=halt, with_trace=True
  )
  want = inference.solve(
    model,
    weights,
    batch,
    halt=halt,
    observe=lambda output: output.logits.argmax(-1),
  )
  output = want.output
  np.testing.assert_array_equal(got.answers[:, 0], output.logits.argmax(-1))
  np.testing.assert_array_equal(got.segments[:, 0], want.segments)
  np.testing.assert_array_equal(got.trace[:, 0], want.trace.swapaxes(0, 1))
  np.testing.assert_allclose(got.q_halt[:, 0], output.q_halt_logits, atol=1e-4)
  np.testing.assert_allclose(
    got.halt_probability[:, 0], jax.nn.sigmoid(output.q_halt_logits), atol=1e-5
  )


@pytest.mark.parametrize(
  ("halt", "devices", "batch_size", "per_row"),
  [("act", 8, 16, 3), ("full", 1, 4, 5)],
)
def test_attempts_do_not_depend_on_batches_or_devices(
  monkeypatch, halt, devices, batch_size, per_row
):
  batch = toy_batch(batch_size=PUZZLES)
  want = attempt(batch, halt=halt)
  monkeypatch.setattr(continuous_batching, "PUZZLES_PER_ROW", per_row)
  got = attempt(batch, halt=halt, devices=devices, batch_size=batch_size)
  assert want.answers.shape == (PUZZLES, 3 * 3, METADATA.seq_len)
  assert_alike(got, want)


def test_an_attempt_through_a_view_answers_what_is_seen():
  batch, looking = toy_batch(batch_size=PUZZLES), shuffling()
  got = attempt(batch, noise=Noise())
  for view in range(3):
    seen, ids = looking.look(view, batch["inputs"], batch["puzzle_identifiers"])
    plain = attempt(
      {**batch, "inputs": seen, "puzzle_identifiers": ids},
      looking=views.Identity(),
      noise=Noise(),
    )
    np.testing.assert_array_equal(
      got.answers[:, view],
      looking.undo(view, plain.answers[:, 0], batch["inputs"], ids),
    )
  assert np.any(got.answers[:, 0] != got.answers[:, 1])


def test_noise_leaves_the_first_sample_alone_and_differs_in_the_others():
  batch = toy_batch(batch_size=PUZZLES)
  noisy, plain = attempt(batch), attempt(batch, noise=Noise())
  np.testing.assert_array_equal(noisy.answers[:, ::3], plain.answers)
  np.testing.assert_allclose(noisy.q_halt[:, ::3], plain.q_halt, atol=1e-4)
  values = noisy.q_halt.reshape(PUZZLES, 3, 3)
  assert np.all(np.abs(np.diff(values, axis=2)) > 1e-4)
  other = attempt(batch, noise=NOISY._replace(seed=6))
  assert np.all(np.abs(other.q_halt - noisy.q_halt)[:, 1:3] > 1e-4)


def test_noise_is_another_one_at_each_view():
  alike = [
    part.repeat(2, 0) for part in (np.arange(5)[None], np.arange(7)[None])
  ]
  looking = views.BoardViews(symmetry.Symmetries(*alike))
  got = attempt(toy_batch(batch_size=PUZZLES), looking=looking)
  plain, *noisy = np.moveaxis(got.q_halt.reshape(PUZZLES, 2, 3), 2, 0)
  np.testing.assert_allclose(plain[:, 0], plain[:, 1], atol=1e-4)
  for values in noisy:
    assert np.all(np.abs(values[:, 0] - values[:, 1]) > 1e-4)


def test_fewer_samples_are_the_first_of_more():
  batch = toy_batch(batch_size=PUZZLES)
  three, two = attempt(batch), attempt(batch, noise=NOISY._replace(samples=2))
  values = three.q_halt.reshape(PUZZLES, 3, 3)[:, :, :2]
  np.testing.assert_allclose(two.q_halt, values.reshape(PUZZLES, 6), atol=1e-4)


def test_noise_goes_by_the_place_of_a_puzzle_and_not_by_its_row():
  batch, places = toy_batch(batch_size=PUZZLES), np.arange(PUZZLES)
  want = attempt(batch)
  backwards = {k: v[::-1] for k, v in batch.items()}
  got = attempt(backwards, places=places[::-1])
  assert_alike(jax.tree.map(lambda leaf: leaf[::-1], got), want)
  elsewhere = attempt(batch, places=places + 1)
  assert np.all(elsewhere.q_halt[:, 1] != want.q_halt[:, 1])


def test_labels_are_not_read():
  batch = toy_batch(batch_size=PUZZLES)
  noise = np.random.default_rng(1).integers(0, 7, batch["labels"].shape)
  got = attempt({**batch, "labels": noise.astype(np.int32)})
  want = attempt(batch)
  for one, other in zip(got, want, strict=True):
    np.testing.assert_array_equal(one, other)


class NakedSingles:
  """Writes a digit where no other can stand: it knows every symmetry."""

  hidden_size, halt_max_steps, puzzle_width = 1, 2, 0

  def __init__(self, side):
    self.side, self.vocab_size = side, sudoku.vocab_size(side)
    self.num_positions = side * side

  def apply(self, variables, *arguments, method=None):
    if method is not None:
      return jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1))
    z_H, z_L, inputs, _ = arguments
    there = jax.nn.one_hot(inputs, self.vocab_size)  # [B, G, V]
    units = sudoku.units(self.side)
    seen = jnp.zeros_like(there)
    for unit in units:
      seen = seen.at[:, unit].add(there[:, unit].sum(1, keepdims=True))
    free = (seen == 0).at[:, :, : sudoku.BLANK_ID + 1].set(False)
    one_left = free.sum(-1, keepdims=True) == 1
    is_blank = inputs[..., None] == sudoku.BLANK_ID
    logits = jnp.where(is_blank & one_left, 2 * free.astype(there.dtype), there)
    value = jnp.zeros(len(inputs))
    return SegmentOutput(z_H, z_L, logits, value, value)


@pytest.mark.parametrize("side", [4, 6, 9])
def test_a_network_that_knows_the_symmetries_is_of_one_mind(side):
  blanks = {4: (6, 8), 6: (14, 18), 9: (35, 40)}[side]
  puzzles, solutions = sudoku_generator.make_puzzles(
    np.random.default_rng(side), 4, side, *blanks
  )
  got = attempt(
    Batch(
      inputs=puzzles.astype(np.int32),
      labels=solutions.astype(np.int32),
      puzzle_identifiers=np.zeros(4, np.int32),
    ),
    model=NakedSingles(side),
    weights=Weights({}, {}, None),
    looking=views.make("sudoku", 8, side * side, seed=1),
    noise=Noise(),
  )
  filled = (got.answers[:, 0] != puzzles).sum()
  assert filled > 4
  chosen, votes = voting.choose(got.answers, got.halt_probability)
  assert np.all(votes == 8)
  assert np.all(chosen == 0)

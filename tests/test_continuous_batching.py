"""A queue of puzzles gets the answers of the plain loop, without idle rows.

Most tests use a segment that only counts, so the control logic stands alone.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.evaluate import scoring
from hrm_jax.machines import sharding
from hrm_jax.model.hrm import SegmentOutput
from hrm_jax.model.losses import Loss
from hrm_jax.model.weights import gather_puzzle_rows
from hrm_jax.solve import continuous_batching, inference, segments
from tests.toys import (
  BATCH_SIZE,
  mesh_of,
  toy_batch,
  toy_model,
  toy_weights,
  without_halting,
)

S, D = 3, 2
# (puzzles, rows): more, as many, fewer, no multiple, one row.
SIZES = [(12, 4), (4, 4), (3, 8), (11, 4), (7, 1)]


def counting_segment(z_H, z_L, puzzles):
  """Adds 1 to z_H and 2 to z_L; wants to halt beyond the puzzle's number."""
  z_H, z_L = z_H + 1, z_L + 2
  thought = z_H[:, 0, 0]
  logits = 10 * z_H + puzzles["name"][:, None, None]
  value = thought - puzzles["needs"]
  return SegmentOutput(z_H, z_L, logits, value, jnp.zeros_like(value))


def counting_puzzles(needs):
  needs = np.asarray(needs, np.float32)
  return {"needs": needs, "name": np.arange(len(needs), dtype=np.float32) / 8}


def run_counting(needs, rows, *, count=None, before_segment=None):
  def segment(z_H, z_L, puzzles):
    if before_segment is not None:
      jax.debug.callback(before_segment, z_H[:, 0, 0], puzzles["name"])
    return counting_segment(z_H, z_L, puzzles)

  @jax.jit
  def run(puzzles, count):
    z = jnp.zeros((rows, S, D))
    return continuous_batching.run_queue(
      segment,
      puzzles,
      count,
      z,
      z,
      halt_max_steps=4,
      keep=lambda output, steps, puzzles: (output, puzzles, steps),
      observe=lambda output, puzzles: output.logits,
    )

  count = len(needs) if count is None else count
  answers = run(counting_puzzles(needs), count)
  jax.effects_barrier()
  return answers


def some_needs(n):
  return np.random.default_rng(n).choice([0.5, 1.5, 2.5, 3.5, 9.0], n)


@functools.cache
def queue_with_padding(n, rows):
  """The answers to n puzzles and three of padding, and what rows looked at."""
  looked_at = []  # By name, once per row and segment.
  answers = run_counting(
    [*some_needs(n), *[0.5] * 3],
    rows,
    count=n,
    before_segment=lambda _, name: looked_at.extend(8 * name),
  )
  return answers, np.array(looked_at, int)


@pytest.mark.parametrize(("n", "rows"), SIZES)
def test_answers_are_those_of_the_plain_loop(n, rows):
  puzzles = counting_puzzles(some_needs(n))
  z = jnp.zeros((n, S, D))
  want = segments.run_segments(
    lambda z_H, z_L: counting_segment(z_H, z_L, puzzles),
    z,
    z,
    halt_max_steps=4,
    halt="act",
    observe=lambda output: output.logits,
  )
  answers, _ = queue_with_padding(n, rows)
  got = jax.tree.map(lambda leaf: leaf[:n], answers)
  kept, asked, steps = got.kept
  for one, other in zip(kept, want.output, strict=True):
    np.testing.assert_array_equal(one, other)
  np.testing.assert_array_equal(got.trace, want.trace.swapaxes(0, 1))
  np.testing.assert_array_equal(got.segments, want.segments)
  np.testing.assert_array_equal(steps, want.segments)
  np.testing.assert_array_equal(asked["name"], puzzles["name"])


@pytest.mark.parametrize(("n", "rows"), SIZES)
def test_every_puzzle_gets_its_segments_once_and_padding_none(n, rows):
  answers, looked_at = queue_with_padding(n, rows)
  segments = np.bincount(looked_at, minlength=n)  # Idle rows see padding.
  np.testing.assert_array_equal(segments[:n], answers.segments[:n])
  assert np.all(answers.segments[:n] > 0)
  for leaf in jax.tree.leaves(answers):
    assert not np.any(leaf[n:])


def test_a_queue_of_padding_ends_at_once():
  calls = []
  run_counting([0.5] * 8, 4, count=0, before_segment=lambda *_: calls.append(1))
  assert calls == []


@pytest.mark.parametrize(
  ("needs", "segments"),
  [
    # Row 0 takes four segments for its first puzzle, row 1 solves four.
    ([3.5, *[0.5] * 6], 5),
    ([0.5] * 7, 4),
    ([9.0] * 4, 8),
    ([9.0], 4),
  ],
)
def test_no_row_waits_while_there_are_puzzles(needs, segments):
  calls = []
  run_counting(needs, 2, before_segment=lambda *_: calls.append(1))
  assert len(calls) == segments


# -------------------------------------------------- with the transformer

BATCHES = 5


@functools.cache
def toy():
  """The toy HRM, weights that halt at different segments, and puzzles."""
  model = toy_model(halt_max_steps=6)
  batches = [toy_batch(seed) for seed in range(BATCHES)]
  queue = {
    key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]
  }
  return model, toy_weights(model, seed=2), batches, queue


def solve_batches(weights):
  """Every batch by the plain loop: output, steps and trace of each puzzle."""
  model, _, batches, _ = toy()
  solve = jax.jit(
    functools.partial(
      inference.solve, model, halt="act", observe=lambda output: output.logits
    )
  )
  answers = [solve(weights, batch) for batch in batches]
  return (
    jax.tree.map(lambda *x: np.concatenate(x), *[a.output for a in answers]),
    np.concatenate([a.segments for a in answers]),
    np.concatenate([a.trace for a in answers], axis=1).swapaxes(0, 1),
  )


@jax.jit
def solve_queue(weights, queue):
  model, *_ = toy()
  ids = queue["puzzle_identifiers"]
  rows = gather_puzzle_rows(model, weights, ids)
  return inference.solve_queue(
    model,
    weights._replace(puzzle_table=None),
    {**queue, "puzzle_rows": rows},
    len(ids),
    num_rows=BATCH_SIZE,
    keep=lambda output, steps, puzzles: output,
    observe=lambda output, puzzles: output.logits,
  )


def assert_same_bits(got, want):
  for one, other in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    np.testing.assert_array_equal(one, other)


def test_the_network_answers_bit_for_bit_as_in_batches():
  _, weights, _, queue = toy()
  want = solve_batches(weights)
  assert len(np.unique(want[1])) >= 3  # They halt at different segments.
  got = solve_queue(weights, queue)
  assert_same_bits((got.kept, got.segments, got.trace), want)


def test_rows_that_never_halt_early_are_answered_alike():
  _, weights, _, queue = toy()
  weights = without_halting(weights)
  got = solve_queue(weights, queue)
  assert np.all(got.segments == 6)
  assert_same_bits((got.kept, got.segments, got.trace), solve_batches(weights))


def test_answers_move_with_their_places_in_the_queue():
  _, weights, _, queue = toy()
  order = np.random.default_rng(0).permutation(BATCHES * BATCH_SIZE)
  shuffled = {key: value[order] for key, value in queue.items()}
  want = jax.tree.map(lambda leaf: leaf[order], solve_queue(weights, queue))
  assert_same_bits(solve_queue(weights, shuffled), want)


# ------------------------------------------------------- on many devices


def eval_chunk(axes):
  """`evaluate.eval_chunk` of the toy, jitted for a mesh of these axes."""
  return jax.jit(
    functools.partial(
      scoring.eval_chunk,
      model=toy()[0],
      loss=Loss(),
      mesh=mesh_of(*axes),
      batches=BATCHES,
      with_logits=True,
    )
  )


@functools.cache
def answered_queue():
  """The queue; every other puzzle's label is what the network answers."""
  _, weights, _, queue = toy()
  output, _, _ = solve_batches(weights)
  even = np.arange(BATCHES * BATCH_SIZE)[:, None] % 2 == 0
  labels = np.where(even, output.logits.argmax(-1), queue["labels"])
  labels[6] = IGNORE_LABEL_ID  # Asks for nothing: no padding, yet uncounted.
  return {**queue, "labels": labels.astype(np.int32)}


def arguments(axes, padding=0):
  mesh = mesh_of(*axes)
  weights, queue = toy()[1], dict(answered_queue())
  waiting = np.arange(BATCHES * BATCH_SIZE) < BATCHES * BATCH_SIZE - padding
  queue["labels"] = np.where(waiting[:, None], queue["labels"], IGNORE_LABEL_ID)
  return (
    jax.device_put(weights, sharding.of_weights(mesh, weights)),
    *jax.device_put((queue, waiting), sharding.by_row(mesh)),
  )


def score_batches(queue):
  """The scores of the plain loop, batch by batch, added up."""
  model, weights, *_ = toy()
  score = jax.jit(
    functools.partial(
      scoring.eval_step,
      model=model,
      loss=Loss(),
      mesh=mesh_of(1),
      halt="act",
    )
  )
  parts = [
    score(
      weights, {key: rows[i : i + BATCH_SIZE] for key, rows in queue.items()}
    )
    for i in range(0, BATCHES * BATCH_SIZE, BATCH_SIZE)
  ]
  return jax.tree.map(
    lambda *x: np.sum(x, axis=0), *[(sums, counts) for sums, counts, _ in parts]
  )


@pytest.mark.parametrize(
  ("axes", "padding"), [((1,), 0), ((8,), 0), ((4, 2), 13)]
)
def test_queues_score_like_batches(axes, padding):
  weights, queue, waiting = arguments(axes, padding)
  sums, counts, _ = eval_chunk(axes)(weights, queue, waiting)
  want_sums, want = score_batches(jax.device_get(queue))
  assert sums["count"] == BATCHES * BATCH_SIZE - padding - 1
  # Right answers come with thinking, and not all at once.
  right = want.right_after
  assert 0 < right[0] < right[-1] == want_sums["exact_accuracy"]
  # Nor do all halt at once, or are equally sure.
  assert (want.halts_after > 0).sum() > 1 < (want.halt_probability > 0).sum()
  for name, numbers in want._asdict().items():
    np.testing.assert_array_equal(getattr(counts, name), numbers)
  assert counts.halts_after.sum() == sums["count"]
  assert counts.halt_probability.sum() == sums["count"]
  if padding:  # In batches the padding has this loss too.
    assert sums.pop("q_halt_loss") < want_sums.pop("q_halt_loss")
  assert set(sums) == set(want_sums)
  for name, value in sums.items():
    np.testing.assert_allclose(value, want_sums[name], rtol=1e-5)


COLLECTIVE = re.compile(
  r"all-reduce|all-gather|all-to-all|reduce-scatter|collective|partition-id"
)
CALLED = re.compile(r"(?:body|condition|to_apply|calls)=%?([\w.-]+)")


def computations(hlo):
  """The text of each computation by its name."""
  texts, name = {}, None
  for line in hlo.splitlines():
    if line.endswith("{") and not line.startswith((" ", "HloModule")):
      name = line.removeprefix("ENTRY ").split()[0].removeprefix("%")
      texts[name] = ""
    elif name is not None:
      texts[name] += line + "\n"
  return texts


def inside_loops(hlo):
  """The text of every computation that runs in a `while` of the program."""
  texts = computations(hlo)
  todo = re.findall(r"(?:body|condition)=%?([\w.-]+)", hlo)
  seen = {}
  while todo:
    name = todo.pop()
    if name not in seen:
      seen[name] = texts[name]
      todo += CALLED.findall(texts[name])
  return "\n".join(seen.values())


def test_no_device_waits_for_another_inside_the_loop():
  hlo = eval_chunk((4, 2)).lower(*arguments((4, 2))).compile().as_text()
  inside = inside_loops(hlo)
  assert "dot(" in inside  # The network is in there.
  assert COLLECTIVE.search(hlo)  # The sums of the devices, after the loop.
  assert not COLLECTIVE.search(inside)

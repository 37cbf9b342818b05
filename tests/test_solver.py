"""The solver: tokens in, tokens and trace out, whatever the puzzle."""

import functools
import types

import jax
import numpy as np
import pytest

from hrm_jax.solve import continuous_batching, inference, solver
from hrm_jax.solve.solver import Solver
from tests.toys import METADATA, toy_batch, toy_model, toy_weights


@functools.cache
def toy():
  """What a solver reads of a checkpoint: a puzzle that is no Sudoku."""
  model = toy_model(halt_max_steps=6)
  return types.SimpleNamespace(
    model=model, weights=toy_weights(model, seed=2), metadata=METADATA
  )


def some_puzzles(count):
  batch = toy_batch(batch_size=count)
  return batch["inputs"].astype(np.uint8), batch["puzzle_identifiers"]


@pytest.mark.parametrize("halt", ["full", "act"])
@pytest.mark.parametrize("count", [1, 11])
def test_solutions_are_those_of_one_large_batch(monkeypatch, halt, count):
  monkeypatch.setattr(continuous_batching, "PUZZLES_PER_ROW", 2)
  inputs, ids = some_puzzles(count)
  found = list(Solver(toy(), halt=halt, batch_size=4)(inputs, ids))
  want = inference.solve(
    toy().model,
    toy().weights,
    {"inputs": inputs.astype(np.int32), "puzzle_identifiers": ids},
    halt=halt,
    observe=lambda output: output.logits.argmax(-1),
  )
  assert len(found) == count
  for i, solution in enumerate(found):
    np.testing.assert_array_equal(solution.puzzle, inputs[i])
    assert solution.segments == want.segments[i]
    np.testing.assert_array_equal(
      solution.trace, want.trace[: solution.segments, i]
    )
    np.testing.assert_array_equal(
      solution.answer, want.output.logits[i].argmax(-1)
    )
    values = (solution.q_halt, solution.q_continue, solution.halt_probability)
    q_halt = want.output.q_halt_logits[i]
    expected = (
      q_halt,
      want.output.q_continue_logits[i],
      jax.nn.sigmoid(q_halt),
    )
    # Programs for other numbers of rows round differently.
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
  if halt == "act" and count > 1:
    assert len({solution.segments for solution in found}) > 1


def test_without_identifiers_puzzles_have_none():
  inputs, ids = some_puzzles(3)
  solve = Solver(toy(), halt="full", batch_size=4)
  named, blank = (
    np.stack([solution.trace for solution in found])
    for found in (solve(inputs, ids), solve(inputs))
  )
  zeros = np.full_like(ids, METADATA.blank_identifier_id)
  same = np.stack([solution.trace for solution in solve(inputs, zeros)])
  np.testing.assert_array_equal(blank, same)
  assert np.any(blank != named)


@pytest.mark.parametrize("halt", ["full", "act"])
def test_a_few_puzzles_take_few_rows(monkeypatch, halt):
  sizes = []
  pad = solver.pad_batch
  monkeypatch.setattr(
    solver, "pad_batch", lambda *a: sizes.append(a[1]) or pad(*a)
  )
  found = Solver(toy(), halt=halt, batch_size=4096)(*some_puzzles(3))
  assert len(list(found)) == 3
  assert sizes == [3]


def test_no_puzzles_have_no_solutions():
  inputs, ids = some_puzzles(1)
  for halt in ("full", "act"):
    solve = Solver(toy(), halt=halt, batch_size=4)
    assert list(solve(inputs[:0], ids[:0])) == []


def test_the_limit_of_segments_can_be_another():
  inputs, ids = some_puzzles(3)
  for segments in (1, 9):
    trained = types.SimpleNamespace(**vars(toy()))
    trained.model = inference.with_segments(toy().model, segments)
    for solution in Solver(trained, halt="full", batch_size=4)(inputs, ids):
      assert solution.segments == segments
  assert inference.with_segments(toy().model, None) is toy().model


def test_unknown_halting_is_refused_before_anything_compiles():
  with pytest.raises(ValueError, match="expected one of full, act, got 'some'"):
    Solver(toy(), halt="some", batch_size=4)


def test_the_host_reads_while_the_device_has_the_next_one():
  handed_over = []
  results = solver.one_behind(
    lambda item: handed_over.append(item) or -item, [1, 2, 3]
  )
  seen = [(pair, len(handed_over)) for pair in results]
  assert seen == [((1, -1), 2), ((2, -2), 3), ((3, -3), 3)]

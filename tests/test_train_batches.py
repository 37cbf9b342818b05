"""The order of training and evaluation, and what a batch holds."""

import itertools

import numpy as np
import pytest

from hrm_jax.console import InputError
from hrm_jax.data import train_batches
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.split import open_split
from tests.datasets import example_numbers, rewrite_field, write_split

# Groups of one, two and three puzzles, of one to five examples.
MIXED = [[3, 1, 4], [2, 2], [5], [1, 1, 3], [4], [2, 1]]
MIXED_EXAMPLES = sum(map(sum, MIXED))


def open_groups(root, groups, **metadata):
  write_split(root, groups=groups, **metadata)
  return open_split(root, "train")


def make_train(split, **changed):
  arguments = {"global_batch_size": 7, "seed": 0, "epochs": 12}
  return train_batches.TrainData(
    split, **{"eval_interval": 4, **arguments, **changed}
  )


def puzzles_of(batch):
  return batch["puzzle_identifiers"] - 1


def visits_of(batches):
  """(puzzle, its examples) of each visit, in order, over several batches."""
  visits = []
  for batch in batches:
    examples, puzzle = [], None
    numbers = example_numbers(batch["inputs"])
    for row, example in zip(puzzles_of(batch), numbers, strict=True):
      # Two visits of one puzzle in a row: the second repeats an example.
      if row != puzzle or example in examples:
        examples, puzzle = [], row
        visits.append((int(puzzle), examples))
      examples.append(int(example))
  return visits


def assert_same_batches(got, expected):
  assert len(got) == len(expected)
  for one, other in zip(got, expected, strict=True):
    assert one.keys() == other.keys()
    for field in one:
      np.testing.assert_array_equal(one[field], other[field])


@pytest.fixture
def mixed(tmp_path):
  return open_groups(tmp_path, MIXED)


@pytest.fixture
def tenfold(tmp_path):
  """Ten groups of ten puzzles of one example: visits are easy to tell."""
  return open_groups(tmp_path, [[1] * 10] * 10)


# Training.


def test_each_group_is_visited_once_per_epoch(tenfold):
  train = make_train(tenfold, global_batch_size=10)
  for iteration in range(train.num_iterations):
    for batch in train.iteration(iteration):
      assert sorted(puzzles_of(batch) // 10) == list(range(10))


def test_epochs_differ_in_order(tenfold):
  train = make_train(tenfold, global_batch_size=10)
  orders = {tuple(puzzles_of(train.batch(s)) // 10) for s in range(12)}
  assert len(orders) == 12


def test_groups_of_mixed_puzzles_are_visited_once_per_epoch(mixed):
  train = make_train(mixed)
  group_of = np.repeat(range(len(MIXED)), list(map(len, MIXED)))
  for iteration in range(train.num_iterations):
    groups = [group_of[p] for p, _ in visits_of(train.iteration(iteration))]
    whole_epochs = len(groups) // len(MIXED)
    assert whole_epochs >= 3
    for epoch in range(whole_epochs):
      one = groups[epoch * len(MIXED) : (epoch + 1) * len(MIXED)]
      assert sorted(one) == list(range(len(MIXED)))


def test_the_puzzles_of_a_group_are_drawn_uniformly(tenfold):
  train = make_train(tenfold, epochs=5000, eval_interval=0)
  drawn = np.concatenate([puzzles_of(b) for b in train.iteration(0)])
  counts = np.bincount(drawn, minlength=100)
  # Chi-squared, 90 degrees of freedom: over 137 once in a thousand seeds.
  assert ((counts - 500) ** 2 / 500).sum() < 137


def test_a_visit_takes_all_examples_unless_the_batch_is_full(mixed):
  train = make_train(mixed)
  indices = mixed.sets[0].puzzle_indices
  for iteration in range(train.num_iterations):
    for batch in train.iteration(iteration):
      visits = visits_of([batch])
      for number, (puzzle, examples) in enumerate(visits):
        own = range(indices[puzzle], indices[puzzle + 1])
        assert len(set(examples)) == len(examples)
        assert set(examples) <= set(own)
        if number < len(visits) - 1:
          assert len(examples) == len(own)


def test_a_cut_puzzle_leaves_any_of_its_examples(tmp_path):
  split = open_groups(tmp_path, [[5]])
  train = make_train(split, global_batch_size=2, epochs=4000, eval_interval=0)
  pairs = [tuple(visits_of([b])[0][1]) for b in train.iteration(0)]
  counts = [pairs.count(p) for p in itertools.permutations(range(5), 2)]
  # Chi-squared, 19 degrees of freedom: over 44 once in a thousand seeds.
  assert sum(counts) == 4000
  assert ((np.array(counts) - 200) ** 2 / 200).sum() < 44


def test_only_full_batches_and_only_the_last_incomplete_one_dropped(tenfold):
  # An iteration is 4 epochs of 10 visits: 5 batches of 7 and 5 left over.
  train = make_train(tenfold)
  assert [train.batches_in(i) for i in range(3)] == [5, 5, 5]
  for iteration in range(3):
    batches = list(train.iteration(iteration))
    assert [len(b["inputs"]) for b in batches] == [7] * 5


def test_batches_straddle_epochs(tenfold):
  train = make_train(tenfold)
  groups = [g for b in train.iteration(0) for g in puzzles_of(b) // 10]
  for epoch in range(3):
    assert sorted(groups[epoch * 10 : epoch * 10 + 10]) == list(range(10))


def test_uneven_puzzles_leave_less_than_a_batch_behind(mixed):
  train = make_train(mixed, epochs=400, eval_interval=100)
  for iteration in range(4):
    visits = visits_of(train.iteration(iteration))
    left = 100 * len(MIXED) - len(visits)
    # Each visit left over has one example at least.
    assert 0 <= left < 7
    assert train.batches_in(iteration) == len(list(train.iteration(iteration)))


def test_puzzles_of_one_size_need_no_plan_but_follow_the_same_rule(tmp_path):
  split = open_groups(tmp_path, [[3], [3, 3], [3]])
  train = make_train(split, global_batch_size=4)
  sizes = [len(examples) for _, examples in visits_of(train.iteration(0))]
  assert sizes == [3, 1] * 6


def test_iterations_are_drawn_anew(tenfold):
  train = make_train(tenfold)
  first = [puzzles_of(b).tolist() for b in train.iteration(0)]
  second = [puzzles_of(b).tolist() for b in train.iteration(1)]
  assert first != second


def test_sets_take_turns_within_an_iteration(tmp_path):
  split = open_groups(tmp_path, {"a": [[1]] * 5, "b": [[2]] * 3})
  train = make_train(split, global_batch_size=4)
  # 20 visits of one example, then 12 of two: 5 batches, then 6.
  assert train.batches_in(1) == 11
  ids = [puzzles_of(b) for b in train.iteration(1)]
  # `write_split` numbers the puzzles of each set from 0.
  assert sorted(np.concatenate(ids[:5])) == sorted([*range(5)] * 4)
  assert sorted(np.concatenate(ids[5:])) == sorted([*range(3)] * 8)


def test_sets_are_drawn_apart(tmp_path):
  split = open_groups(tmp_path, {"a": [[1]] * 10, "b": [[1]] * 10})
  train = make_train(split, global_batch_size=10)
  a, b = (puzzles_of(train.batch(step)).tolist() for step in (0, 4))
  assert sorted(a) == sorted(b)
  assert a != b


def test_random_access_equals_iteration_order(mixed):
  train = make_train(mixed)
  in_order = [b for i in range(3) for b in train.iteration(i)]
  backwards = [train.batch(s) for s in reversed(range(len(in_order)))]
  assert_same_batches(backwards[::-1], in_order)


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_handing_over_several_batches_at_a_time_keeps_the_order(
  tenfold, monkeypatch, at_a_time
):
  train = make_train(tenfold)
  # A batch is 7 x 4 cells of two int32; an iteration has 5 batches.
  monkeypatch.setattr(train_batches, "_HANDED_OVER", at_a_time * 7 * 4 * 8)
  for start in range(6):
    expected = [train.batch(step) for step in range(start, 5)]
    assert_same_batches(list(train.iteration(0, start)), expected)


def test_a_large_batch_is_handed_over_by_itself(mixed, monkeypatch):
  read = []
  train = make_train(mixed, epochs=400, eval_interval=0)
  monkeypatch.setattr(train_batches, "_HANDED_OVER", 1)
  monkeypatch.setattr(
    train, "_read", lambda iteration, rows, index: read.append(index) or index
  )
  batches = train.iteration(0)
  next(batches)
  batches.close()
  # It, the four that wait, and those that the thread has under way.
  assert len(read) <= 1 + 4 + 2


def test_a_new_reader_continues_at_any_step(mixed):
  whole = [b for i in range(3) for b in make_train(mixed).iteration(i)]
  for step in range(len(whole)):
    train = make_train(mixed)
    iteration, start = train.locate(step)
    rest = list(train.iteration(iteration, start))
    for later in range(iteration + 1, train.num_iterations):
      rest += train.iteration(later)
    assert_same_batches(rest, whole[step:])


def test_the_order_depends_on_the_seed(mixed):
  batches = {
    seed: make_train(mixed, seed=seed).batch(3)["inputs"].tolist()
    for seed in (0, 1, -1, 2**64 - 2)
  }
  assert len({str(b) for b in batches.values()}) == 4
  assert batches[1] == make_train(mixed, seed=1).batch(3)["inputs"].tolist()


def test_rows_are_a_slice_of_the_global_batch(mixed):
  train = make_train(mixed)
  whole, part = train.batch(5), train.batch(5, slice(2, 6))
  for field in whole:
    np.testing.assert_array_equal(part[field], whole[field][2:6])
  part = next(train.iteration(0, 5, slice(2, 6)))
  np.testing.assert_array_equal(part["inputs"], whole["inputs"][2:6])


def test_locate_finds_the_iteration_of_a_step(tenfold):
  train = make_train(tenfold)
  assert [train.locate(s) for s in (0, 4, 5, 14)] == [
    (0, 0),
    (0, 4),
    (1, 0),
    (2, 4),
  ]
  assert train.locate(15) == (3, 0)
  assert list(train.iteration(0, 5)) == []


@pytest.mark.parametrize("step", [-1, 15])
def test_a_step_outside_the_run_is_an_error(tenfold, step):
  with pytest.raises(IndexError, match=r"step -?\d+"):
    make_train(tenfold).batch(step)


def test_sudoku_1k_makes_ten_times_5208_of_its_52083_updates(tmp_path):
  split = open_groups(tmp_path, [[1]] * 1000)
  train = make_train(
    split, global_batch_size=384, epochs=20_000, eval_interval=2000
  )
  assert train.num_iterations == 10
  assert [train.batches_in(i) for i in range(10)] == [5208] * 10
  assert train.total_steps == 52_083


def test_no_eval_interval_means_one_iteration(tenfold):
  for eval_interval in (None, 0):
    train = make_train(tenfold, eval_interval=eval_interval)
    assert (train.num_iterations, train.eval_interval) == (1, 12)
    assert train.batches_in(0) == 17


def test_labels_to_ignore_become_the_constant(mixed):
  batch = make_train(mixed).batch(0)
  assert {v.dtype for v in batch.values()} == {np.dtype(np.int32)}
  assert (batch["labels"][:, 0] == IGNORE_LABEL_ID).all()
  np.testing.assert_array_equal(
    batch["labels"][:, 1:], batch["inputs"][:, -2::-1]
  )


def test_without_a_label_to_ignore_all_count(tmp_path):
  split = open_groups(tmp_path, MIXED, ignore_label_id=None)
  assert (make_train(split).batch(0)["labels"][:, 0] == 0).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, ">i4", np.uint16])
def test_any_integer_type_reads_the_same(tmp_path, mixed, dtype):
  split = open_groups(tmp_path / "other", MIXED, dtype=dtype)
  assert_same_batches(
    [make_train(split).batch(2)], [make_train(mixed).batch(2)]
  )


def test_inputs_stay_on_disk(mixed):
  for array in (mixed.sets[0].inputs, mixed.sets[0].labels):
    assert isinstance(array.base, np.memmap)


# Evaluation.


def test_evaluation_covers_each_example_once_in_order(mixed):
  evaluation = EvaluationData(mixed, batch_size=7)
  numbers, sizes = [], np.diff(mixed.sets[0].puzzle_indices)
  puzzle_of = np.repeat(np.arange(len(sizes)), sizes)
  for name, batch, rows in evaluation.batches():
    real = len(rows)
    assert name == "all"
    assert len(batch["inputs"]) == 7
    own = example_numbers(batch["inputs"][:real])
    np.testing.assert_array_equal(puzzles_of(batch)[:real], puzzle_of[own])
    np.testing.assert_array_equal(rows, own)
    numbers += own.tolist()
  assert numbers == list(range(MIXED_EXAMPLES))
  assert evaluation.num_examples == MIXED_EXAMPLES
  assert evaluation.num_batches == -(-MIXED_EXAMPLES // 7)


def test_the_last_evaluation_batch_is_padded(tmp_path):
  split = open_groups(tmp_path, [[5]], pad_id=9, blank_identifier_id=1)
  evaluation = EvaluationData(split, batch_size=4)
  _, batch, rows = evaluation.batch(1)
  assert rows.tolist() == [4]
  assert (batch["inputs"][1:] == 9).all()
  assert (batch["labels"][1:] == IGNORE_LABEL_ID).all()
  assert (batch["puzzle_identifiers"][1:] == 1).all()
  assert {v.dtype for v in batch.values()} == {np.dtype(np.int32)}


def test_evaluation_goes_set_by_set(tmp_path):
  split = open_groups(tmp_path, {"a": [[3]], "b": [[2], [3]]})
  evaluation = EvaluationData(split, batch_size=2)
  seen = [(name, len(rows)) for name, _, rows in evaluation.batches()]
  assert seen == [("a", 2), ("a", 1), ("b", 2), ("b", 2), ("b", 1)]
  assert evaluation.num_batches == 5


def test_a_limit_evaluates_as_many_examples_of_each_set(tmp_path):
  split = open_groups(tmp_path, {"a": [[3]], "b": [[2], [3]]})
  evaluation = EvaluationData(split, batch_size=2, limit=3)
  seen = [(name, len(rows)) for name, _, rows in evaluation.batches()]
  assert seen == [("a", 2), ("a", 1), ("b", 2), ("b", 1)]
  assert evaluation.num_examples == 6
  assert EvaluationData(split, batch_size=2, limit=99).num_examples == 8


def test_a_limit_takes_a_fixed_sample_of_all_parts_of_a_set(tmp_path):
  # Ten tasks of 60 variants each, as in ARC: the first 100 know two of them.
  split = open_groups(tmp_path, [[6] * 10] * 10)
  small, large = (
    EvaluationData(split, batch_size=16, limit=limit) for limit in (100, 300)
  )
  rows = small.rows_by_set["all"]
  assert (np.diff(rows) > 0).all()
  assert np.isin(rows, large.rows_by_set["all"]).all()
  tasks = np.bincount(rows // 60, minlength=10)
  assert tasks.min() >= 4
  again = EvaluationData(split, batch_size=32, limit=100)
  for evaluation in (small, again, small.chunked(4)):
    seen = [
      (example_numbers(batch["inputs"][: len(rows)]), rows)
      for _, batch, rows in evaluation.batches()
    ]
    for each in map(np.concatenate, zip(*seen, strict=True)):
      np.testing.assert_array_equal(each, rows)


def test_processes_divide_a_sample_without_overlap(tmp_path):
  evaluation = EvaluationData(
    open_groups(tmp_path, [[1]] * 50), batch_size=8, limit=21
  )
  shares = [
    np.concatenate([each.rows for each in evaluation.batches(rows)])
    for rows in (slice(4), slice(4, 8))
  ]
  assert [len(share) for share in shares] == [
    evaluation.examples_in(rows)["all"] for rows in (slice(4), slice(4, 8))
  ]
  np.testing.assert_array_equal(
    np.sort(np.concatenate(shares)), evaluation.rows_by_set["all"]
  )


@pytest.mark.parametrize(
  ("puzzles", "batches", "size"),
  [(27, 32, 28), (27, 2, 8), (33, 4, 12), (3, 32, 4), (27, 1, 4)],
)
def test_chunks_are_whole_batches_of_about_the_same_number(
  tmp_path, puzzles, batches, size
):
  split = open_groups(tmp_path, [[1]] * puzzles)
  evaluation = EvaluationData(split, batch_size=4)
  chunks = evaluation.chunked(batches)
  assert chunks.batch_size == size
  assert chunks.num_examples == puzzles
  assert chunks.num_batches == -(-puzzles // size)
  limited = EvaluationData(split, batch_size=4, limit=3)
  assert limited.chunked(batches).num_examples == 3


@pytest.mark.parametrize(
  ("batch_size", "limit", "multiple", "size"),
  [(64, 3, 8, 8), (64, 9, 8, 16), (8, 9, 8, 8), (64, 5, 1, 5), (64, 0, 4, 28)],
)
def test_a_batch_is_no_larger_than_the_examples_need(
  tmp_path, batch_size, limit, multiple, size
):
  split = open_groups(tmp_path, {"a": [[1]] * 27, "b": [[1]] * 2})
  evaluation = EvaluationData(split, batch_size=batch_size, limit=limit)
  fitted = evaluation.fitted(multiple)
  assert fitted.batch_size == size
  assert fitted.examples_by_set == evaluation.examples_by_set


def test_processes_share_an_evaluation_batch(tmp_path):
  split = open_groups(tmp_path, [[5]])
  evaluation = EvaluationData(split, batch_size=4)
  shares = slice(2), slice(2, 4)
  seen = [0, 0]
  for number in range(2):
    _, whole, rows = evaluation.batch(number)
    halves = [evaluation.batch(number, share) for share in shares]
    joined = np.concatenate([half.rows for half in halves])
    np.testing.assert_array_equal(joined, rows)
    for field in whole:
      joined = np.concatenate([half.batch[field] for half in halves])
      np.testing.assert_array_equal(joined, whole[field])
    seen = [n + len(half.rows) for n, half in zip(seen, halves, strict=True)]
  assert [evaluation.examples_in(share)["all"] for share in shares] == seen


def test_the_batches_of_a_run_go_on_through_its_iterations(tenfold):
  train = make_train(tenfold, global_batch_size=10)
  last = sum(map(train.batches_in, range(train.num_iterations)))
  for done, stop in ((0, last + 1), (3, last - 1), (last, last), (2, 1)):
    batches = list(train.batches(done, stop, slice(1, 3)))
    assert len(batches) == max(min(stop, last) - done, 0)
    for step, batch in enumerate(batches, done):
      want = train.batch(step, slice(1, 3))
      np.testing.assert_array_equal(batch["inputs"], want["inputs"])


# What a person may get wrong.


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    (
      {"epochs": 10},
      r"config.eval_interval=4, got 10; nearest: 8 and 12",
    ),
    ({"epochs": 0}, r"^config.epochs: expected at least 1, got 0"),
    ({"eval_interval": -4}, r"eval_interval: expected at least 1, got -4"),
    ({"global_batch_size": 0}, r"global_batch_size: .* got 0"),
    ({"global_batch_size": 121}, r"size: .* about 40 in 4 epochs .* got 121;"),
    # Enough for the whole run, but not for one iteration.
    ({"global_batch_size": 41}, r"size: .* got 41; .* larger config.eval_"),
  ],
)
def test_impossible_schedules_are_refused(tenfold, changed, message):
  with pytest.raises(InputError, match=message):
    make_train(tenfold, **changed)


def test_a_run_of_more_updates_than_are_counted_is_refused(tenfold):
  epochs = 2**31 - 4  # Of a hundred examples, in batches of one.
  with pytest.raises(
    InputError, match=r"epochs: .* expected fewer than 2\*\*31"
  ):
    make_train(tenfold, epochs=epochs, eval_interval=None, global_batch_size=1)


@pytest.mark.parametrize("changed", [{"batch_size": 0}, {"limit": -1}])
def test_impossible_evaluations_are_refused(tenfold, changed):
  with pytest.raises(InputError, match=next(iter(changed))):
    EvaluationData(tenfold, **{"batch_size": 4, **changed})


@pytest.mark.parametrize("token", [-1, 11])
@pytest.mark.parametrize("field", ["inputs", "labels"])
def test_tokens_outside_the_vocabulary_are_refused(tmp_path, field, token):
  path = write_split(tmp_path, groups=MIXED, dtype=np.int16)
  rewrite_field(path, field, lambda a: np.full_like(a, token))
  split = open_split(tmp_path, "train")
  message = rf"all__{field}\.npy: .* 0\.\.10 .*, got {token}\."
  with pytest.raises(InputError, match=message):
    next(make_train(split).iteration(0))
  with pytest.raises(InputError, match=message):
    EvaluationData(split, batch_size=4).batch(0)


def test_a_token_that_int32_cannot_hold_is_refused(tmp_path):
  path = write_split(tmp_path, groups=MIXED, dtype=np.int64)
  rewrite_field(path, "inputs", lambda a: a + 2**32)
  with pytest.raises(InputError, match=r"got 4294967\d{3}\."):
    make_train(open_split(tmp_path, "train")).batch(0)


def test_labels_already_ignored_on_disk_stay_so(tmp_path):
  path = write_split(
    tmp_path, groups=MIXED, dtype=np.int16, ignore_label_id=None
  )
  rewrite_field(path, "labels", lambda a: np.where(a == 0, IGNORE_LABEL_ID, a))
  split = open_split(tmp_path, "train")
  batch = make_train(split).batch(0)
  assert (batch["labels"][:, 0] == IGNORE_LABEL_ID).all()

"""Which of several answers is given."""

import numpy as np

from hrm_jax.solve import voting


def choose(answers, sure, obeys=None):
  """For one puzzle with answers of one cell."""
  ballots = np.array(answers)[None, :, None]
  obeys = None if obeys is None else np.array([obeys])
  chosen, votes = voting.choose(ballots, np.float32([sure]), obeys)
  return int(chosen[0]), int(votes[0])


def test_the_most_frequent_answer_wins_over_surer_ones():
  assert choose([7, 3, 3], [1.0, 0.1, 0.2]) == (1, 2)


def test_of_equally_frequent_answers_the_surer_one_wins():
  assert choose([7, 3, 7, 3], [0.1, 0.9, 0.2, 0.1]) == (1, 2)


def test_the_mean_counts_and_not_the_best():
  assert choose([7, 3, 7, 3], [0.9, 0.6, 0.1, 0.6]) == (1, 2)


def test_of_all_else_equal_the_first_wins():
  assert choose([7, 3, 3, 7], [0.5] * 4) == (0, 2)
  assert choose([7, 3], [0.5, 0.5 + 1e-7]) == (0, 1)


def test_an_answer_that_obeys_wins_over_a_more_frequent_one():
  sure, obeys = [0.9, 0.9, 0.1, 0.2], [False, False, True, True]
  assert choose([7, 7, 3, 4], sure) == (0, 2)
  assert choose([7, 7, 3, 4], sure, obeys) == (3, 1)
  assert choose([7, 7, 3, 4], sure, [False] * 4) == (0, 2)


def test_a_single_attempt_is_its_own_answer():
  assert choose([7], [0.0]) == (0, 1)


def test_answers_are_equal_in_every_cell_or_others():
  ballots = np.array([[[1, 2], [1, 3], [2, 2], [1, 3]], [[1, 1]] * 4])
  chosen, votes = voting.choose(ballots, np.ones((2, 4), np.float32))
  np.testing.assert_array_equal(chosen, [1, 0])
  np.testing.assert_array_equal(votes, [2, 4])


def test_no_puzzles_have_no_answers():
  chosen, votes = voting.choose(np.zeros((0, 3, 4), int), np.zeros((0, 3)))
  assert len(chosen) == len(votes) == 0

"""Many answers to a puzzle, one to give: by agreement, then by confidence.

No label is read: the answer depends on nothing that is not known when a puzzle
is solved. Source of the rule: HRM's ARC voting, which ranks by votes, then by
the mean halting probability.
"""

import numpy as np

# Confidences are compared to so many digits: programs for other numbers of
# rows round differently beyond them, and must choose alike.
_DIGITS = 4


def choose(
  ballots: np.ndarray,
  halt_probability: np.ndarray,
  obeys: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses one of A attempts at each puzzle.

  The answer that most attempts gave wins; of equals, the one whose attempts
  have the higher mean halting probability; then the one that was given first.

  Args:
    ballots: [n, A, G] integers, equal where two answers are the same.
    halt_probability: [n, A] from 0 to 1.
    obeys: [n, A] bool, which answers obey the rules of their puzzle: one that
      does wins over all that do not. None: nobody looked.

  Returns:
    [n] int64, the first attempt that gave the chosen answer; and [n] int64, how
    many attempts gave it.
  """
  names = _names(ballots)
  probability = halt_probability.astype(np.float64)
  votes = np.empty(names.shape, np.int64)
  confidence = np.empty(names.shape)
  for attempt in range(names.shape[1]):
    same = names == names[:, attempt, None]
    votes[:, attempt] = same.sum(1)
    mean = np.where(same, probability, 0).sum(1) / votes[:, attempt]
    confidence[:, attempt] = np.round(mean, _DIGITS)
  left = np.ones(names.shape, bool)
  criteria = [] if obeys is None else [obeys]
  for criterion in (*criteria, votes, confidence):
    value = np.where(left, criterion, -1)
    left = value == value.max(1, keepdims=True)
  chosen = left.argmax(1)
  return chosen, votes[np.arange(len(votes)), chosen]


def _names(ballots: np.ndarray) -> np.ndarray:
  """[n, A] integers that are equal where ballots [n, A, G] of a puzzle are."""
  n, attempts, _ = ballots.shape
  names = np.empty((n, attempts), np.int64)
  for attempt in range(attempts):
    # The first of those that equal it, which may be itself.
    same = (ballots[:, : attempt + 1] == ballots[:, attempt, None]).all(-1)
    names[:, attempt] = same.argmax(1)
  return names

"""Puzzles in, one answer to each out, chosen among several attempts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.data.puzzle import IGNORE_LABEL_ID, Batch, pad_batch
from hrm_jax.solve import rules, views, voting
from hrm_jax.solve.attempts import Attempts, Tried
from hrm_jax.solve.ensemble import Ensemble, Noise
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.rules import Rules
from hrm_jax.solve.solver import Solution
from hrm_jax.solve.views import Views


class Settings(NamedTuple):
  """What is tried.

  Attributes:
    views: of the puzzles.
    noise: on the initial states.
    rules: that answers are held against, or None.
    halt: "full" or "act".
    segments: most that an attempt gets; None: as in training.
    batch_size: attempts that are thought about at a time, on all devices.
  """

  views: Views
  noise: Noise
  rules: Rules | None
  halt: str
  segments: int | None
  batch_size: int

  def attempts(self, trained: Trained, *, with_trace: bool = False) -> Attempts:
    """Those of one network."""
    return Attempts(
      with_segments(trained.model, self.segments),
      trained.mesh,
      self.views,
      self.noise,
      halt=self.halt,
      batch_size=self.batch_size,
      with_trace=with_trace,
    )

  def ballots(self, answers: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """What makes attempts the same: [n, A, G] answers to [n, G] puzzles."""
    each = answers.swapaxes(0, 1)
    found = [self.views.ballots(answer, inputs) for answer in each]
    return np.stack(found, axis=1)

  def obeys(self, answers: np.ndarray, inputs: np.ndarray) -> np.ndarray | None:
    """[n, A] bool, which attempts obey the rules; None: nobody asks."""
    if self.rules is None:
      return None
    each = answers.swapaxes(0, 1)
    return np.stack([self.rules(inputs, answer) for answer in each], axis=1)


def settings_of(
  tried: Ensemble,
  kind: str,
  seq_len: int,
  *,
  halt: str,
  segments: int | None,
  batch_size: int,
  names: Sequence[str] = (),
) -> Settings:
  """What flags ask for, for puzzles of a kind; see `Settings` and `views.make`.

  Raises:
    InputError: the kind has not so many views, or no rules to verify.
  """
  seed = tried.noise.seed
  return Settings(
    views.make(kind, tried.votes, seq_len, seed=seed, names=names),
    tried.noise,
    rules.of_kind(kind) if tried.verify else None,
    halt,
    segments,
    batch_size,
  )


def solve(
  networks: Iterable[Trained],
  puzzles: np.ndarray,
  puzzle_identifiers: np.ndarray | None,
  settings: Settings,
) -> Iterator[Solution]:
  """Yields a solution for each puzzle: the attempt that was chosen.

  Args:
    networks: the checkpoints of one run, one at a time; see
      `ensemble.networks`.
    puzzles: [n, G] token ids.
    puzzle_identifiers: [n], rows of the puzzle table; None: none has one.
    settings: what is tried.
  """
  remaining = iter(networks)
  first = next(remaining)
  # One program serves the weights of all.
  attempts = settings.attempts(first, with_trace=True)
  tried = joined(
    [
      _try(attempts, trained, puzzles, puzzle_identifiers)
      for trained in itertools.chain([first], remaining)
    ]
  )
  chosen, votes = voting.choose(
    settings.ballots(tried.answers, puzzles),
    tried.halt_probability,
    settings.obeys(tried.answers, puzzles),
  )
  assert tried.trace is not None  # `_try` asks for it.
  for i, attempt in enumerate(chosen):
    segments = tried.segments[i, attempt]
    yield Solution(
      puzzles[i],
      tried.trace[i, attempt, :segments],
      float(tried.q_halt[i, attempt]),
      float(tried.q_continue[i, attempt]),
      float(tried.halt_probability[i, attempt]),
      attempts=tried.answers.shape[1],
      votes=int(votes[i]),
    )


def joined(of_each: Sequence[Tried], axis: int = 1) -> Tried:
  """Attempts at the same puzzles side by side, or at others (axis 0) below."""
  names = [
    name for name in Tried._fields if getattr(of_each[0], name) is not None
  ]
  return Tried(
    **{
      name: np.concatenate([getattr(each, name) for each in of_each], axis)
      for name in names
    }
  )


def _try(
  attempts: Attempts,
  trained: Trained,
  puzzles: np.ndarray,
  puzzle_identifiers: np.ndarray | None,
) -> Tried:
  """All attempts with the weights of one network."""
  if puzzle_identifiers is None:
    blank = trained.metadata.blank_identifier_id
    puzzle_identifiers = np.full(len(puzzles), blank)
  size = attempts.puzzles_at_once(len(puzzles))
  found = []
  for start in range(0, len(puzzles), size):
    places = np.arange(start, min(start + size, len(puzzles)))
    inputs = puzzles[places].astype(np.int32)
    batch = pad_batch(
      Batch(
        inputs=inputs,
        labels=np.full_like(inputs, IGNORE_LABEL_ID),
        puzzle_identifiers=puzzle_identifiers[places],
      ),
      size,
      trained.metadata,
    )
    result = attempts.ask(trained.weights, batch, places, size)
    found.append(attempts.read(result, batch, len(places)))
  return joined(found, axis=0)

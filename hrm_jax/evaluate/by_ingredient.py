"""A split to its scores by what was tried: one answer, votes, noise, all.

All attempts at all puzzles are made once, network by network. What each
ingredient alone would have answered is then a matter of choosing among some of
them. Labels are looked at last, to count which answers are right.
"""

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint.load import Trained
from hrm_jax.console import log
from hrm_jax.data.evaluation_batches import EvaluationBatch, EvaluationData
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.evaluate import scoring
from hrm_jax.machines import cluster, sharding
from hrm_jax.solve import ensemble, voting
from hrm_jax.solve.attempts import Attempts, Tried
from hrm_jax.solve.by_votes import Settings, joined
from hrm_jax.solve.inference import with_segments
from hrm_jax.solve.solver import one_behind

# What is chosen of all attempts where the rules have no say, though asked for.
AGREEMENT = "agreement"


class Attempted(NamedTuple):
  """All attempts at this process's examples.

  Attributes:
    steps: of the checkpoints, in order.
    segments: how many an attempt got at most.
    parts: see `ensemble.subsets`.
    batches: what was asked, each with the attempts of all networks at its n
      examples.
    seconds: without compiling and reading weights.
  """

  steps: list[int]
  segments: int
  parts: dict[str, np.ndarray]
  batches: list[tuple[EvaluationBatch, Tried]]
  seconds: float


def attempt(
  networks: Iterable[Trained], data: EvaluationData, settings: Settings
) -> Attempted:
  """Makes all attempts at every example; reads no label.

  Args:
    networks: the checkpoints of one run, one at a time; the first is the
      plain one.
    data: the examples.
    settings: what is tried.
  """
  remaining = iter(networks)
  first = next(remaining)
  attempts = settings.attempts(first)  # One program serves all weights.
  size = attempts.puzzles_at_once(max(data.examples_by_set.values()))
  attempts.compile(first.weights, data.split.metadata.seq_len, size)
  chunks = data.resized(size)
  steps, seconds, by_network = [], 0.0, []
  for trained in itertools.chain([first], remaining):
    began = time.perf_counter()
    by_network.append(list(_tried(attempts, trained, chunks)))
    seconds += time.perf_counter() - began
    steps.append(trained.step)
  views, samples = settings.views.count, settings.noise.samples
  return Attempted(
    steps,
    with_segments(first.model, settings.segments).halt_max_steps,
    ensemble.subsets(len(steps), views, samples),
    [
      (of_batch[0][0], joined([tried for _, tried in of_batch]))
      for of_batch in zip(*by_network, strict=True)
    ],
    seconds,
  )


def _tried(
  attempts: Attempts, trained: Trained, chunks: EvaluationData
) -> Iterator[tuple[EvaluationBatch, Tried]]:
  mine = sharding.local_rows(trained.mesh, chunks.batch_size)
  todo = sum(chunks.examples_in(mine).values())

  def ask(asked: EvaluationBatch) -> Any:
    return attempts.ask(
      trained.weights, asked.batch, asked.rows, chunks.batch_size
    )

  what = f"evaluate step {trained.step}"
  with console.Progress(what, todo, unit="puzzles") as bar:
    for asked, result in one_behind(ask, chunks.batches(mine)):
      n = len(asked.rows)
      yield asked, attempts.read(result, asked.batch, n)
      bar.advance(n)


def choose(
  attempted: Attempted, settings: Settings
) -> list[dict[str, np.ndarray]]:
  """Which attempt each ingredient chooses; reads no label.

  Returns:
    For each batch, by ingredient, [n] numbers of attempts. With rules,
    "combined" goes by them and AGREEMENT is the same without.
  """
  chosen = []
  for asked, those in attempted.batches:
    inputs = asked.batch["inputs"][: len(asked.rows)]
    ballots = settings.ballots(those.answers, inputs)
    sure = those.halt_probability
    found = {
      name: which[voting.choose(ballots[:, which], sure[:, which])[0]]
      for name, which in attempted.parts.items()
    }
    if settings.rules is not None:
      obeys = settings.obeys(those.answers, inputs)
      found[AGREEMENT] = found.pop("combined")
      found["combined"], _ = voting.choose(ballots, sure, obeys)
    chosen.append(found)
  return chosen


def evaluate(
  networks: Iterable[Trained], data: EvaluationData, settings: Settings
) -> dict[str, Any]:
  """Scores every example of `data` once, by ingredient.

  Args:
    networks: see `attempt`.
    data: the examples.
    settings: what is tried.

  Returns:
    `sets`: by set name and ingredient, what `_scores` describes; `seconds` and
    `puzzles_per_s` for all attempts, without compiling and reading weights;
    `step`, of the first checkpoint, and `checkpoints`, of all; `attempts` at
    each puzzle; `segments`, how many an attempt got at most; `halt`.
  """
  attempted = attempt(networks, data, settings)
  began = time.perf_counter()
  chosen = choose(attempted, settings)
  seconds = attempted.seconds + time.perf_counter() - began
  mazes = scoring.holds_mazes(data.split)
  totals: dict[str, dict[str, dict[str, int]]] = {}
  for name in data.examples_by_set:
    # Every process names every set: those without rows of it add nothing.
    totals[name] = {which: dict.fromkeys(_SUMS, 0) for which in chosen[0]}
  for (asked, those), found in zip(attempted.batches, chosen, strict=True):
    for which, numbers in found.items():
      attempts = attempted.parts.get(which, attempted.parts["combined"])
      sums = _count(asked, those, numbers, attempts, mazes=mazes)
      total = totals[asked.set_name][which]
      for key, value in sums.items():
        total[key] += value
  totals = cluster.sum_over_processes(totals)
  combined = len(attempted.parts["combined"])
  return {
    "sets": {
      name: {
        which: {
          "attempts": len(attempted.parts.get(which, range(combined))),
          **_scores(sums, mazes=mazes),
        }
        for which, sums in by_part.items()
      }
      for name, by_part in totals.items()
    },
    "seconds": seconds,
    "puzzles_per_s": data.num_examples / seconds,
    "step": attempted.steps[0],
    "checkpoints": attempted.steps,
    "attempts": combined,
    "segments": attempted.segments,
    "halt": settings.halt,
  }


_SUMS = ("count", "right", "won", "lost", "segments", "right_paths")


def _count(
  asked: EvaluationBatch,
  those: Tried,
  numbers: np.ndarray,
  attempts: np.ndarray,
  *,
  mazes: bool,
) -> dict[str, int]:
  """Sums over the examples of a batch that have a label, see `_SUMS`."""
  n = len(asked.rows)
  inputs, labels = asked.batch["inputs"][:n], asked.batch["labels"][:n]
  ignored = labels == IGNORE_LABEL_ID
  counted = ~ignored.all(1)
  answers = those.answers[np.arange(n), numbers]
  right = ((answers == labels) | ignored).all(1) & counted
  single = ((those.answers[:, 0] == labels) | ignored).all(1) & counted
  sums = {
    "count": counted.sum(),
    "right": right.sum(),
    "won": (right & ~single).sum(),
    "lost": (single & ~right).sum(),
    "segments": those.segments[counted][:, attempts].sum(),
    "right_paths": scoring.right_paths(inputs, answers) if mazes else 0,
  }
  return {key: int(value) for key, value in sums.items()}


def _scores(sums: Mapping[str, int], *, mazes: bool) -> dict[str, float]:
  """What the sums of an ingredient over a set mean.

  Returns:
    `exact_accuracy`, with its `standard_error` over puzzles; `gain` over a
    single answer to the same puzzles, with its error (smaller, because most
    puzzles are answered alike); `won` and `lost`, the puzzles that the others
    turned right and wrong; `segments`, how many all attempts at a puzzle took,
    on average; `count`; for mazes `path_accuracy`.
  """
  n = max(int(sums["count"]), 1)
  share = sums["right"] / n
  won, lost = int(sums["won"]), int(sums["lost"])
  gain = (won - lost) / n
  scores = {
    "exact_accuracy": share,
    "standard_error": math.sqrt(share * (1 - share) / n),
    "gain": gain,
    "gain_standard_error": math.sqrt(((won + lost) / n - gain**2) / n),
    "won": won,
    "lost": lost,
    "segments": sums["segments"] / n,
    "count": int(sums["count"]),
  }
  if mazes:
    scores["path_accuracy"] = sums["right_paths"] / n
  return scores


def log_scores(result: dict[str, Any]) -> None:
  """Shows the scores, a line for each ingredient of each set."""
  for name, by_part in result["sets"].items():
    for which, scores in by_part.items():
      line = (
        f"{name}, {which:11} {scores['exact_accuracy']:7.2%} "
        f"+- {scores['standard_error']:.2%} exact, "
        f"{scores['attempts']:3} attempts, {scores['segments']:6.2f} segments"
      )
      if which != "single":
        line += (
          f"; {scores['gain']:+.2%} +- {scores['gain_standard_error']:.2%}, "
          f"{scores['won']} won, {scores['lost']} lost"
        )
      log.info(line)
  log.info(f"all attempts together: {result['puzzles_per_s']:,.1f} puzzles/s")

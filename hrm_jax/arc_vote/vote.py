"""Ranks the answers that the votes went to, and scores them."""

import pathlib
from typing import Any

import numpy as np

from hrm_jax.arc_vote.tally import (
  Answer,
  Questions,
  Tally,
  first_grid,
  grid_digest,
)

# A task counts for pass@k if its answers are among the k first.
KS = (1, 2, 10, 100, 1000)
# Answers to each test input that the competition takes.
ATTEMPTS = 2


def rank(answers: dict[str, Answer]) -> list[str]:
  """Orders answers by votes, then mean confidence, then place in the set."""

  def order(digest: str) -> tuple[int, int, tuple[str, int]]:
    answer = answers[digest]
    # With equal votes the sums of the confidences compare as their means do.
    return -answer.votes, -answer.confidence, answer.first()

  return sorted(answers, key=order)


def score(tally: Tally, questions: Questions) -> dict[str, Any]:
  """Returns pass@k: the share of tasks with all test inputs right.

  A test input is right if its answer is among the k first. Tasks of which an
  answer is unknown are left out; those without any prediction are wrong.
  """
  worst = []
  for task, outputs in questions.outputs.items():
    if None in outputs:
      continue
    places = []
    for digest, output in zip(questions.inputs[task], outputs, strict=True):
      ranked = rank(tally.get((task, digest), {}))
      places.append(ranked.index(output) if output in ranked else max(KS))
    worst.append(max(places))
  scores = {}
  if worst:
    scores = {f"pass@{k}": sum(w < k for w in worst) / len(worst) for k in KS}
  return {**scores, "scored_tasks": len(worst)}


def submission(
  tally: Tally, questions: Questions, directory: pathlib.Path
) -> dict[str, list[dict[str, list]]]:
  """Returns the competition's object: two attempts per test input.

  An empty answer is no grid, so the next one takes its place; the first is
  repeated if there is only one, and [[0]] stands where there is none.
  """
  result = {}
  for task, inputs in questions.inputs.items():
    result[task] = []
    for digest in inputs:
      answers = tally.get((task, digest), {})
      empty = grid_digest(np.zeros((0, 0), np.uint8))
      best = [d for d in rank(answers) if d != empty][:ATTEMPTS]
      grids = [first_grid(answers[d], questions, directory) for d in best]
      grids = (grids or [[[0]]]) * ATTEMPTS
      result[task].append({"attempt_1": grids[0], "attempt_2": grids[1]})
  return result

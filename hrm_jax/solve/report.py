"""A solution for people and for programs: text and JSON.

What a puzzle looks like and what its answers must obey comes in with the
`PuzzleText` of its kind.
"""

from typing import Any

from hrm_jax.console import Pen, printable
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question
from hrm_jax.solve.solver import Solution


def as_json(
  question: Question, solution: Solution, text: PuzzleText
) -> dict[str, Any]:
  """The solution as JSON types; grids become text, or rows.

  Returns:
    What is known of the puzzle; `puzzle`, `answer`, `segments`,
    `halt_probability`; `votes` and `attempts`, where there were several; the
    rules of its kind with whether they are kept; `is_right`, where the answer
    came with the puzzle; and `trace`, the answer after each segment.
  """
  return {
    **question.facts,
    "puzzle": text.to_json(solution.puzzle),
    "answer": text.to_json(solution.answer),
    "segments": solution.segments,
    "halt_probability": solution.halt_probability,
    **_agreement(solution),
    **{key: kept for key, _, kept in _judged(question, solution, text)},
    "trace": [text.to_json(grid) for grid in solution.trace],
  }


def as_text(
  question: Question,
  solution: Solution,
  text: PuzzleText,
  pen: Pen,
  *,
  trace: bool,
) -> str:
  """The solution as a person reads it.

  Args:
    question: what was asked.
    solution: what to show.
    text: how its kind of puzzle is drawn and judged.
    pen: gives the colours.
    trace: whether to show the answer after every segment, too.
  """
  parts = [asked(question, solution, text, pen)]
  if trace:
    parts += after_segments(solution, text, pen)
  parts.append(answered(question, solution, text, pen))
  return "\n".join(parts)


def asked(
  question: Question, solution: Solution, text: PuzzleText, pen: Pen
) -> str:
  """The part of `as_text` that is known beforehand."""
  facts = [printable(f"{key}: {v}") for key, v in question.facts.items()]
  puzzle = text.draw(solution.puzzle, solution.puzzle, pen)
  return "\n".join([*facts, f"puzzle:\n{puzzle}\n"])


def after_segments(solution: Solution, text: PuzzleText, pen: Pen) -> list[str]:
  """The answer after each segment, a picture of text each."""
  return [
    f"after segment {segment}:\n{text.draw(grid, solution.puzzle, pen)}\n"
    for segment, grid in enumerate(solution.trace, 1)
  ]


def answered(
  question: Question, solution: Solution, text: PuzzleText, pen: Pen
) -> str:
  """The part of `as_text` with the answer, and what is to be said of it."""
  parts = [
    f"answer:\n{text.draw(solution.answer, solution.puzzle, pen)}\n",
    f"segments used: {solution.segments}",
    f"halting probability: {solution.halt_probability:.3f}",
  ]
  if solution.attempts > 1:
    agree = f"{solution.votes} of {solution.attempts}"
    parts.append(f"attempts that agree: {agree}")
  for _, words, kept in _judged(question, solution, text):
    parts.append(f"{words}: {'yes' if kept else 'no'}")
  return "\n".join(parts) + "\n"


def _agreement(solution: Solution) -> dict[str, int]:
  if solution.attempts == 1:
    return {}
  return {"votes": solution.votes, "attempts": solution.attempts}


def _judged(
  question: Question, solution: Solution, text: PuzzleText
) -> list[tuple[str, str, bool]]:
  """What can be said of an answer: key, words, and whether it is so."""
  judged = [
    (key, rule.words, rule.is_kept(solution.puzzle, solution.answer))
    for key, rule in text.rules.items()
  ]
  right = text.is_right(question, solution.answer)
  if right is not None:
    judged.append(("is_right", "is the answer of the file", right))
  return judged

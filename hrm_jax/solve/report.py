"""A solution for people and for programs: text and JSON.

What a puzzle looks like and what its answers must obey comes in with the
`PuzzleText` of its kind.
"""

from typing import Any

from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.solve.solver import Solution


def as_json(solution: Solution, text: PuzzleText) -> dict[str, Any]:
  """The solution as JSON types; grids become text.

  Returns:
    `puzzle`, `answer`, `segments`, `halt_probability`, `votes` and `attempts`
    where there were several, the rules of its kind with whether they are kept,
    and `trace`, the answer after each segment.
  """
  return {
    "puzzle": text.to_text(solution.puzzle),
    "answer": text.to_text(solution.answer),
    "segments": solution.segments,
    "halt_probability": solution.halt_probability,
    **_agreement(solution),
    **{
      key: rule.is_kept(solution.puzzle, solution.answer)
      for key, rule in text.rules.items()
    },
    "trace": [text.to_text(grid) for grid in solution.trace],
  }


def as_text(solution: Solution, text: PuzzleText, *, trace: bool) -> str:
  """The solution as a person reads it.

  Args:
    solution: what to show.
    text: how its kind of puzzle is drawn and judged.
    trace: whether to show the answer after every segment, too.
  """
  parts = [f"puzzle:\n{text.draw(solution.puzzle)}\n"]
  if trace:
    parts += [
      f"after segment {segment}:\n{text.draw(grid)}\n"
      for segment, grid in enumerate(solution.trace, 1)
    ]
  parts += [
    f"answer:\n{text.draw(solution.answer)}\n",
    f"segments used: {solution.segments}",
    f"halting probability: {solution.halt_probability:.3f}",
  ]
  if solution.attempts > 1:
    agree = f"{solution.votes} of {solution.attempts}"
    parts.append(f"attempts that agree: {agree}")
  for rule in text.rules.values():
    kept = rule.is_kept(solution.puzzle, solution.answer)
    parts.append(f"{rule.words}: {'yes' if kept else 'no'}")
  return "\n".join(parts) + "\n"


def _agreement(solution: Solution) -> dict[str, int]:
  if solution.attempts == 1:
    return {}
  return {"votes": solution.votes, "attempts": solution.attempts}

"""The lines of a text that show puzzles, between those that say other things.

Commands print headings (`puzzle:`, `answer:`) and facts (`segments used: 3`)
beside the grids, and people write such lines too.
"""

import re
from collections.abc import Iterable, Iterator

from hrm_jax.data.question import Line

# "halting probability: 0.9", "answer:"
FACT = re.compile(r"([A-Za-z][\w -]*?)\s*:(.*)")

_QUESTIONS = ("puzzle", "question", "maze", "grid", "input")


def of_puzzles(lines: Iterable[Line], cells: str) -> Iterator[Line]:
  """Yields the lines that are no headings and no facts, and of no answer.

  A heading without a text behind it begins a section: `puzzle:` one of a
  puzzle, any other (`answer:`, `after segment 2:`) one that is passed over.

  Args:
    lines: the text.
    cells: the characters of cells; a line of these alone is no heading.
  """
  skips = False
  for name, text in lines:
    text = text.removeprefix("\ufeff").rstrip("\r\n")
    fact = FACT.fullmatch(text.rstrip())
    if fact is None or set(text) <= set(cells):
      if not skips:
        yield name, text
    elif not fact[2].strip():
      skips = fact[1].split()[0].lower() not in _QUESTIONS

"""What somebody asks: where it was read, and the puzzle that it is."""

import codecs
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hrm_jax.console import InputError

# Where a text comes from, "FILE: line 3", and the text of that line.
Line = tuple[str, str]


class Source(NamedTuple):
  """A text that holds puzzles.

  Attributes:
    name: what messages call it, such as its path.
    lines: the text, each line with its own name.
    stem: what a task in it is called if it does not say.
  """

  name: str
  lines: list[Line]
  stem: str

  @property
  def text(self) -> str:
    """All of it."""
    return "\n".join(line for _, line in self.lines)


class Question(NamedTuple):
  """A puzzle to be solved.

  Attributes:
    name: where it stands, for messages: "FILE: line 3".
    tokens: [G] uint8 token ids.
    task: whose row of the puzzle table the network is told; None: it does not
      say.
    facts: what else is known of it, by the key in JSON.
    answer: [G] uint8 token ids, where the text has it; padding is not asked
      for.
  """

  name: str
  tokens: np.ndarray
  task: str | None = None
  facts: Mapping[str, Any] = {}
  answer: np.ndarray | None = None


def decoded(data: bytes, name: str) -> str:
  """The text of a file, whatever a person's editor made of it.

  UTF-16 is known by its mark. What is not UTF-8 is read byte by byte: cells
  are ASCII, and comments do not matter.

  Raises:
    InputError: it is not text.
  """
  if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    text = data.decode("utf-16", errors="replace")
  else:
    try:
      text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
      text = data.decode("latin-1")
  if "\0" in text:
    raise InputError(f"{name}: expected text, got something else.")
  return text


def numbered(source: str, text: str) -> list[Line]:
  """The lines of a text, each with its name: "SOURCE: line 3"."""
  # Not `splitlines`, to which much else is the end of a line, also in JSON.
  lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
  if not lines[-1]:
    del lines[-1]
  return [(f"{source}: line {i}", line) for i, line in enumerate(lines, 1)]


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object of JSON, for `json.loads`, which would keep the last of each.

  Raises:
    ValueError: a key is there twice.
  """
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in keys if keys.count(key) > 1)
    raise ValueError(f"key {twice!r:.40} is there twice")
  return found

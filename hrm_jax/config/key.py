"""One key of the configuration, and what a key may take."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class Allowed(NamedTuple):
  """The values that a key takes.

  Attributes:
    kind: their type: int, float, bool or str.
    expected: what a message calls them.
    holds: of a value of that type, whether it is one of them.
    or_none: whether None is one, too.
  """

  kind: type
  expected: str
  holds: Callable[[Any], bool]
  or_none: bool = False


class Key(NamedTuple):
  """One key of the configuration.

  Attributes:
    default: the value that an experiment which does not name it gets.
    meaning: what it is for, in sentences.
    allowed: the values that it takes.
    later: whether it came after the first checkpoints of format 1: to a
      configuration without it, its default is what happened.
  """

  default: Any
  meaning: str
  allowed: Allowed
  later: bool = False


def whole(least: int, most: int = 2**31 - 1) -> Allowed:
  """A whole number within bounds."""
  # Updates and rows are counted in 32 bits on the devices.
  below = "below 2**31" if most == 2**31 - 1 else f"at most {most:,}"
  return Allowed(
    int,
    f"a whole number, at least {least} and {below}",
    lambda n: least <= n <= most,
  )


def number() -> Allowed:
  """Any finite number from 0 on."""
  return Allowed(float, "a number, at least 0", lambda n: 0 <= n < math.inf)


def number_above_0(most: float | None = None) -> Allowed:
  """A finite number above 0, perhaps up to `most`."""
  if most is None:
    return Allowed(float, "a number above 0", lambda n: 0 < n < math.inf)
  expected = f"a number above 0 and at most {most:,}"
  return Allowed(float, expected, lambda n: 0 < n <= most)


def number_below_1() -> Allowed:
  """A number from 0 on, below 1."""
  return Allowed(float, "a number, 0 or more, below 1", lambda n: 0 <= n < 1)


def share() -> Allowed:
  """A number from 0 to 1, both ends among them."""
  return Allowed(float, "a number from 0 to 1", lambda n: 0 <= n <= 1)


def one_of(*words: str) -> Allowed:
  """One of some words."""
  return Allowed(str, f"one of {', '.join(words)}", lambda word: word in words)


def text() -> Allowed:
  """Any text."""
  return Allowed(str, "text", lambda value: True)


def flag() -> Allowed:
  """True or False; 0 and 1 are not."""
  return Allowed(bool, "True or False", lambda value: True)


def or_none(allowed: Allowed) -> Allowed:
  """What `allowed` allows, and None."""
  expected = f"{allowed.expected}, or None"
  return allowed._replace(expected=expected, or_none=True)

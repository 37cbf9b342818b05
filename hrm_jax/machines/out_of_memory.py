"""Tells running out of memory from other errors, in one line that helps.

XLA, its backends and NumPy each have their own words for it. What a program
needs in all, and what a device has, is only known where a compiler refuses it;
at run time it is one block that was not to be had.
"""

import contextlib
import errno
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax

from hrm_jax.console import InputError
from hrm_jax.machines import host_memory


class Shortage(NamedTuple):
  """What an error says of memory, in bytes; None where it does not say.

  Attributes:
    asked: what the program needs, or the block that was asked for.
    available: what there is for it.
  """

  asked: int | None
  available: int | None


class OutOfMemoryError(InputError):
  """What was asked for needs more memory than there is."""


# XLA writes 15.75G or 2.99GiB, both by powers of 1024, or plain bytes.
_SIZE = r"(\d+(?:\.\d+)?)\s*([KMGTPE]?)(?:i?B)?\b"
_POWERS = " KMGTPE"

# With the two sizes, asked for and there: what libtpu says when it compiles,
# and in the last when it runs.
_BOTH = (
  rf"Used {_SIZE} of {_SIZE} hbm",
  rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)",
  rf"Requires {_SIZE}, has {_SIZE} available",
  rf"Attempting to (?:allocate|reserve) {_SIZE}.*? There are {_SIZE} free",
)
# With what was asked for alone: GPUs, CPUs and NumPy.
_ASKED = (
  rf"(?:allocat(?:e|ing)|allocate request for|Attempting to reserve) {_SIZE}"
)

# By these words an error is known. TPUs and GPUs have small memories of their
# own inside a core, for which no batch is too large: a kernel that does not fit
# there is a mistake of ours, and no shortage.
_WORDS = re.compile(
  r"out[ _]of[ _]memory|enough (?:device )?memory|ALLOC_FAILED"
  r"|Failed to allocate request|Attempting to (?:allocate|reserve)",
  re.IGNORECASE,
)
_INSIDE_A_CORE = re.compile(r"memory space (?!hbm)|vmem", re.IGNORECASE)


def shortage(error: BaseException) -> Shortage | None:
  """What an error says of memory that was not to be had.

  Args:
    error: any; those of XLA at compile time and at run time, of NumPy and of
      the system are known.

  Returns:
    None if it is an error of another kind.
  """
  text = " ".join(str(error).split())
  if not (_is_of_the_host(error) or _is_of_xla(error, text)):
    return None
  for pattern in _BOTH:
    if found := re.search(pattern, text):
      return Shortage(_bytes(*found.groups()[:2]), _bytes(*found.groups()[2:]))
  if found := re.search(_ASKED, text):
    return Shortage(_bytes(*found.groups()), None)
  return Shortage(None, None)


def _is_of_the_host(error: BaseException) -> bool:
  if isinstance(error, OSError):
    return error.errno == errno.ENOMEM
  return isinstance(error, MemoryError)


def _is_of_xla(error: BaseException, text: str) -> bool:
  # Orbax and TensorStore raise other types, which begin with the same status.
  if not (
    isinstance(error, jax.errors.JaxRuntimeError)
    or text.startswith("RESOURCE_EXHAUSTED")
  ):
    return False
  # What follows the first sentences are names and shapes from the program.
  beginning = text[:400]
  return bool(_WORDS.search(beginning)) and not _INSIDE_A_CORE.search(beginning)


def _bytes(number: str, unit: str) -> int:
  return round(float(number) * 1024 ** _POWERS.index(unit or " "))


def line(
  where: str,
  short: Shortage,
  ways_out: Sequence[str],
  *,
  in_all: int | None = None,
) -> str:
  """One line that says how much was asked for, what there is, what helps.

  Args:
    where: "training", say.
    short: see `shortage`. A figure that it does not have is left out.
    ways_out: keys or flags, each with a value that needs less.
    in_all: bytes that there are for everything together; said where the error
      does not tell what there is.
  """
  said = []
  if short.available is not None:
    if short.asked is not None:
      said.append(f"{in_words(short.asked)} asked for")
    said.append(f"{in_words(short.available)} there")
  else:
    if short.asked is not None:
      said.append(f"{in_words(short.asked)} asked for at once")
    if in_all is not None:
      said.append(f"{in_words(in_all)} there in all")
  figures = f": {', '.join(said)}" if said else ""
  helps = ", ".join(ways_out) or "more devices, or some with more memory"
  return f"out of memory in {where}{figures}; what helps: {helps}."


def smaller(name: str, now: int, least: int) -> list[str]:
  """The way out that a smaller number is, or none if it is at its least.

  Args:
    name: of a key or flag.
    now: its value.
    least: the smallest that it can have.
  """
  return [f"a smaller {name} (now {now:,})"] if now > least else []


def in_words(size: int) -> str:
  """Bytes as a person reads them: 20.70 GiB, or 12.0 MiB where it is less."""
  if size < 2**30:
    return f"{size / 2**20:,.1f} MiB"
  return f"{size / 2**30:,.2f} GiB"


@contextlib.contextmanager
def told(where: str, ways_out: Callable[[], Sequence[str]]) -> Iterator[None]:
  """Turns running out of memory into one line; other errors pass.

  Args:
    where: see `line`.
    ways_out: see `line`; called only then.

  Raises:
    OutOfMemoryError: in place of what JAX, NumPy or the system raised.
  """
  try:
    yield
  except Exception as error:
    short = shortage(error)
    if short is None:
      raise
    in_all = _in_all(error)
    raise OutOfMemoryError(
      line(where, short, ways_out(), in_all=in_all)
    ) from error


def _in_all(error: BaseException) -> int | None:
  """Bytes that the host or a device has for this process, where it tells."""
  device = jax.local_devices()[0]
  if _is_of_the_host(error) or device.platform == "cpu":
    return host_memory.limit()
  if "host" in str(error):  # Pinned memory, say, which no device counts.
    return None
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    return (device.memory_stats() or {}).get("bytes_limit")
  return None

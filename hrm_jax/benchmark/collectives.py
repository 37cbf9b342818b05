"""Counts the bytes that a compiled program sends between devices.

Reads the text of the optimised HLO: the result of every collective, times the
trip counts of the loops around it. XLA's own cost analysis knows neither.
"""

import math
import re
from typing import NamedTuple

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)

# Bits of an element by its type; what is not here (tokens, say) is no data.
_BITS = {"pred": 8, "s4": 4, "u4": 4}
_BITS |= {f"{sign}{n}": n for sign in "su" for n in (8, 16, 32, 64)}
_BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_OPCODE = re.compile(r"^(\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(
  r"(?:body|calls|to_apply|true_computation|false_computation|"
  r"branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Collective(NamedTuple):
  """One collective of a program.

  Attributes:
    kind: one of `KINDS`.
    shape: type and shape of its result, as HLO writes it.
    bytes: how large its result is on one device, each time it runs.
    times: how often it runs: the trip counts of the loops around it.
    loops: how many loops are around it.
    source: the JAX operations it comes from.
  """

  kind: str
  shape: str
  bytes: int
  times: int
  loops: int
  source: str


def collectives(hlo: str) -> list[Collective]:
  """Finds the collectives of an optimised HLO module.

  Args:
    hlo: `compiled.as_text()`.

  Raises:
    ValueError: one stands in a loop of which XLA does not know the number of
      trips, so that its bytes cannot be counted.
  """
  computations, entry = _computations(hlo)
  found: list[Collective] = []

  def visit(name: str, times: int | None, loops: int) -> None:
    for line in computations[name]:
      match = _OPCODE.match(line)
      if match is None:
        continue
      shape, opcode = match.groups()
      kind = opcode.removesuffix("-start")
      if kind in KINDS:
        if times is None:
          raise ValueError(f"in a loop of unknown length: {line}")
        if opcode.endswith("-start") and kind != "all-reduce":
          shape = _second(shape)  # (operands, results, ...)
        source = re.search(r'op_name="([^"]*)"', line)
        found.append(
          Collective(
            kind,
            shape,
            _bytes(shape),
            times,
            loops,
            source.group(1) if source else "",
          )
        )
      elif opcode == "while":
        trips = _TRIPS.search(line)
        n = None
        if trips and times is not None:
          n = int(trips.group(1)) * times
        for called in _called(line):
          visit(called, n, loops + 1)
      elif opcode in ("call", "conditional", "fusion", "async-start"):
        for called in _called(line):
          visit(called, times, loops)

  visit(entry, 1, 0)
  return found


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """The instructions of every computation, and the name of the first."""
  computations: dict[str, list[str]] = {}
  entry, current = "", None
  for line in hlo.splitlines():
    header = _COMPUTATION.match(line)
    if header is not None:
      current = computations.setdefault(header.group(2), [])
      entry = header.group(2) if header.group(1) else entry
    elif line.startswith("}"):
      current = None
    elif current is not None:
      instruction = _INSTRUCTION.match(line)
      if instruction is not None:
        # /*index=5*/ comments stand in long tuples.
        current.append(re.sub(r"/\*.*?\*/", "", instruction.group(1)))
  return computations, entry


def _called(line: str) -> list[str]:
  names = (name.strip("{}") for name in _CALLED.findall(line))
  return [n.strip().lstrip("%") for group in names for n in group.split(",")]


def _bytes(shape: str) -> int:
  """Bytes of an array, or of all arrays of a tuple."""
  total = 0
  for dtype, dims in _ARRAY.findall(shape):
    bits = _BITS.get(dtype, 8 if dtype.startswith("f8") else 0)
    total += math.prod(map(int, filter(None, dims.split(",")))) * bits // 8
  return total


def _second(shape: str) -> str:
  """The second entry of a tuple type, which may be a tuple itself."""
  depth, start, parts = 0, 1, []
  for i, char in enumerate(shape):
    depth += (char in "([{") - (char in ")]}")
    if (char == "," and depth == 1) or depth == 0:
      parts.append(shape[start:i])
      start = i + 1
  return parts[1] if len(parts) > 1 else shape

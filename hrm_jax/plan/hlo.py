"""Reads the text of a compiled program: what runs in it, and how often.

XLA prints an optimised module as computations, each a list of instructions;
loops, calls and fusions name the computations that they run. The bodies of
loops count as often as they run: XLA says so for CPUs and GPUs, and for TPUs
the loop's own instructions do.
"""

import functools
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

# Bits of an element by its type; what is not here (tokens, say) is no data.
_BITS = {"pred": 8, "s4": 4, "u4": 4}
_BITS |= {f"{sign}{n}": n for sign in "su" for n in (8, 16, 32, 64)}
_BITS |= {"bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(
  r"^\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)$"
)
_END = re.compile(r"^\}(, |$)")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SOURCE = re.compile(r'op_name="([^"]*)"')

# What hands a value on as it is; copies of asynchronous ones among them.
_SAME = {"copy", "bitcast", "copy-start", "copy-done"}

# Opcodes that run other computations, apart from loops.
CALLS = ("call", "conditional")


class Instruction(NamedTuple):
  """One line of a computation.

  Attributes:
    name: unique in its program.
    shape: type and shape of the result, as HLO writes it.
    opcode: such as "fusion".
    operands: names of what it reads.
    text: the operands and all that follows them.
    is_root: whether it is the result of its computation.
  """

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  text: str
  is_root: bool

  @property
  def source(self) -> str:
    """The JAX operations it comes from; empty where XLA does not say."""
    found = _SOURCE.search(self.text)
    return found.group(1) if found else ""

  def attribute(self, pattern: str) -> str | None:
    """The first group of a regular expression in `text`, if it is there."""
    found = re.search(pattern, self.text)
    return found.group(1) if found else None

  def called(self, *keys: str) -> list[str]:
    """Names of the computations that stand behind some keys."""
    found = re.findall(
      rf"\b(?:{'|'.join(keys)})=(\{{[^}}]*\}}|%?[\w.\-]+)", self.text
    )
    names = [name for group in found for name in group.strip("{}").split(",")]
    return [name.strip().lstrip("%") for name in names]


class Run(NamedTuple):
  """An instruction, and how often it runs.

  Attributes:
    instruction: which.
    operands: the shapes of what it reads, as HLO writes them.
    times: the trips of the loops around it, multiplied; None where a loop ends
      only when its data says so.
    loops: how many loops are around it.
  """

  instruction: Instruction
  operands: tuple[str, ...]
  times: int | None
  loops: int


class Program:
  """The computations of a module.

  Attributes:
    computations: the instructions of each by their names, by its name.
    entry: name of the first.
  """

  def __init__(self, text: str):
    """Reads `compiled.as_text()`."""
    self.computations: dict[str, dict[str, Instruction]] = {}
    self.entry = ""
    current = None
    for line in one_line_each(text):
      if header := _COMPUTATION.match(line):
        current = self.computations.setdefault(header.group(2), {})
        self.entry = header.group(2) if header.group(1) else self.entry
      elif _END.match(line):
        current = None
      elif current is not None and (found := _instruction(line)):
        current[found.name] = found
    # Names are unique in a module.
    self._home = {
      name: computation
      for computation, instructions in self.computations.items()
      for name in instructions
    }

  def runs(self, into: Collection[str] = CALLS) -> Iterator[Run]:
    """Every instruction that runs, loops followed.

    Args:
      into: further opcodes whose computations are followed. Both sides of a
        conditional are.
    """
    yield from self._runs(self.entry, 1, 0, into)

  def _runs(
    self, name: str, times: int | None, loops: int, into: Collection[str]
  ) -> Iterator[Run]:
    computation = self.computations[name]
    for one in computation.values():
      shapes = [computation[o].shape for o in one.operands if o in computation]
      yield Run(one, tuple(shapes), times, loops)
      if one.opcode == "while":
        trips = self.trips_of(one)
        n = None if trips is None or times is None else trips * times
        for called in one.called("body"):
          yield from self._runs(called, n, loops + 1, into)
      elif one.opcode in into:
        keys = ["calls", "to_apply", "branch_computations"]
        keys += ["true_computation", "false_computation"]
        for called in one.called(*keys):
          yield from self._runs(called, times, loops, into)

  def trips_of(self, loop: Instruction) -> int | None:
    """How often the body of a "while" runs; None if only its data can say.

    Where XLA does not tell, the loop must count up by a constant, from a
    constant and as long as it is below one, as those of JAX do.
    """
    computation = self._home[loop.name]
    if told := _TRIPS.search(loop.text):
      return int(told.group(1))
    (condition,), (body,) = loop.called("condition"), loop.called("body")
    test = self._root(condition)
    if test.opcode != "compare" or len(test.operands) != 2:
      return None
    direction = test.attribute(r"\bdirection=(\w+)")
    counter, bound = test.operands
    if direction in ("GT", "GE"):
      counter, bound = bound, counter
    index = self._place(condition, counter)
    if direction not in ("LT", "LE", "GT", "GE") or index is None:
      return None
    start = self._at_start(computation, loop, index)
    end = self._constant(condition, bound)
    if end is None:
      # The bound may be carried around the loop.
      place = self._place(condition, bound)
      if place is not None and self._is_kept(body, place):
        end = self._at_start(computation, loop, place)
    step = self._step(body, index)
    if start is None or end is None or not step or step < 0:
      return None
    inclusive = direction in ("LE", "GE")
    return max(0, math.ceil((end + inclusive - start) / step))

  def _root(self, computation: str) -> Instruction:
    instructions = self.computations[computation].values()
    return next(one for one in instructions if one.is_root)

  def _behind(self, computation: str, name: str) -> Instruction:
    """The instruction that first made a value."""
    one = self.computations[computation][name]
    while one.opcode in _SAME:
      one = self.computations[computation][one.operands[0]]
    return one

  def _constant(self, computation: str, name: str) -> int | None:
    one = self._behind(computation, name)
    digits = re.match(r"(-?\d+)\)", one.text)
    return int(digits[1]) if one.opcode == "constant" and digits else None

  def _place(self, computation: str, name: str) -> int | None:
    """Which part of the computation's only argument a value is."""
    one = self._behind(computation, name)
    if one.opcode != "get-tuple-element":
      return None
    whole = self._behind(computation, one.operands[0])
    index = one.attribute(r"\bindex=(\d+)")
    return int(index) if whole.opcode == "parameter" and index else None

  def _at_start(
    self, computation: str, loop: Instruction, place: int
  ) -> int | None:
    """The constant that a part of a loop's state begins with."""
    made = self._behind(computation, loop.operands[0])
    if made.opcode != "tuple":
      return None
    return self._constant(computation, made.operands[place])

  def _step(self, body: str, place: int) -> int | None:
    """By how much a part of a loop's state grows in a trip."""
    made = self._behind(body, self._root(body).operands[place])
    if made.opcode != "add":
      return None
    for old, new in (made.operands, made.operands[::-1]):
      if self._place(body, old) == place:
        return self._constant(body, new)
    return None

  def _is_kept(self, body: str, place: int) -> bool:
    """Whether a part of a loop's state stays what it is."""
    return self._place(body, self._root(body).operands[place]) == place


def one_line_each(text: str) -> list[str]:
  """The lines of a program, each instruction on one line of its own.

  XLA prints what a kernel says of itself as it is, with its ends of lines.
  """
  lines: list[str] = []
  inside = False
  for line in text.splitlines():
    is_header = bool(_COMPUTATION.match(line))
    inside = inside or is_header
    is_new = is_header or not inside or _INSTRUCTION.match(line)
    if is_new or not line or _END.match(line):
      lines.append(line)
    else:
      lines[-1] += line
    inside = inside and not _END.match(line)
  return lines


def _instruction(line: str) -> Instruction | None:
  # /*index=5*/ comments stand in long tuples.
  found = _INSTRUCTION.match(re.sub(r"/\*.*?\*/", "", line))
  if found is None:
    return None
  root, name, shape, opcode, text = found.groups()
  operands = re.findall(r"%([\w.\-]+)", _inside_parentheses(text))
  return Instruction(name, shape, opcode, tuple(operands), text, bool(root))


def _inside_parentheses(text: str) -> str:
  """What stands before the parenthesis that closes the one before `text`."""
  depth = 1
  for i, char in enumerate(text):
    depth += (char == "(") - (char == ")")
    if depth == 0:
      return text[:i]
  return text


def num_bytes(shape: str) -> int:
  """Bytes of an array, or of all arrays of a tuple."""
  return sum(bytes_by_type(shape).values())


@functools.cache
def bytes_by_type(shape: str) -> Mapping[str, int]:
  """The same for each element type, by its name in HLO."""
  sizes: dict[str, int] = {}
  for kind, dims in _ARRAY.findall(shape):
    bits = _BITS.get(kind, 8 if kind.startswith("f8") else 0)
    if bits:
      elements = math.prod(map(int, filter(None, dims.split(","))))
      sizes[kind] = sizes.get(kind, 0) + elements * bits // 8
  return sizes


def dimensions(shape: str) -> list[int]:
  """How long the first array of a shape is along each axis."""
  found = _ARRAY.search(shape)
  return [int(n) for n in found.group(2).split(",") if n] if found else []

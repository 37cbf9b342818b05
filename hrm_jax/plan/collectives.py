"""What a compiled program sends between devices, and over which links.

Reads the text of the optimised HLO: the result of every collective, times the
trips of the loops around it. XLA's own cost analysis knows neither.
"""

import collections
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hrm_jax.plan import hlo
from hrm_jax.plan.hlo import Instruction, Program

KINDS = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)

# From the shortest to the longest. Devices that are no TPUs are in one slice.
LINKS = ("one device", "within a host", "across hosts", "across slices")

# Links of groups that are written in a way that is not known here.
_UNKNOWN = "unknown"

# Other instructions inside which a collective may stand.
_INTO = (*hlo.CALLS, "fusion", "async-start")

# A program for several slices is that of one of them: what goes to the others
# is handed to the host's runtime by a "send", which says what shall be done.
_TO_OTHER_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')

# The three ways in which HLO writes groups of devices: one by one; as counted
# through, reshaped and turned; and as axes of a mesh, or parts of axes.
_LISTED = re.compile(
  r"(?:replica_groups|source_target_pairs)=\{((?:\{[\d,]*\},?)*)\}"
)
_COUNT = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
_COUNTED = re.compile(r"replica_groups=\[([\d,]+)\]<=" + _COUNT)
_ALONG_AXES = re.compile(
  r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(" + _COUNT + r"\))?"
  r" \{([^}]*)\}"
)
_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


class Collective(NamedTuple):
  """One collective of a program.

  Attributes:
    kind: one of `KINDS`.
    shape: type and shape of its result, as HLO writes it.
    bytes: how large its result is on one device, each time it runs.
    times: how often it runs: the trips of the loops around it; None in a loop
      of unknown length.
    loops: how many loops are around it.
    source: the JAX operations it comes from.
    groups: numbers of devices that talk to each other, by their places in the
      program; None: all of them; none: they cannot be read.
    leaves_slice: whether it goes to other slices, by way of the hosts.
  """

  kind: str
  shape: str
  bytes: int
  times: int | None
  loops: int
  source: str
  groups: tuple[tuple[int, ...], ...] | None = None
  leaves_slice: bool = False


def collectives(program: Program) -> list[Collective]:
  """Finds the collectives of an optimised HLO module."""
  found = []
  for one, _, times, loops in program.runs(into=_INTO):
    kind, shape = one.opcode.removesuffix("-start"), one.shape
    to_others = _TO_OTHER_SLICES.search(one.text)
    if one.opcode == "send" and to_others:
      kind = to_others.group(1).lower().replace("_", "-")
      shape = _part(shape, 0)  # (data, context, token)
    elif kind not in KINDS:
      continue
    elif one.opcode.endswith("-start") and kind != "all-reduce":
      shape = _part(shape, 1)  # (operands, results, ...)
    found.append(
      Collective(
        kind,
        shape,
        hlo.num_bytes(shape),
        times,
        loops,
        one.source,
        None if to_others else _groups(one),
        bool(to_others),
      )
    )
  return found


def total_bytes(found: Iterable[Collective]) -> int:
  """Bytes of all results together, as often as they run.

  Raises:
    ValueError: one stands in a loop of which nobody knows the number of trips,
      so that its bytes cannot be counted.
  """
  total = 0
  for one in found:
    if one.times is None:
      raise ValueError(
        f"in a loop of unknown length: {one.kind} {one.shape} ({one.source})"
      )
    total += one.bytes * one.times
  return total


class Sent(NamedTuple):
  """What a device sends of one kind and element type, over one sort of links.

  Attributes:
    kind: see `Collective`.
    dtype: of the elements, as HLO calls it.
    links: the longest of `LINKS` among them, or "unknown".
    bytes: of the results, over all loops.
    times: how many collectives run; one of several arrays is one of each type.
    unknown: how many of them stand in loops of unknown length, and are counted
      as if these ran once.
  """

  kind: str
  dtype: str
  links: str
  bytes: int
  times: int
  unknown: int


def sent(
  found: Iterable[Collective], links: Callable[[Collective], str]
) -> list[Sent]:
  """Adds up what is alike; the most bytes come first.

  Args:
    found: the collectives of a program.
    links: says which of `LINKS` one crosses, see `links_of`.
  """
  sums = collections.defaultdict(lambda: np.zeros(3, np.int64))
  for one in found:
    times = 1 if one.times is None else one.times
    for dtype, size in hlo.bytes_by_type(one.shape).items():
      key = (one.kind, dtype, links(one))
      sums[key] += size * times, times, one.times is None
  rows = [Sent(*key, *map(int, each)) for key, each in sums.items()]
  return sorted(rows, key=lambda row: -row.bytes)


def links_of(devices: Sequence[Any]) -> Callable[[Collective], str]:
  """Tells which links a collective crosses.

  Args:
    devices: in the order of the mesh; all of its devices, whatever the program
      covers.
  """
  slices = [getattr(device, "slice_index", None) or 0 for device in devices]
  # A mesh begins with all of its first slice, and all slices run one program.
  in_first = slices.count(slices[0])

  def crossed(one: Collective) -> str:
    if one.leaves_slice:
      return "across slices"
    groups = one.groups
    if groups is None:
      groups = (tuple(range(in_first)),)
    if not groups:
      return _UNKNOWN
    return max(
      (_link([devices[i] for i in group]) for group in groups),
      key=LINKS.index,
    )

  return crossed


def _link(group: Sequence[Any]) -> str:
  if len({getattr(d, "slice_index", None) for d in group}) > 1:
    return "across slices"
  if len({d.process_index for d in group}) > 1:
    return "across hosts"
  return "within a host" if len(group) > 1 else "one device"


def _groups(one: Instruction) -> tuple[tuple[int, ...], ...] | None:
  """The groups of a collective.

  Returns:
    None: it is among all devices; nothing: they are written in a way that is
    not known here.
  """
  text = one.text
  if found := _LISTED.search(text):
    groups = re.findall(r"\{([\d,]+)\}", found.group(1))
    return tuple(tuple(map(int, g.split(","))) for g in groups) or None
  if found := _COUNTED.search(text):
    rows, *_ = _numbers(found.group(1))
    ids = _counted(found.group(2), found.group(3))
    return _as_groups(ids.reshape(rows, -1))
  if found := _ALONG_AXES.search(text):
    axes, dims, order, chosen = found.groups()
    sizes = {n: int(size) for n, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    count = math.prod(sizes.values())
    ids = _counted(dims or str(count), order)
    return _as_groups(_along(ids, sizes, chosen))
  if "replica_groups=" in text.replace("replica_groups={}", ""):
    return ()
  return None


def _counted(dims: str, order: str | None) -> np.ndarray:
  """Numbers from 0 on, reshaped, their axes then put in another order."""
  shape = _numbers(dims)
  ids = np.arange(math.prod(shape)).reshape(shape)
  return ids.transpose(_numbers(order) or range(len(shape)))


def _along(ids: np.ndarray, sizes: dict[str, int], chosen: str) -> np.ndarray:
  """Groups along some axes of a mesh, a row each.

  Args:
    ids: the devices, in the order of the mesh.
    sizes: of its axes by their names.
    chosen: names of axes, or parts of them: 'x':(2)4 is what remains of x when
      2 parts are taken from it before and all but 4 after.
  """
  parts = {name: (1, size) for name, size in sizes.items()}
  wanted = _AXIS.findall(chosen)
  for name, before, size in wanted:
    if size:
      parts[name] = int(before), int(size)
  shape = []
  for name, size in sizes.items():
    before, mine = parts[name]
    shape += [before, mine, size // (before * mine)]
  places = {name: 3 * i + 1 for i, name in enumerate(sizes)}
  along = [places[name] for name, _, _ in wanted]
  rest = [i for i in range(len(shape)) if i not in along]
  width = math.prod(shape[i] for i in along)
  return ids.reshape(shape).transpose(rest + along).reshape(-1, width)


def _numbers(text: str | None) -> list[int]:
  return [int(n) for n in (text or "").split(",") if n]


def _as_groups(rows: np.ndarray) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(map(int, row)) for row in rows)


def _part(shape: str, index: int) -> str:
  """One entry of a tuple type, which may be a tuple itself."""
  depth, start, parts = 0, 1, []
  for i, char in enumerate(shape):
    depth += (char in "([{") - (char in ")]}")
    if (char == "," and depth == 1) or depth == 0:
      parts.append(shape[start:i].strip())
      start = i + 1
  return parts[index] if len(parts) > index else shape

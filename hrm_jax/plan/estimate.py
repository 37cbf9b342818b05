"""How long a program may take on a device: an estimate, never a measurement.

On TPUs XLA writes the cycles that it expects beside most instructions; they are
added up. On GPUs it does not: each kernel gets the longer of moving its bytes
and of its products. Loops are multiplied out. What has no estimate is listed,
not counted as nothing in silence; collectives have `collectives`.
"""

import collections
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from hrm_jax.plan import hlo
from hrm_jax.plan.chips import Chip
from hrm_jax.plan.collectives import KINDS
from hrm_jax.plan.hlo import Instruction, Program, Run

# Seconds that a GPU takes to start a kernel.
LAUNCH_S = 2e-6

# What XLA calls the custom call that a kernel of Pallas is on a TPU.
KERNEL = "tpu_custom_call"

# They do no work of their own.
_FREE = {
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
  *("after-all", "partition-id", "replica-id", "opt-barrier"),
  *("while", *hlo.CALLS),
}
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')

# What an instruction belongs to, by the JAX operations that it comes from; the
# first that fits.
_PARTS = (
  ("attention products", r"(?=.*dot_general).*(bats|batc|dot_product_attent)"),
  ("weight products", r"dot_general"),
  ("rope", r"(?i)rotation|rotary|rope"),
  ("attention, rest (layout, softmax)", r"(?i)attn|attention"),
  ("mlp, rest", r"mlp"),
  ("stacks of a scan", r"dynamic"),
  ("zeros for stacks", r"^broadcast"),
  ("norms, residuals", r"Block"),
)


class Estimate(NamedTuple):
  """What a program may take.

  Attributes:
    seconds: the sum of `parts`.
    parts: seconds by what they are for, the largest first.
    kernels: instructions with an estimate, as often as they run.
    unknown: those without one, and custom calls on a GPU, of which only the
      bytes are known: how often they run, and the bytes of their results, by
      what they are.
    unknown_loops: loops whose length only their data decides; they are counted
      as if they ran once.
  """

  seconds: float
  parts: Mapping[str, float]
  kernels: int
  unknown: Mapping[str, tuple[int, int]]
  unknown_loops: int


def estimate(program: Program, chip: Chip) -> Estimate:
  """Adds up what is known of the time of a program on one device.

  Args:
    program: compiled for the chip.
    chip: gives the clock, or the roofline; one that gives neither leaves
      everything unknown.
  """
  parts: dict[str, float] = collections.defaultdict(float)
  unknown = collections.defaultdict(lambda: [0, 0])
  kernels = unknown_loops = 0
  for run in program.runs():
    one = run.instruction
    times = 1 if run.times is None else run.times
    if one.opcode == "while":
      unknown_loops += program.trips_of(one) is None
    if one.opcode in _FREE or one.opcode.endswith("-done"):
      continue
    seconds = _seconds(program, chip, run)
    if seconds is not None:
      parts[_part(one)] += seconds * times
      kernels += times
    # What a custom call computes nobody can read; on a GPU only the bytes that
    # it moves are counted.
    is_unread = one.opcode == "custom-call" and not chip.clock
    is_sent = one.opcode.removesuffix("-start") in KINDS
    if is_unread or (seconds is None and not is_sent):
      both = unknown[_what(one)]
      both[0] += times
      both[1] += hlo.num_bytes(one.shape) * times
  by_size = sorted(parts.items(), key=lambda item: -item[1])
  rest = sorted(unknown.items(), key=lambda item: -item[1][1])
  return Estimate(
    sum(parts.values()),
    dict(by_size),
    kernels,
    {name: (count, size) for name, (count, size) in rest},
    unknown_loops,
  )


def _part(one: Instruction) -> str:
  source = one.source or one.opcode
  for part, pattern in _PARTS:
    if re.search(pattern, source):
      return part
  return "other"


def _what(one: Instruction) -> str:
  """What an instruction without an estimate is listed as."""
  target = one.attribute(r'custom_call_target="([^"]*)"')
  if target and target != KERNEL:
    return target
  # The numbers at the end of a name say nothing.
  if target or one.opcode == "fusion":
    return re.sub(r"[.\d]+$", "", one.name)
  return one.opcode


def _seconds(program: Program, chip: Chip, run: Run) -> float | None:
  if chip.clock:
    cycles = _CYCLES.search(run.instruction.text)
    return int(cycles.group(1)) / chip.clock if cycles else None
  if chip.platform != "gpu" or not (chip.bandwidth and chip.product_flops):
    return None
  moving = _bytes_moved(run) / chip.bandwidth
  products = _flops(program, run.instruction) / chip.product_flops
  return max(moving, products) + LAUNCH_S


def _bytes_moved(run: Run) -> int:
  read = [hlo.num_bytes(shape) for shape in run.operands]
  moved = hlo.num_bytes(run.instruction.shape) + sum(read)
  if re.search("dynamic[-_]update[-_]slice", run.instruction.name):
    # It writes a slice into an array that stays where it is. How large the
    # slice is cannot be seen from outside: no larger than what is read.
    smallest = min([n for n in read if n] or [moved])
    moved = min(moved, 2 * smallest)
  return moved


def _flops(program: Program, one: Instruction) -> int:
  """Two for each multiply-add of the products in a fusion."""
  called = [c for c in one.called("calls") if c in program.computations]
  return sum(
    _flops(program, inner) + _product_flops(program.computations[name], inner)
    for name in called
    for inner in program.computations[name].values()
  )


def _product_flops(
  computation: Mapping[str, Instruction], one: Instruction
) -> int:
  axes = one.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
  if one.opcode != "dot" or axes is None:
    return 0
  factor = hlo.dimensions(computation[one.operands[0]].shape)
  summed = math.prod(factor[int(i)] for i in axes.split(",") if i)
  return 2 * math.prod(hlo.dimensions(one.shape)) * summed

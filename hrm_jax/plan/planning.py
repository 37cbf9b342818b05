"""What a program needs on its target: memory, communication, time."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import ml_collections

from hrm_jax.console import log, one_line
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.evaluate.evaluator import Evaluator
from hrm_jax.machines import out_of_memory
from hrm_jax.machines.out_of_memory import OutOfMemoryError, Shortage
from hrm_jax.model import attention, flops
from hrm_jax.model.hrm import HRM
from hrm_jax.plan import collectives, compiling, estimate, hlo, memory
from hrm_jax.plan.chips import Chip
from hrm_jax.plan.collectives import Sent
from hrm_jax.plan.estimate import Estimate
from hrm_jax.plan.memory import Memory
from hrm_jax.plan.program import Program, make_program
from hrm_jax.plan.targets import Target
from hrm_jax.train import less_memory

UPDATE = "the update"


class Plan(NamedTuple):
  """What one program needs on one device.

  Attributes:
    memory: bytes.
    sent: to other devices.
    estimate: of its time, without what is sent.
    kernels_s: the least that kernels take of which it knows nothing.
    flops: of its products by formula; None: they depend on the data.
    lower_s: seconds that tracing took here.
    compile_s: the same of compiling.
    text: the optimised HLO.
  """

  memory: Memory
  sent: list[Sent]
  estimate: Estimate
  kernels_s: float
  flops: float | None
  lower_s: float
  compile_s: float
  text: str


class TimingByCompiler:
  """Stands for timing attention: compiles it for the target, and estimates.

  See `attention.Timing`.

  Attributes:
    seconds: estimates by implementation.
    not_compiled: why not, by implementation.
  """

  def __init__(self, target: Target):
    self._target = target
    self.seconds: dict[str, float] = {}
    self.not_compiled: dict[str, str] = {}

  def __call__(self, implementation: str, model: HRM, rows: int) -> float:
    """Estimated seconds of attention in a block, forward and backward."""
    at = jax.sharding.SingleDeviceSharding(self._target.devices[0])
    inputs = jax.tree.map(
      lambda shape: shape.update(sharding=at),
      jax.eval_shape(lambda: attention.inputs_of(model, rows)),
    )
    run = attention.forward_and_backward(implementation, model)
    try:
      lowered = jax.jit(run).lower(*inputs)
      text = lowered.compile().as_text() or ""
    except Exception as error:  # JAX, XLA and cuDNN raise many.
      self.not_compiled[implementation] = one_line(error)
      raise
    program, chip = hlo.Program(text), self._target.chip
    known = estimate.estimate(program, chip).seconds
    # What a kernel computes is no product that the estimate could see.
    kernels = _seconds_of_kernels(program, chip, model, rows)
    peak = chip.product_flops or chip.peak_flops or math.inf
    products = 3 * flops.of_attention_layer(model) * rows / peak
    seconds = known + kernels if chip.clock else max(known, products)
    self.seconds[implementation] = seconds
    return seconds


def _seconds_of_kernels(
  program: hlo.Program, chip: Chip, model: HRM, rows: float
) -> float:
  """The least that kernels of attention take on a TPU: XLA has no estimate.

  Each takes as long as its bytes and as its products at the peak: forward two,
  backward five, of as many multiply-adds.
  """
  if not (chip.clock and chip.bandwidth and chip.peak_flops):
    return 0.0
  product = flops.of_attention(model) * rows / 2 / chip.peak_flops
  seconds = 0.0
  for run in program.runs():
    one = run.instruction
    if one.opcode == "custom-call" and estimate.KERNEL in one.text:
      moved = sum(map(hlo.num_bytes, (one.shape, *run.operands)))
      work = product * (5 if "transpose(" in one.source else 2)
      seconds += (run.times or 1) * max(moved / chip.bandwidth, work)
  return seconds


def program_for(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  target: Target,
  timing: TimingByCompiler,
) -> Program:
  """The training update that runs on the target."""
  if config.attention == "auto" and target.chip.platform != "cpu":
    log.info(
      "attention is compiled for the target; what is said of its time is an "
      "estimate"
    )
  return make_program(config, metadata, devices=target.devices, timing=timing)


def plan_update(program: Program, target: Target) -> Plan:
  """Plans the training update.

  Raises:
    OutOfMemoryError: it does not fit.
  """
  model = program.setup.model
  rows = program.config.global_batch_size / program.setup.mesh.size
  return _plan(
    UPDATE,
    program.lower,
    program,
    target,
    program.setup.shapes,
    flops.per_update(model) * rows,
  )


def plan_evaluation(program: Program, target: Target, halt: str) -> Plan:
  """Plans an evaluation with the batch of the training.

  Args:
    program: the training update of the same run.
    target: what it is for.
    halt: "full" or "act".

  Raises:
    OutOfMemoryError: it does not fit.
  """
  setup, model = program.setup, program.setup.model
  evaluator = Evaluator(model, setup.loss, setup.mesh, halt=halt)
  size = program.config.global_batch_size
  work = None
  if halt == "full":
    rows = size / setup.mesh.size
    work = flops.per_segment(model) * model.halt_max_steps * rows
  lower = functools.partial(
    evaluator.lower,
    setup.shapes.weights,
    seq_len=program.metadata.seq_len,
    batch_size=size,
  )
  return _plan(
    f"the evaluation ({halt})",
    lower,
    program,
    target,
    setup.shapes.weights,
    work,
  )


class DoesNotFitError(OutOfMemoryError):
  """A program needs more memory than its devices have.

  Attributes:
    short: how much, as far as it is known.
  """

  def __init__(
    self, what: str, program: Program, target: Target, short: Shortage
  ):
    self.short = short
    super().__init__(
      out_of_memory.line(
        f"{what} for {target.name}",
        short,
        ways_out(program, target, training=what == UPDATE),
      )
    )


def ways_out(
  program: Program, target: Target, *, training: bool = True
) -> list[str]:
  """What would make it need less memory, or give it more."""
  ways = less_memory.keys_that_help(
    program.config, program.setup, training=training
  )
  if target.chip.platform == "gpu" and memory.fraction() < 0.92:
    ways.append(f"{memory.FRACTION}=0.92, as launch/env_gpu.sh")
  return ways


def _plan(
  what: str,
  lower: Callable[[], jax.stages.Lowered],
  program: Program,
  target: Target,
  state: Any,
  work: float | None,
) -> Plan:
  """Compiles a program, and reads what came of it.

  Args:
    what: the program is, for messages.
    lower: traces it.
    program: of the update, for what may be changed.
    target: what it is for.
    state: what it is given apart from a batch, as shapes.
    work: FLOPs of its products on one device.

  Raises:
    DoesNotFitError: by XLA's word, or by the memory that it asks for.
  """
  began = time.perf_counter()
  lowered = lower()
  lower_s = time.perf_counter() - began
  try:
    compiled, compile_s = compiling.compiled(lowered, f"{what}, {target.name}")
  except jax.errors.JaxRuntimeError as error:
    short = out_of_memory.shortage(error)
    if short is None:
      raise
    raise DoesNotFitError(what, program, target, short) from error
  need = memory.of(compiled, state, target.chip)
  if need.left is not None and need.left < 0:
    short = Shortage(need.total, need.available)
    raise DoesNotFitError(what, program, target, short)
  text = compiled.as_text() or ""
  read = hlo.Program(text)
  setup = program.setup
  rows = program.config.global_batch_size // setup.mesh.size
  if what == UPDATE:  # On average of all portions.
    rows /= math.ceil(rows / (setup.rows_at_once or rows))
  links = collectives.links_of(list(setup.mesh.devices.flat))
  return Plan(
    need,
    collectives.sent(collectives.collectives(read), links),
    estimate.estimate(read, target.chip),
    _seconds_of_kernels(read, target.chip, setup.model, rows),
    work,
    lower_s,
    compile_s,
    text,
  )

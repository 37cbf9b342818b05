"""A plan as one JSON object, and as lines for a person."""

from collections.abc import Iterator
from typing import Any

import jax

from hrm_jax.console import counted
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.machines.out_of_memory import in_words
from hrm_jax.plan.chips import Chip
from hrm_jax.plan.collectives import Sent
from hrm_jax.plan.fit import Fit, Trial
from hrm_jax.plan.planning import Plan, TimingByCompiler
from hrm_jax.plan.program import Program
from hrm_jax.plan.targets import Target

# Bytes; results below this are scalars and small arrays, and shown as one.
_SMALL = 16 * 1024


def of_target(
  program: Program, target: Target, timing: TimingByCompiler, sizes_from: str
) -> dict[str, Any]:
  """What was planned, and for what."""
  setup, config = program.setup, program.config
  return {
    "target": target.name,
    "slices": target.slices,
    "device": target.devices[0].device_kind,
    "devices": len(target.devices),
    "hosts": len({d.process_index for d in target.devices}),
    "mesh": dict(setup.mesh.shape),
    "jax": jax.__version__,
    "global_batch_size": config.global_batch_size,
    "rows_per_device": config.global_batch_size // setup.mesh.size,
    "rows_at_once": setup.rows_at_once,
    "seq_len": program.metadata.seq_len,
    "vocab_size": program.metadata.vocab_size,
    "num_identifiers": program.metadata.num_puzzle_identifiers,
    "sizes_from": sizes_from,
    "dtype": jax.numpy.dtype(setup.model.dtype).name,
    "remat": setup.model.remat,
    "attention": setup.model.attention,
    "attention_setting": config.attention,
    "attention_estimates_ms": {
      name: 1e3 * seconds for name, seconds in timing.seconds.items()
    },
    "attention_not_compiled": dict(timing.not_compiled),
  }


def of_program(plan: Plan, chip: Chip) -> dict[str, Any]:
  """What one program needs on one device."""
  need, found = plan.memory, plan.estimate
  floor = None
  if plan.flops is not None and chip.peak_flops:
    floor = 1e3 * plan.flops / chip.peak_flops
  return {
    "fits": None if need.left is None else need.left >= 0,
    "memory_bytes": {
      **need._asdict(),
      "total": need.total,
      "left": need.left,
    },
    "flops_per_device": plan.flops,
    "peak_flops": chip.peak_flops,
    "floor_ms": floor,
    "estimate": {
      "kind": _kind_of_estimate(chip),
      "ms": 1e3 * found.seconds if found.kernels else None,
      "kernels_at_least_ms": 1e3 * plan.kernels_s,
      "parts_ms": {k: 1e3 * v for k, v in found.parts.items()},
      "kernels": found.kernels,
      "unknown": {
        name: {"times": times, "bytes": size}
        for name, (times, size) in found.unknown.items()
      },
      "loops_of_unknown_length": found.unknown_loops,
    },
    "collectives": [row._asdict() for row in plan.sent],
    "lower_s": plan.lower_s,
    "compile_s": plan.compile_s,
  }


def _kind_of_estimate(chip: Chip) -> str | None:
  if chip.clock:
    return f"XLA's estimated cycles at {chip.clock / 1e9:.2f} GHz"
  if chip.platform == "gpu" and chip.bandwidth and chip.product_flops:
    return (
      f"roofline of {chip.bandwidth / 1e12:.2f} TB/s and "
      f"{chip.product_flops / 1e12:.0f} TFLOP/s, 2 us a kernel"
    )
  return None


def lines(result: dict[str, Any], chip: Chip) -> Iterator[str]:
  """The whole result of `plan`, for a person."""
  mesh = " x ".join(f"{k} {n}" for k, n in result["mesh"].items())
  slices = f", {result['slices']} slices" if result["slices"] > 1 else ""
  yield (
    f"{result['target']}{slices}: {counted(result['devices'], 'device')} "
    f"({result['device']}), {counted(result['hosts'], 'host')}, mesh {mesh}, "
    f"jax {result['jax']}"
  )
  yield (
    f"batch {result['global_batch_size']:,}, "
    f"{counted(result['rows_per_device'], 'row')} a device, "
    f"{result['rows_at_once']:,} at once; "
    f"{counted(result['seq_len'], 'cell')}, {result['vocab_size']} tokens, "
    f"{counted(result['num_identifiers'], 'identifier')} "
    f"({result['sizes_from']})"
  )
  yield (
    f"{result['dtype']}, remat {result['remat']}, attention "
    f"{result['attention']} (config.attention={result['attention_setting']})"
  )
  for name, ms in result["attention_estimates_ms"].items():
    yield f"  attention {name}: estimated {ms:.3f} ms a block"
  for name, why in result["attention_not_compiled"].items():
    yield f"  attention {name}: not compiled without the device: {why}"
  for name, title in (
    ("update", "the training update"),
    ("evaluate_full", "evaluation, all segments"),
    ("evaluate_act", "evaluation, rows halt and take the next puzzle"),
  ):
    if name in result:
      yield ""
      yield from _program_lines(title, result[name], chip)


def _program_lines(
  title: str, result: dict[str, Any], chip: Chip
) -> Iterator[str]:
  unknown = "no limit of memory is known"
  fits = {True: "fits", False: "does not fit", None: unknown}
  yield (
    f"{title}: {fits[result['fits']]}; compiled in {result['compile_s']:.0f} s"
  )
  yield from _memory_lines(result["memory_bytes"], chip)
  if result["flops_per_device"] is not None:
    text = f"  products     {result['flops_per_device'] / 1e12:,.3f} TFLOP"
    if result["floor_ms"] is not None:
      text += (
        f", at least {result['floor_ms']:.2f} ms at the peak of "
        f"{result['peak_flops'] / 1e12:,.0f} TFLOP/s"
      )
    yield text
  yield from _estimate_lines(result["estimate"])
  for row in result["collectives"]:
    yield "  " + _collective_line(Sent(**row), chip)
  if not result["collectives"]:
    yield "  nothing is sent between devices"


def _memory_lines(need: dict[str, Any], chip: Chip) -> Iterator[str]:
  yield (
    f"  memory       {in_words(need['total'])}: arguments "
    f"{in_words(need['arguments'])} (state {in_words(need['state'])}), "
    f"temporaries {in_words(need['temporaries'])}, outputs "
    f"{in_words(need['outputs'])}, program {in_words(need['program'])}"
  )
  if need["left"] is None:
    return
  text = f"  left         {in_words(need['left'])} of "
  text += in_words(need["available"])
  if chip.platform == "gpu":
    share = need["available"] / (chip.memory or 1)
    text += f", the {share:.0%} of the memory that JAX takes; by addition"
  yield text


def _estimate_lines(found: dict[str, Any]) -> Iterator[str]:
  if found["ms"] is None:
    yield "  time         no estimate for these devices"
    return
  yield (
    f"  estimate     {found['ms']:.2f} ms in {found['kernels']:,} kernels, "
    f"without what is sent ({found['kind']})"
  )
  for part, ms in found["parts_ms"].items():
    yield f"    {ms:9.2f} ms {ms / found['ms']:6.1%}  {part}"
  if found["kernels_at_least_ms"]:
    yield (
      f"    at least {found['kernels_at_least_ms']:.2f} ms more in attention "
      "kernels, of which XLA has no estimate"
    )
  small = [0, 0]
  for name, row in found["unknown"].items():
    if row["bytes"] <= _SMALL * row["times"]:
      small[0] += row["times"]
      small[1] += row["bytes"]
    else:
      yield _unknown_line(name, row["times"], row["bytes"])
  if small[0]:
    yield _unknown_line("small ones", *small)
  if found["loops_of_unknown_length"]:
    yield (
      f"    counted once: {found['loops_of_unknown_length']} loops whose "
      "length depends on the data"
    )


def _unknown_line(name: str, times: int, size: int) -> str:
  return f"    no estimate: {name}, {times:,} times, {in_words(size)} made"


def _collective_line(row: Sent, chip: Chip) -> str:
  by = {
    "within a host": chip.near_name,
    "across hosts": "ICI" if chip.platform == "tpu" else "network",
    "across slices": "data-center network",
  }
  links = row.links + (f" ({by[row.links]})" if row.links in by else "")
  text = f"{row.kind:20} {row.dtype:5} {row.bytes / 1e6:10,.3f} MB {links}"
  if row.unknown:
    text += f"; {row.unknown} in loops of unknown length, counted once"
  return text


def of_fits(
  found: dict[bool, Fit],
  metadata: DatasetMetadata,
  sizes_from: str,
  target: Target,
) -> dict[str, Any]:
  """The largest batches, by whether intermediates are computed again."""
  devices = len(target.devices)
  return {
    "target": target.name,
    "slices": target.slices,
    "devices": devices,
    "jax": jax.__version__,
    "seq_len": metadata.seq_len,
    "vocab_size": metadata.vocab_size,
    "num_identifiers": metadata.num_puzzle_identifiers,
    "sizes_from": sizes_from,
    "fit": [
      {
        "remat": remat,
        "largest": _of_trial(each.largest, devices),
        "next": _of_trial(each.next, devices),
        "tried": [_of_trial(trial, devices) for trial in each.tried],
      }
      for remat, each in found.items()
    ],
  }


def _of_trial(trial: Trial | None, devices: int) -> dict[str, Any] | None:
  if trial is None:
    return None
  named = {"global_batch_size": trial.rows * devices}
  return named | trial._asdict()


def lines_of_fits(result: dict[str, Any]) -> Iterator[str]:
  """The same for a person."""
  yield (
    f"{result['target']}: the largest batch whose update fits; "
    f"{counted(result['seq_len'], 'cell')}, "
    f"{counted(result['num_identifiers'], 'identifier')} "
    f"({result['sizes_from']})"
  )
  for row in result["fit"]:
    best, after = row["largest"], row["next"]
    said = "none, not even one row a device"
    if best:
      said = (
        f"{best['global_batch_size']:,}, {counted(best['rows'], 'row')} a "
        "device "
        f"({in_words(best['total'])} of {in_words(best['available'])})"
      )
    yield f"  remat {row['remat']!s:5}  {said}"
    needs = f": {in_words(after['total'])}" if after["total"] else ""
    yield (
      f"               the next, {after['global_batch_size']:,}, does not "
      f"fit{needs}; {len(row['tried'])} were compiled"
    )

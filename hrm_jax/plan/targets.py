"""From a name such as v5e:4x4 to devices that a program can be compiled for.

They need not be here: XLA's compilers for TPUs and NVIDIA GPUs run on any Linux
machine. Nothing asks `jax.devices()` for them, so JAX goes on to see the CPU.
"""

import contextlib
import os
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from hrm_jax.console import InputError, one_line
from hrm_jax.plan import gpu_description
from hrm_jax.plan.chips import CHIPS, Chip

EXAMPLES = "v5e:4x4, v6e:16x16, v4:2x2x2, v5p:2x2x1, h100:8, cpu:8"

# libtpu looks for the machine that it would run on. These say that there is
# none: no metadata server, no other hosts, a type that only stops a warning
# (the topology says what is compiled for); and that another process may compile
# at the same time, for nobody holds a TPU.
LIBTPU = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

# More take minutes to make, and tell nothing that fewer do not.
_MOST_CPUS = 1024

_NUM_CPUS = "jax_num_cpu_devices"


class Target(NamedTuple):
  """What is compiled for.

  Attributes:
    name: as it was given.
    chip: what its devices are.
    devices: all of them.
    slices: how many TPU slices.
  """

  name: str
  chip: Chip
  devices: tuple[Any, ...]
  slices: int


def find(name: str, slices: int = 1) -> Target:
  """Finds the devices of a target; call it before JAX has looked for its own.

  Args:
    name: a chip of `chips.CHIPS` and how many: for TPUs the shape of a slice,
      else a number.
    slices: TPU slices of that shape, on one data-center network.

  Raises:
    InputError: there is no such target, or its compiler is not installed.
  """
  chip_name, _, size = name.partition(":")
  if chip_name not in CHIPS or not size:
    raise InputError(
      f"--target: expected CHIP:SIZE, the chip one of {', '.join(CHIPS)} "
      f"({EXAMPLES}); got '{name}'."
    )
  chip = CHIPS[chip_name]
  if chip.platform == "tpu":
    devices = _tpus(chip, size, slices)
  elif slices > 1:
    raise InputError(
      f"--slices: expected 1, for only TPUs come in slices; got {slices}."
    )
  else:
    devices = _numbered(chip, size)
  return Target(name, chip, tuple(devices), slices)


def _numbered(chip: Chip, size: str) -> list[Any]:
  count = int(size) if re.fullmatch(r"[1-9]\d{0,4}", size) else 0
  per_host = chip.devices_per_host or max(count, 1)
  hosts = max(1, count // per_host)
  if not count or (count > per_host and count % per_host):
    expected = "a number of devices"
    if chip.devices_per_host:
      expected += f", 1 to {per_host} or a multiple of {per_host}"
    raise InputError(
      f"--target: expected {expected} after '{chip.name}:', got '{size}'."
    )
  if chip.platform == "cpu":
    if count > _MOST_CPUS:
      raise InputError(
        f"--target: expected at most {_MOST_CPUS:,} CPU devices, got {count:,}."
      )
    return _cpus(count)
  _only_cpus_here()
  _keep_no_programs()
  try:
    topology = topologies.get_topology_desc(
      chip.name,
      platform="cuda",
      target_config=gpu_description.text(chip.name),
      topology=f"{hosts}x1x{count // hosts}",  # Processes, hosts, devices.
    )
  except jax.errors.JaxRuntimeError:
    raise
  except RuntimeError as error:  # NotImplementedError is one.
    raise _no_compiler(chip, "gpu", error) from error
  return topology.devices


def _cpus(count: int) -> list[Any]:
  _only_cpus_here()
  # Where JAX has started it has as many as it has, and says so.
  asked = getattr(jax.config, _NUM_CPUS)
  with contextlib.suppress(RuntimeError):
    jax.config.update(_NUM_CPUS, max(count, asked))
  devices = jax.devices("cpu")
  if len(devices) < count:
    raise InputError(
      f"--target: expected at most {len(devices)} CPU devices, as many as JAX "
      f"has made, got {count}."
    )
  return devices[:count]


def _tpus(chip: Chip, size: str, slices: int) -> list[Any]:
  sides = [int(n) for n in size.split("x") if re.fullmatch(r"[1-9]\d{0,2}", n)]
  number = 3 if chip.name in ("v4", "v5p") else 2
  if len(sides) != number or len(sides) != size.count("x") + 1:
    shape = "4x4x4" if number == 3 else "4x4"
    raise InputError(
      f"--target: expected the shape of a slice after '{chip.name}:', such as "
      f"{shape}; got '{size}'."
    )
  _only_cpus_here()
  _keep_no_programs()
  for key, value in LIBTPU.items():
    os.environ.setdefault(key, value)
  settings: dict[str, Any] = {"num_slices": slices} if slices > 1 else {}
  if chip.name == "v4":
    settings["chip_config_name"] = "megacore"
  on_one_host = {"1x1": [1, 1, 1], "2x4": [2, 4, 1]}.get(size)
  if on_one_host:
    settings["chips_per_host_bounds"] = on_one_host
  try:
    return topologies.get_topology_desc(
      f"{chip.name}:{size}", platform="tpu", **settings
    ).devices
  except jax.errors.JaxRuntimeError as error:
    text = " ".join(str(error).split())
    if "INVALID_ARGUMENT" not in text:
      raise
    raise InputError(
      f"--target: expected a slice that there can be, got '{chip.name}:{size}' "
      f"({one_line(error)})."
    ) from error
  except RuntimeError as error:
    raise _no_compiler(chip, "tpu", error) from error


def _only_cpus_here() -> None:
  """Whatever this machine has is not looked for, and not taken."""
  jax.config.update("jax_platforms", "cpu")


def _keep_no_programs() -> None:
  """JAX_COMPILATION_CACHE_DIR may be set for those that run here.

  A program for devices that are not here cannot be read back: JAX would keep
  it, and the next time warn and compile.
  """
  jax.config.update("jax_enable_compilation_cache", False)


def _no_compiler(chip: Chip, extra: str, error: Exception) -> InputError:
  return InputError(
    f"--target: the compiler for {chip.name} is not installed "
    f"({one_line(error)}); pip install -e '.[{extra}]'."
  )

"""What errors say of memory, and the line that is made of it."""

import errno
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest

from hrm_jax.machines import host_memory, out_of_memory
from hrm_jax.machines.out_of_memory import OutOfMemoryError, Shortage

GIB = 2**30

# Words of libtpu 0.0.42, of XLA's allocators on CPU and GPU in several
# versions, and of NumPy.
SAID = {
  "libtpu, before it compiles": (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
    "for HLO temporaries (46.96G) exceeds available HBM (15.75G).",
    (46.96, 15.75),
  ),
  "libtpu, after it compiled": (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory "
    "in memory space hbm. Used 20.7G of 15.75G hbm. Exceeded hbm capacity by "
    "4.95G.\n\nTotal hbm usage >= 22.47G:\n    reserved        530.00M",
    (20.7, 15.75),
  ),
  "libtpu, at a glance": (
    "RESOURCE_EXHAUSTED: Compilation failure: Aborting compilation early "
    "because it's unlikely to have enough device memory. Requires 1.50T, has "
    "14.49G available. If more detailed logging is desired, set",
    (1536, 14.49),
  ),
  "libtpu, an array": (
    "RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to "
    "allocate 15.65G. That was not possible. There are 512.00M free.; "
    "(0x0x0_HBM0)",
    (15.65, 0.5),
  ),
  "libtpu, a program": (
    "RESOURCE_EXHAUSTED: Error loading program: Attempting to reserve 10.57G "
    "at the bottom of memory. That was not possible. There are 8.51G free, 0B "
    "reserved, and 8.51G reservable.",
    (10.57, 8.51),
  ),
  "GPU": (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4294967296 "
    "bytes.",
    (4, None),
  ),
  "GPU, with a list": (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3221225472 "
    "bytes.\nBufferAssignment OOM Debugging.\nBufferAssignment stats:\n"
    "    parameter allocation:  372.76MiB\n",
    (3, None),
  ),
  "GPU, rounded": (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.25TiB.",
    (1280, None),
  ),
  "GPU, one allocation": (
    "RESOURCE_EXHAUSTED: Failed to allocate request for 3.00GiB (3221225472B) "
    "on device ordinal 0",
    (3, None),
  ),
  "GPU, past the pool": (
    "INTERNAL: CUDA error: failed to allocate 2.00GiB (2147483648 bytes) from "
    "device: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    (2, None),
  ),
  "GPU, a library": ("INTERNAL: CUDNN_STATUS_ALLOC_FAILED", (None, None)),
  "CPU": (
    "RESOURCE_EXHAUSTED: Out of memory allocating 32212254720 bytes.",
    (30, None),
  ),
}

OTHERS = [
  # Memories inside a core.
  "RESOURCE_EXHAUSTED: Shared memory size limit exceeded: requested 73728, "
  "available: 65536",
  "RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 20.00M of "
  "16.00M vmem. Exceeded vmem capacity by 4.00M.",
  "RESOURCE_EXHAUSTED: Received message larger than max (5 vs. 4)",
  "INVALID_ARGUMENT: expected 32 bytes, got 16",
  # A name in a program.
  "INTERNAL: failed to compile" + " add" * 100 + " the_out_of_memory_test",
]


def jax_error(text):
  return jax.errors.JaxRuntimeError(text)


@pytest.mark.parametrize("name", SAID)
def test_what_an_error_says_is_read(name):
  text, in_gib = SAID[name]
  expected = Shortage(*(g and round(g * GIB) for g in in_gib))
  assert out_of_memory.shortage(jax_error(text)) == expected


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_are_none(text):
  assert out_of_memory.shortage(jax_error(text)) is None


def test_words_alone_are_not_enough():
  assert (
    out_of_memory.shortage(ValueError("Out of memory allocating 3")) is None
  )
  # TensorStore's is a ValueError.
  text = SAID["CPU"][0]
  assert out_of_memory.shortage(ValueError(text)) == Shortage(30 * GIB, None)


def test_errors_of_the_host_are_read():
  with pytest.raises(MemoryError) as raised:
    np.zeros(2**58)
  assert out_of_memory.shortage(raised.value) == Shortage(2**61, None)
  bare = MemoryError("std::bad_alloc")
  assert out_of_memory.shortage(bare) == Shortage(None, None)
  no_map = OSError(errno.ENOMEM, "Cannot allocate memory")
  assert out_of_memory.shortage(no_map) == Shortage(None, None)
  assert out_of_memory.shortage(OSError(errno.ENOSPC, "No space")) is None


@pytest.mark.parametrize(
  ("short", "in_all", "expected"),
  [
    ((3 * GIB, GIB), 9 * GIB, "X: 3.00 GiB asked for, 1.00 GiB there"),
    ((None, GIB), 9 * GIB, "X: 1.00 GiB there"),
    (
      (2**20, None),
      9 * GIB,
      "X: 1.0 MiB asked for at once, 9.00 GiB there in all",
    ),
    ((3000 * GIB, None), None, "X: 3,000.00 GiB asked for at once"),
    ((None, None), None, "X"),
  ],
)
def test_a_line_leaves_out_what_nobody_said(short, in_all, expected):
  line = out_of_memory.line(
    "X", Shortage(*short), ["a=1", "b=2"], in_all=in_all
  )
  expected = expected.replace("X", "out of memory in X", 1)
  assert line == f"{expected}; what helps: a=1, b=2."


def test_a_line_has_a_way_out_where_no_key_helps():
  line = out_of_memory.line("X", Shortage(None, None), [])
  assert line.endswith("; what helps: more devices, or some with more memory.")


def test_only_what_can_be_smaller_is_a_way_out():
  assert out_of_memory.smaller("--n", 3072, 4) == ["a smaller --n (now 3,072)"]
  assert out_of_memory.smaller("--n", 4, 4) == []


def test_what_runs_out_is_told():
  with (
    pytest.raises(OutOfMemoryError) as raised,
    out_of_memory.told("the update", lambda: ["k=1"]),
  ):
    raise jax_error(SAID["libtpu, an array"][0])
  assert str(raised.value) == (
    "out of memory in the update: 15.65 GiB asked for, 512.0 MiB there; what "
    "helps: k=1."
  )


def test_other_errors_pass():
  def never():
    raise AssertionError

  with (
    pytest.raises(ZeroDivisionError),
    out_of_memory.told("the update", never),
  ):
    _ = 1 / 0


class Device:
  platform = "gpu"

  def __init__(self, stats):
    self._stats = stats

  def memory_stats(self):
    return self._stats


@pytest.mark.parametrize(
  ("said", "stats", "expected"),
  [
    ("GPU", {"bytes_limit": 75 * GIB}, ", 75.00 GiB there in all"),
    ("GPU", None, ""),
    ("GPU, a library", {"bytes_limit": GIB}, ": 1.00 GiB there in all"),
  ],
)
def test_a_device_says_what_it_has(monkeypatch, said, stats, expected):
  monkeypatch.setattr(jax, "local_devices", lambda: [Device(stats)])
  with pytest.raises(OutOfMemoryError) as raised, out_of_memory.told("X", list):
    raise jax_error(SAID[said][0])
  assert f"{expected}; what helps" in str(raised.value)
  assert expected or str(raised.value).count("GiB") == 1


def test_memory_of_the_host_is_no_device_s(monkeypatch):
  monkeypatch.setattr(
    jax, "local_devices", lambda: [Device({"bytes_limit": 1})]
  )
  text = "RESOURCE_EXHAUSTED: Failed to allocate 2.00GiB (2147483648 bytes) of "
  text += "pinned host memory: out of memory"
  with pytest.raises(OutOfMemoryError) as raised, out_of_memory.told("X", list):
    raise jax_error(text)
  assert "out of memory in X: 2.00 GiB asked for at once; " in str(raised.value)


@pytest.mark.parametrize("which", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_limit_of_a_process_counts(monkeypatch, which):
  infinite = resource.RLIM_INFINITY
  number = getattr(resource, which)
  limits = {number: 2**20}
  monkeypatch.setattr(
    resource, "getrlimit", lambda n: (limits.get(n, infinite), infinite)
  )
  assert host_memory.limit() == 2**20
  limits.clear()
  physical = host_memory.limit()
  assert physical is not None
  assert physical > 2**28
  limits[number] = 2**60  # More than any machine has.
  assert host_memory.limit() == physical


PROGRAM = """
import resource
import jax
import jax.numpy as jnp
import numpy as np
from hrm_jax import console
from hrm_jax.machines import out_of_memory

resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))

def tell(make):
  try:
    with out_of_memory.told("it", lambda: ["less"]):
      jax.block_until_ready(make())
  except console.InputError as error:
    print(error)

tell(lambda: jnp.zeros(2**33))
tell(lambda: jax.jit(lambda x: (x * x[:, None]).sort().sum())(jnp.ones(2**17)))
tell(lambda: np.zeros(2**32))
"""


def test_a_process_that_may_have_no_more_says_so():
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
  )
  limit = min(2**34, host_memory.limit() or 2**34)
  there = f"{out_of_memory.in_words(limit)} there in all; what helps: less."
  # An array, what a program needs in between, and an array of NumPy's.
  assert result.stdout.splitlines() == [
    f"out of memory in it: {size} GiB asked for at once, {there}"
    for size in ("32.00", "64.00", "32.00")
  ], result.stderr

"""Memory that a process keeps, in a process of its own."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
from hrm_jax.machines import host_memory

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

assert host_memory.keep_freed_blocks()
size = 1 << 27
b"x" * size
before = faults()
b"x" * size
print(faults() - before)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc has the settings"
)
def test_a_freed_block_is_not_faulted_in_again():
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
  )
  # 128 MB are 32,768 pages.
  assert int(result.stdout) < 1000

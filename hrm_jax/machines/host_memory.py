"""How this process gets memory from the system, and how much there is.

XLA's CPU backend takes its temporaries from malloc and frees them after every
update. glibc maps and unmaps blocks of that size, so each update faults them
in anew, page by page: 7 to 15 % of its time.
"""

import contextlib
import ctypes
import os
import resource

# The numbers stand in glibc's malloc.h. One arena, because the others are
# bounded in size and fall back on mapping.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_SETTINGS = ((_M_TRIM_THRESHOLD, -1), (_M_MMAP_MAX, 0), (_M_ARENA_MAX, 1))


def keep_freed_blocks() -> bool:
  """Freed memory stays with this process, for its next allocation.

  Call it before JAX makes its devices: threads keep the arena that they have.

  Returns:
    Whether the C library can do so; False elsewhere than on glibc.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return False
  return all(mallopt(name, value) for name, value in _SETTINGS)


def limit() -> int | None:
  """Bytes that this process may have: its own limit, or the machine's memory.

  A container's limit is not asked: beyond it nothing is refused, the system
  kills. None where the system does not tell.
  """
  limits = [
    resource.getrlimit(which)[0]
    for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
  ]
  sizes = [size for size in limits if size != resource.RLIM_INFINITY]
  with contextlib.suppress(ValueError, OSError):
    sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
  return min(sizes, default=None)

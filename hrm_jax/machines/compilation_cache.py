"""Compiled programs on disk, so that a second start need not compile.

JAX keeps them; this says where, and clears away what a killed process left
half-written: JAX would warn of such an entry and compile, at every start, and
never replace it. Process 0 alone writes.

An entry is machine code that gets run. So training keeps its programs in its
own workdir, and commands that people point at others' workdirs keep theirs
with the user.
"""

import os
import pathlib
import zlib

import jax

from hrm_jax.console import log
from hrm_jax.machines import cluster

# Programs that compile faster are not worth a file. Seconds.
MIN_COMPILE_S = 0.2
_DEFAULT_MIN_COMPILE_S = 1.0  # JAX's
_DIRECTORY = "jax_compilation_cache_dir"
_ZLIB_MAGIC = b"\x78"


def of_run(workdir: pathlib.Path) -> pathlib.Path:
  """Where a training run keeps its programs."""
  return pathlib.Path(workdir) / "compilation_cache"


def of_user() -> pathlib.Path | None:
  """Where commands that only read a run keep theirs.

  None for a user whom the system does not know, and who says no HOME: in a
  container, say.
  """
  cache = os.environ.get("XDG_CACHE_HOME")
  if not cache:
    try:
      cache = pathlib.Path.home() / ".cache"
    except RuntimeError:
      return None
  return pathlib.Path(cache) / "hrm_jax" / "compilation_cache"


def use(directory: pathlib.Path | None) -> None:
  """Keeps compiled programs in a directory, unless JAX was told of another.

  JAX_COMPILATION_CACHE_DIR=DIR tells it so; JAX_ENABLE_COMPILATION_CACHE=0
  means none. Call it before anything compiles. A directory that is None or
  cannot be written is a line in the log, and no cache.
  """
  given = getattr(jax.config, _DIRECTORY)
  if given and not os.path.isdir(given):
    return  # A bucket, say.
  if given:
    directory = pathlib.Path(given)
  if directory is None:
    log.warning(
      "warning: compiled programs are not kept: this user has no home "
      "directory; set HOME, XDG_CACHE_HOME or JAX_COMPILATION_CACHE_DIR"
    )
    return
  try:
    if not given:
      directory.mkdir(parents=True, exist_ok=True)
    if cluster.is_first():
      remove_damaged(directory)
  except OSError as error:
    log.warning(f"warning: compiled programs are not kept: {error}")
    return
  if given:
    return
  jax.config.update(_DIRECTORY, str(directory.absolute()))
  name = "jax_persistent_cache_min_compile_time_secs"
  if getattr(jax.config, name) == _DEFAULT_MIN_COMPILE_S:
    jax.config.update(name, MIN_COMPILE_S)


def remove_damaged(directory: pathlib.Path) -> None:
  """Deletes the entries that are not whole, by their checksum.

  Raises:
    OSError: one can be neither read nor deleted.
  """
  for entry in sorted(directory.glob("*-cache")):
    if not _is_whole(entry.read_bytes()):
      entry.unlink(missing_ok=True)
      log.info(f"{entry}: deleted, it was damaged; it will be compiled anew")


def _is_whole(content: bytes) -> bool:
  """Whether zlib takes it; what another compressor wrote is left to JAX."""
  if content and not content.startswith(_ZLIB_MAGIC):
    return True
  try:
    zlib.decompress(content)
  except zlib.error:
    return False
  return True

"""A disk that runs full while a run saves to it."""

import contextlib
import os
import pathlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from hrm_jax import saved_steps
from tests.faults import reference
from tests.faults.processes import OBSERVED, Child, Starter

_SIZE = 8 * 2**20

# What one file may have where there is no file system to fill: enough for
# what a run says, too little for its arrays.
_LARGEST_FILE = 2**17


def run(starter: Starter) -> dict[str, Any]:
  """Fills the disk at the first sign of a save, for the rest of the run.

  Then makes room, and trains to the end.

  Returns:
    `tmpfs`, whether it was a real file system, not a limit to the size of the
    files; `cut_off`, whether a save had begun when it was full; `not_saved`,
    updates that the next run had to make again; `problems` with how the run
    ended, was restored and went on: none.
  """
  want = reference.train(starter, 2)
  mount = starter.scratch / "small"
  mount.mkdir()
  with _tmpfs(mount) as is_mounted:
    workdir = mount / "run"
    directory = saved_steps.directory_of(workdir)
    flags = (*want.flags, "checkpoint_interval=4")
    child = starter.train(
      workdir, *flags, module=OBSERVED, environment={"FAULTS_PAUSE": "0.1"}
    )
    child.until(lambda: _is_saving(directory, 8) or _is_saved(directory, 12))
    make_room = _fill(mount) if is_mounted else _limit(child)
    code, said = child.wait(), child.stderr
    newest = saved_steps.choose_step(directory)
    make_room()
    result = child.result
    saved = result.get("saved_step")
    again = starter.train(workdir, *flags)
    again.wait()
    checks = {
      f"it exits with {code}": code == 1,
      # Orbax and TensorStore may complain besides, of callbacks come late.
      f"it ends with: {said[-2000:]}": (
        f"\nerror: update {want.last_step} is not saved; the newest" in said
      ),
      f"it says: {said[:2000]}": "not saved" in said,
      f"it says that {saved} is saved": saved == newest,
      f"{newest} is whole": newest is not None and newest >= 4,
      "it made all updates": result.get("step") == want.last_step,
      f"it goes on: {again.stderr[-2000:]}": again.code == 0,
      "it goes on there": f"at update {newest}" in again.stderr,
    }
    same = want.matches(starter, workdir)
    checks[f"it ends with {same}"] = all(same.values())
  return {
    "tmpfs": is_mounted,
    "cut_off": ": not saved: " in said,
    "not_saved": want.last_step - (newest or 0),
    "problems": [what for what, is_so in checks.items() if not is_so],
  }


def _is_saving(directory: pathlib.Path, step: int) -> bool:
  """Whether that step, or a later one, is half-written."""
  names = saved_steps.leftovers(directory)
  return any(int(n.split(".")[0]) >= step for n in names if n[0].isdecimal())


def _is_saved(directory: pathlib.Path, step: int) -> bool:
  """Whether that step, or a later one, is there: the other was missed."""
  return max(saved_steps.all_steps(directory), default=0) >= step


@contextlib.contextmanager
def _tmpfs(mount: pathlib.Path) -> Iterator[bool]:
  """A small file system there, where this user may make one."""
  options = ["-t", "tmpfs", "-o", f"size={_SIZE}", "none", str(mount)]
  is_mounted = bool(shutil.which("mount")) and not (
    subprocess.run(["mount", *options], capture_output=True).returncode
  )
  try:
    yield is_mounted
  finally:
    if is_mounted:
      subprocess.run(["umount", str(mount)], check=True)


def _fill(mount: pathlib.Path) -> Callable[[], None]:
  """Leaves no byte free; returns what undoes it."""
  filler = mount / "filler"
  with filler.open("wb", buffering=0) as file:
    # At once, before the save is done; then what became free meanwhile.
    for size in (shutil.disk_usage(mount).free, *[2**12] * 100):
      with contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
  return filler.unlink


def _limit(child: Child) -> Callable[[], None]:
  """Lets no file of a process grow further; it is not to be undone."""
  resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (_LARGEST_FILE,) * 2)
  return lambda: None

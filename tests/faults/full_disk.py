"""A disk that runs full while a run saves to it."""

import contextlib
import os
import pathlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from hrm_jax.checkpoint import choice, saved_steps
from tests.faults import reference
from tests.faults.processes import OBSERVED, Child, Starter

_SIZE = 8 * 2**20

# The save that is cut off, and how often there is one.
_CUT_OFF, _INTERVAL = 8, 4

# What one file may have where there is no file system to fill: enough for
# what a run says, too little for its arrays.
_LARGEST_FILE = 2**17


def run(starter: Starter) -> dict[str, Any]:
  """Fills the disk when a save has found room, for the rest of the run.

  Then makes room, and trains to the end.

  Returns:
    `tmpfs`, whether it was a real file system, not a limit to the size of the
    files; `not_saved`, updates that the next run had to make again; `problems`
    with how the run ended, was restored and went on: none.
  """
  want = reference.train(starter, 2)
  mount = starter.scratch / "small"
  mount.mkdir()
  with _tmpfs(mount) as is_mounted:
    workdir = mount / "run"
    flags = (*want.flags, f"checkpoint_interval={_INTERVAL}")
    go_on = starter.scratch / "small.full"
    hold = {"FAULTS_HOLD": f"save@{_CUT_OFF}", "FAULTS_GO_ON": str(go_on)}
    child = starter.train(workdir, *flags, module=OBSERVED, environment=hold)
    child.until(lambda: f"held save@{_CUT_OFF}" in child.stderr)
    make_room = _fill(mount) if is_mounted else _limit(child)
    go_on.touch()
    code, said = child.wait(), child.stderr
    newest = choice.choose_step(saved_steps.directory_of(workdir))
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
      f"it says: {said[:2000]}": f"/{_CUT_OFF}: not saved: " in said,
      f"it says that {saved} is saved": saved == newest,
      f"{newest} is whole": newest == _CUT_OFF - _INTERVAL,
      "it made all updates": result.get("step") == want.last_step,
      f"it goes on: {again.stderr[-2000:]}": again.code == 0,
      "it goes on there": f"at update {newest}" in again.stderr,
    }
    same = want.matches(starter, workdir)
    checks[f"it ends with {same}"] = all(same.values())
  return {
    "tmpfs": is_mounted,
    "not_saved": want.last_step - (newest or 0),
    "problems": [what for what, is_so in checks.items() if not is_so],
  }


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
    # All at once; then what became free meanwhile.
    for size in (shutil.disk_usage(mount).free, *[2**12] * 100):
      with contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
  return filler.unlink


def _limit(child: Child) -> Callable[[], None]:
  """Lets no file of a process grow further; it is not to be undone."""
  resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (_LARGEST_FILE,) * 2)
  return lambda: None

"""SIGKILL at random moments, most of them while something is being saved."""

import pathlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from hrm_jax.checkpoint import saved_steps
from tests.faults import hits, reference
from tests.faults.processes import OBSERVED, Child, Starter

MOMENTS = ("starting", "any", "saving", "no manifest", "deleting")


def run(starter: Starter, count: int, rng: random.Random) -> dict[str, Any]:
  """Trains one run to its end, with so many kills on the way.

  Returns:
    `kills`; `failed_restarts`, starts that ended otherwise than by a kill or
    well; whether the run is the uninterrupted one; `moments`, how many kills
    were aimed at what; `left_half_written`, after how many there was half a
    save or half a deletion on disk; `killed_at`, the newest step then.
  """
  want = reference.train(starter, hits.iterations(count))
  workdir = starter.scratch / "killed"
  directory = saved_steps.directory_of(workdir)
  moments = [MOMENTS[i % len(MOMENTS)] for i in range(count)]
  rng.shuffle(moments)

  killed_at, left_half_written, failed = [], 0, []
  code = None
  for left, moment in zip(range(count, 0, -1), moments, strict=True):
    before = _half_written(directory)
    # A kill that comes late finds it before its last update.
    hold = {"FAULTS_HOLD": f"update@{want.last_step}"}
    child = _train(starter, workdir, want.flags, rng, hold)
    target = hits.target(_newest(directory), want.last_step, left, rng)
    _wait_for(child, moment, directory, target, rng)
    child.signal(signal.SIGKILL)
    code = child.wait()
    if code == 0:
      break
    if code != -signal.SIGKILL:
      failed.append(f"exit code {code}: {child.stderr[-2000:]}")
      continue
    killed_at.append(_newest(directory))
    left_half_written += bool(_half_written(directory) - before)
  if code != 0:
    child = _train(starter, workdir, want.flags, rng)
    if (code := child.wait()) != 0:
      failed.append(f"exit code {code}: {child.stderr[-2000:]}")
  same = want.matches(starter, workdir) if code == 0 else reference.NOTHING
  problems = [f"{what} is not so" for what, is_so in same.items() if not is_so]
  if len(killed_at) < count:
    problems.append(f"expected {count} kills, got {len(killed_at)}")
  return {
    "kills": len(killed_at),
    "failed_restarts": len(failed),
    **same,
    "moments": Counter(moments[: len(killed_at)]),
    "left_half_written": left_half_written,
    "steps": want.last_step,
    "killed_at": killed_at,
    "problems": problems + failed,
  }


def _train(
  starter: Starter,
  workdir: pathlib.Path,
  flags: tuple,
  rng: random.Random,
  hold: Mapping[str, str] | None = None,
) -> Child:
  # How often a run saves is no part of what it computes.
  interval = f"checkpoint_interval={rng.randint(1, 3)}"
  return starter.train(
    workdir,
    *flags,
    interval,
    module=OBSERVED,
    # Without pauses it is over in no time.
    environment={"FAULTS_PAUSE": "0.03", **(hold or {})},
  )


def _wait_for(
  child: Child,
  moment: str,
  directory: pathlib.Path,
  target: int,
  rng: random.Random,
) -> None:
  if moment == "starting":
    time.sleep(rng.uniform(0, 4))
    return
  happened: dict[str, Callable[[], bool]] = {
    "any": lambda: _newest(directory) >= target,
    "saving": lambda: any(
      ".orbax-checkpoint-tmp" in name and int(name.split(".")[0]) >= target
      for name in _names(directory)
    ),
    "no manifest": lambda: any(
      name.isdecimal()
      and int(name) >= target
      and not (directory / name / "manifest.json").exists()
      for name in _names(directory)
    ),
    "deleting": lambda: (
      _newest(directory) >= target
      and any(name.endswith(".removed") for name in _names(directory))
    ),
  }
  child.until(
    # The others are short, and may be missed.
    lambda: happened[moment]() or _newest(directory) >= target + 3
  )
  if moment == "any":
    time.sleep(rng.uniform(0, 0.3))
  elif moment == "saving":
    time.sleep(rng.uniform(0, 0.02))


def _names(directory: pathlib.Path) -> list[str]:
  try:
    return [path.name for path in directory.iterdir()]
  except FileNotFoundError:
    return []


def _newest(directory: pathlib.Path) -> int:
  """The newest step that is there, whole or not; 0 without any."""
  return max((int(n) for n in _names(directory) if n.isdecimal()), default=0)


def _half_written(directory: pathlib.Path) -> set[tuple[str, int]]:
  """What is there of saves and deletions cut short: names, and since when."""
  steps = set(saved_steps.all_steps(directory))
  parts = map(str, steps - set(saved_steps.complete_steps(directory)))
  names = [*saved_steps.leftovers(directory), *parts]
  return {(name, (directory / name).stat().st_ino) for name in names}

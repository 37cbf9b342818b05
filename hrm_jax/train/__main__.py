"""Trains an HRM.

example: python -m hrm_jax.train --config=configs/sudoku.py:mini \\
             --workdir=runs/sudoku-mini

A run resumes from its workdir by default: from the newest checkpoint whose
digests are right, and it names the bad file of each newer one. Any key of the
configuration can be overridden: --config.lr=1e-4
--config.model.hidden_size=256; hrm_jax/config.py explains them all.
TensorBoard reads WORKDIR/tensorboard. The last line of stdout is one JSON
object.
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags as ml_config_flags

from hrm_jax import console
from hrm_jax.console import InputError, RunError, log
from hrm_jax.machines import (
  cluster,
  compilation_cache,
  host_memory,
  preemption,
)
from hrm_jax.train import config_flags
from hrm_jax.train.loop import train

CONFIG = ml_config_flags.DEFINE_config_file(
  "config", None, "Configuration, FILE or FILE:VARIANT.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the run: checkpoints, logs, results."
)
COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "HOST:PORT where process 0 listens: several processes without a cluster "
  "manager.",
)
NUM_PROCESSES = flags.DEFINE_integer("num-processes", None, "Of the run.")
PROCESS_ID = flags.DEFINE_integer("process-id", None, "Of this one, from 0.")
HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
  "heartbeat-timeout",
  cluster.HEARTBEAT_TIMEOUT,
  "Seconds of silence after which a process counts as lost, and the others "
  "end.",
)
STRICT_RESTORE = flags.DEFINE_bool(
  "strict-restore",
  False,
  "Refuse to resume from an older checkpoint when the newest is damaged.",
)
flags.mark_flags_as_required(["config", "workdir"])


def make_workdir(workdir: pathlib.Path) -> None:
  """Makes the directory of the run, if it is not there.

  Raises:
    InputError: it cannot be.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
      f"--workdir={workdir}: cannot be made ({error.strerror})."
    ) from None


def main(argv: list[str]) -> None:
  """The command line."""
  host_memory.keep_freed_blocks()
  if len(argv) > 1:
    raise InputError(f"unexpected argument '{argv[1]}'.")
  cluster.join(
    COORDINATOR.value,
    NUM_PROCESSES.value,
    PROCESS_ID.value,
    heartbeat_timeout=HEARTBEAT_TIMEOUT.value,
  )
  console.quiet_unless(cluster.is_first())
  workdir = pathlib.Path(WORKDIR.value)
  with cluster.shared_fate():
    make_workdir(workdir)
    compilation_cache.use(compilation_cache.of_run(workdir))
    result = train(CONFIG.value, workdir, strict_restore=STRICT_RESTORE.value)
  if cluster.is_first():
    console.print_json(result)
  if result["saved_step"] != result["step"]:
    raise RunError(
      f"update {result['step']} is not saved; the newest checkpoint is of "
      f"update {result['saved_step'] or 0}"
    )
  if result["ended"] == "preempted":
    log.warning(
      f"preempted; update {result['step']:,} is saved, and the same command "
      f"goes on with it (exit code {preemption.EXIT_CODE})"
    )
    sys.exit(preemption.EXIT_CODE)


if __name__ == "__main__":
  console.run(lambda: config_flags.run(main, __doc__, CONFIG))

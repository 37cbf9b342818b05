"""A real Slurm of one node on this machine, which ends with its user.

The daemons live in a directory and on ports of their own, so several can run
at a time, and beside a Slurm of the machine. The node pretends to have four
GPUs, so that jobs may ask for them as on a cluster. As a program it starts
one, runs a command on it, and exits with that command's code:

  python -m tests.one_node_slurm sbatch --wait --wrap='srun -n 2 hostname'
"""

import argparse
import contextlib
import functools
import os
import pathlib
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from tests import ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

# How long Slurm keeps a requeued job waiting, in seconds: what it calls the
# life of a credential. This is its default.
REQUEUE_SECONDS = 120

# Where Debian keeps daemons; not on every user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

_SLURM_CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_seconds}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
# Looks for jobs that may start more often than once in half a minute.
SchedulerParameters=bf_interval=2,sched_interval=2
# JAX makes its port from the number of the job: no other Slurm's here.
FirstJobId={first_job}
GresTypes=gpu
# More processors and GPUs than there may be.
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=500 Gres=gpu:4
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
  """Why none can be started here; empty if one can."""
  absent = [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]
  if absent:
    return f"no Slurm on this machine: {', '.join(absent)} not found"
  return "" if os.geteuid() == 0 else "starting a slurmd takes root"


class Slurm:
  """A running one.

  Attributes:
    environment: what finds it, besides the caller's own variables.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

  def ask(self, *command: str, **variables: str) -> str:
    """What a program of Slurm prints; RuntimeError if it fails.

    The variables are set for it besides the caller's own.
    """
    done = subprocess.run(
      command,
      env=os.environ | self.environment | variables,
      capture_output=True,
      text=True,
      check=False,
      timeout=60,
    )
    if done.returncode:
      raise RuntimeError(f"{command}: {done.stdout}{done.stderr}{self.logs()}")
    return done.stdout

  def job(self, number: int) -> dict[str, str]:
    """What `scontrol show job` tells, by its names."""
    told = self.ask("scontrol", "--oneliner", "show", "job", str(number))
    return dict(re.findall(r"(\S+?)=(\S*)", told))

  def until(self, happened: Callable[[], object], seconds: float) -> None:
    """Waits until something has happened; TimeoutError if it does not."""
    end = time.monotonic() + seconds
    while not happened():
      if time.monotonic() > end:
        raise TimeoutError(f"not within {seconds:.0f} s; {self.logs()}")
      time.sleep(0.2)

  def logs(self) -> str:
    """The end of what each daemon has said."""
    return "".join(
      f"\n{path.name}: {path.read_text(errors='replace')[-2000:]}"
      for path in sorted(self._folder.glob("*.out"))
    )

  def processes(self) -> list[int]:
    """The numbers of all that belong to it: daemons, jobs, their children."""
    mark = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
      # Many end while one looks.
      with contextlib.suppress(OSError):
        if mark in (folder / "environ").read_bytes().split(b"\0"):
          found.append(int(folder.name))
    return sorted({*found} - {os.getpid()})


@contextlib.contextmanager
def running(*, requeue_seconds: int = REQUEUE_SECONDS) -> Iterator[Slurm]:
  """Starts one; neither a process nor a file of it outlives the block.

  Args:
    requeue_seconds: how long a requeued job waits before it may start again.

  Raises:
    TimeoutError: its node does not come up.
  """
  daemons: list[subprocess.Popen] = []
  # Not in a folder of pytest's: the path of a socket has to be short.
  with tempfile.TemporaryDirectory(prefix="slurm_") as name:
    slurm = Slurm(pathlib.Path(name))
    _configure(pathlib.Path(name), requeue_seconds)
    try:
      _start_all(pathlib.Path(name), slurm, daemons)
      yield slurm
    finally:
      _kill(slurm)
      for daemon in daemons:
        daemon.wait()


def _configure(folder: pathlib.Path, requeue_seconds: int) -> None:
  for name in ("state", "spool"):
    (folder / name).mkdir()
  for number in range(4):
    (folder / f"gpu{number}").touch()
  (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
  key = folder / "munge.key"
  key.touch(mode=0o600)
  key.write_bytes(random.randbytes(1024))
  controller_port, node_port = ports.free(2)
  (folder / "slurm.conf").write_text(
    _SLURM_CONF.format(
      host=platform.node().partition(".")[0],
      controller_port=controller_port,
      node_port=node_port,
      folder=folder,
      requeue_seconds=requeue_seconds,
      first_job=random.randrange(1, 60_000),
    )
  )


def _start_all(folder: pathlib.Path, slurm: Slurm, daemons: list) -> None:
  start = functools.partial(_start, daemons, slurm, folder)
  munge = [
    f"--{name}={folder}/munge.{name.partition('-')[0]}"
    for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")
  ]
  # It would have a folder that everybody may enter, and this one is ours.
  start("munged", "--foreground", "--force", *munge)
  slurm.until((folder / "munge.socket").exists, 20)
  conf = str(folder / "slurm.conf")
  start("slurmctld", "-D", "-f", conf)
  start("slurmd", "-D", "-N", "localhost", "-f", conf)
  slurm.until(lambda: _node_is_idle(slurm), 60)


def _start(daemons: list, slurm: Slurm, folder, *command: str) -> None:
  """Starts a daemon, in a session of its own: no Ctrl-C reaches it."""
  program = shutil.which(command[0], path=_PATH)
  assert program
  with (folder / f"{command[0]}.out").open("wb") as log:
    daemons.append(
      subprocess.Popen(
        [program, *command[1:]],
        env={**os.environ, **slurm.environment, "PATH": _PATH},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )
    )


def _node_is_idle(slurm: Slurm) -> bool:
  try:
    return "State=IDLE " in slurm.ask("scontrol", "-o", "show", "node")
  except RuntimeError:  # The controller does not listen yet.
    return False


def _kill(slurm: Slurm) -> None:
  """Kills all of its processes; new ones may come while it looks."""
  while pids := slurm.processes():
    for pid in pids:
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)


def main() -> None:
  """The program."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("command", nargs=argparse.REMAINDER)
  command = parser.parse_args().command
  if not command:
    parser.error("expected a command")
  if why := missing():
    sys.exit(f"error: {why}")
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  with running() as slurm:
    code = subprocess.call(command, env=os.environ | slurm.environment)
  sys.exit(code)


if __name__ == "__main__":
  main()

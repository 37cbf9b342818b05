"""The signals that ask a process to end.

SIGTERM comes from schedulers and SIGINT from Ctrl-C. SIGHUP comes when the
terminal is closed. SIGUSR1 and SIGUSR2 are what Slurm scripts ask for ahead of
a time limit (`#SBATCH --signal=USR1@120`), and what Grid Engine sends. SIGXCPU
comes with a limit on CPU time (`ulimit -St`), every second from then on.
"""

import signal

# Windows does not have them all.
_POLITE = [
  getattr(signal, name)
  for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
  if hasattr(signal, name)
]


def that_ask() -> list[signal.Signals]:
  """Signals that ask, and can come several times for one reason.

  A closed terminal sends SIGHUP twice: the kernel does, and the shell does. So
  the second one says no more than the first. One that is ignored stays so:
  that is all that `nohup` does.
  """
  return [n for n in _POLITE if signal.getsignal(n) != signal.SIG_IGN]


def that_end() -> list[signal.Signals]:
  """All signals that end a process: those that ask, SIGTERM and SIGINT."""
  return [signal.SIGTERM, signal.SIGINT, *that_ask()]

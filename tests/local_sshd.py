"""A real sshd on this machine, which ends with its user.

It has a key, a port and a configuration of its own, listens on 127.0.0.1 only
and lets in nobody but who has the key that was made for it.
"""

import contextlib
import getpass
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

from tests import ports

# Where Debian keeps daemons; not on every user's PATH.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

_SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
# The folder may be of anybody, such as in /tmp.
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""

_SSH_CONFIG = """\
# What a user has in ~/.ssh/config.
Host *
  Port {port}
  User {user}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


def missing() -> str:
  """Why none can be started here; empty if one can."""
  absent = [
    name
    for name in ("sshd", "ssh", "ssh-keygen")
    if not shutil.which(name, path=_PATH)
  ]
  return f"no OpenSSH here: {', '.join(absent)} not found" if absent else ""


@contextlib.contextmanager
def running(**hosts: int) -> Iterator[str]:
  """Starts one; yields a PATH on which `ssh` is the real one that finds it.

  Args:
    **hosts: other names that this ssh knows, each with a port of this machine.
      All names that are not among them lead to the sshd.

  Raises:
    RuntimeError: it ends at once, or does not listen within 20 s.
  """
  with tempfile.TemporaryDirectory(prefix="sshd_") as name:
    folder = pathlib.Path(name)
    path = _configure(folder, hosts)
    with _daemon(folder) as daemon:
      _until_it_lets_in(daemon, path, folder)
      yield path


def _configure(folder: pathlib.Path, hosts: dict[str, int]) -> str:
  """Makes keys and files; returns the PATH."""
  (port,) = ports.free(1)
  for name in ("host_key", "user_key"):
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", ""]
    subprocess.run([*keygen, "-f", str(folder / name)], check=True)
  own = {"port": port, "folder": folder, "user": getpass.getuser()}
  (folder / "sshd_config").write_text(_SSHD_CONFIG.format(**own))
  # Of two that match ssh takes the first.
  others = "".join(
    f"Host {name}\n  HostName 127.0.0.1\n  Port {other}\n"
    for name, other in hosts.items()
  )
  (folder / "ssh_config").write_text(others + _SSH_CONFIG.format(**own))
  bin_folder = folder / "bin"
  bin_folder.mkdir()
  ssh = bin_folder / "ssh"
  words = ["exec", str(shutil.which("ssh")), "-F", str(folder / "ssh_config")]
  ssh.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
  ssh.chmod(0o755)
  return f"{bin_folder}{os.pathsep}{os.environ['PATH']}"


@contextlib.contextmanager
def _daemon(folder: pathlib.Path) -> Iterator[subprocess.Popen]:
  sshd = str(shutil.which("sshd", path=_PATH))
  if os.geteuid() == 0:
    # It asks for this empty directory; Debian makes it when the service starts.
    pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
  with (folder / "log").open("wb") as log:
    daemon = subprocess.Popen(
      [sshd, "-D", "-e", "-f", str(folder / "sshd_config")],
      stdin=subprocess.DEVNULL,
      stderr=log,
      start_new_session=True,
    )
  try:
    yield daemon
  finally:
    daemon.terminate()
    daemon.wait()


def _until_it_lets_in(daemon, path: str, folder: pathlib.Path) -> None:
  end = time.monotonic() + 20
  command = ["ssh", "-o", "BatchMode=yes", "127.0.0.1", "exit 7"]
  while daemon.poll() is None and time.monotonic() < end:
    done = subprocess.run(
      ["env", f"PATH={path}", *command], capture_output=True, text=True
    )
    if done.returncode == 7:
      return
    time.sleep(0.1)
  raise RuntimeError(f"{done.stderr}{(folder / 'log').read_text()}")

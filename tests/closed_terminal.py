"""Runs a command on a terminal that closes; exits with its exit code.

usage: python -m tests.closed_terminal PATTERN FILE COMMAND ...

The terminal closes when what the command has said matches PATTERN, a regular
expression; then FILE is made.
"""

import fcntl
import os
import pathlib
import pty
import re
import struct
import sys
import termios
import time


def main() -> None:
  """The command line."""
  pattern, file, *command = sys.argv[1:]
  pid, terminal = pty.fork()
  if pid == 0:
    os.execv(command[0], command)
  size = struct.pack("4H", 24, 80, 0, 0)  # So that there is room for a bar.
  fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
  said = b""
  while not re.search(pattern.encode(), said):
    said += os.read(terminal, 4096)
  time.sleep(0.5)  # Whoever has said it should be past saying it.
  os.close(terminal)
  pathlib.Path(file).touch()
  _, status = os.waitpid(pid, 0)
  sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
  main()

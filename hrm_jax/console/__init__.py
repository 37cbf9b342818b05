"""What a person at the terminal sees: log lines, progress, one-line errors.

Logs and progress go to stderr, so that the last line of stdout can be one
JSON object for the next program.
"""

from hrm_jax.console.command import ArgumentParser, as_json, print_json, run
from hrm_jax.console.counted import counted
from hrm_jax.console.errors import (
  InputError,
  RunError,
  check_least,
  exit_code,
  one_line,
  printable,
)
from hrm_jax.console.logs import log, quiet_unless, set_up_logging
from hrm_jax.console.paths import expand_home, path
from hrm_jax.console.pen import Pen
from hrm_jax.console.progress_bar import Progress, progress

__all__ = [
  "ArgumentParser",
  "InputError",
  "Pen",
  "Progress",
  "RunError",
  "as_json",
  "check_least",
  "counted",
  "exit_code",
  "expand_home",
  "log",
  "one_line",
  "path",
  "print_json",
  "printable",
  "progress",
  "quiet_unless",
  "run",
  "set_up_logging",
]

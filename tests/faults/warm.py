"""A process that has imported everything, and forks into commands.

Starting one of a hundred runs takes a fork and no import. It reads requests
from stdin, one JSON object a line, and answers each with one:

  {"module", "arguments", "environment", "config", "stdout", "stderr"}
      starts `python -m module`, as the leader of a process group; answers
      {"pid"}. "config" is for jax.config: its environment was read already.
  {"wait": pid}  answers {"code"}: as in `subprocess`, null while it runs

It has one thread and no JAX backend, so forking is safe; see `processes`.
"""

import importlib
import json
import os
import runpy
import sys
from typing import Any

# What hrm_jax.train imports.
_IMPORTED = ("hrm_jax.train.config_flags", "hrm_jax.train.loop")


def serve() -> dict[str, Any] | None:
  """Answers requests to the end; in each fork it returns the fork's own."""
  for line in iter(sys.stdin.readline, ""):
    request = json.loads(line)
    if "wait" in request:
      answer = {"code": _exit_code(request["wait"])}
    else:
      pid = os.fork()
      if not pid:
        return request
      answer = {"pid": pid}
    print(json.dumps(answer), flush=True)
  return None


def _exit_code(pid: int) -> int | None:
  ended, status = os.waitpid(pid, os.WNOHANG)
  return os.waitstatus_to_exitcode(status) if ended else None


def become(request: dict[str, Any]) -> None:
  """Turns this process into the command of a request."""
  import jax

  os.setpgid(0, 0)
  for stream, path in enumerate(
    (os.devnull, request["stdout"], request["stderr"])
  ):
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if stream else os.O_RDONLY
    os.dup2(os.open(path, flags), stream)
  os.environ.update(request["environment"])
  for name, value in request["config"].items():
    jax.config.update(name, value)
  sys.argv = [request["module"], *request["arguments"]]
  runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
  for name in _IMPORTED:
    importlib.import_module(name)
  assert len(os.listdir("/proc/self/task")) == 1, "forking needs one thread"
  mine = serve()
  if mine:
    become(mine)

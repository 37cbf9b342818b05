"""Ports of this machine on which nothing listens."""

import contextlib
import socket


def free(count: int) -> list[int]:
  """So many different ones; who wants one should take it soon."""
  with contextlib.ExitStack() as held:
    servers = [
      held.enter_context(socket.create_server(("127.0.0.1", 0)))
      for _ in range(count)
    ]
    return [server.getsockname()[1] for server in servers]

"""Serves the page, and answers what is typed there; for one person.

Whoever asks must know the token in the page's address. A page of another origin
cannot ask even so: its Origin is refused, and so is a Host that is not ours,
which is how a name that resolves to this machine would come. Requests are small
and few: see the constants.
"""

import http.server
import itertools
import json
import secrets
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from hrm_jax.console import InputError, log

MOST_BYTES = 64 * 1024  # of a request's body
MOST_CONNECTIONS = 16
MOST_SOLVING = 4  # they take turns
TIMEOUT_S = 10.0  # for a client that sends nothing
HEADER = "X-Token"

Solve = Callable[[str], Iterator[dict[str, Any]]]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Server(http.server.ThreadingHTTPServer):
  """Listens as soon as it is made; after `show`, `serve_forever` answers.

  Args:
    host: the address to listen on.
    port: 0 takes a free one.

  Attributes:
    url: of the page, with its token.

  Raises:
    InputError: the address is not to be had.
  """

  daemon_threads = True

  def __init__(self, *, host: str, port: int):
    if ":" in host:
      self.address_family = socket.AF_INET6
    self.page = b""
    self.solve: Solve | None = None
    self.token = secrets.token_urlsafe(16)
    self.solving = threading.BoundedSemaphore(MOST_SOLVING)
    self._open = threading.BoundedSemaphore(MOST_CONNECTIONS)
    try:
      super().__init__((host, port), _Handler)
    except (OSError, OverflowError) as error:
      raise InputError(
        f"--host={host} --port={port}: cannot listen there ({error}); "
        "--port=0 takes a free one."
      ) from None
    self._host = host
    at = f"[{host}]" if ":" in host else host
    self.url = f"http://{at}:{self.server_port}/?token={self.token}"

  def show(self, page: str, solve: Solve | None) -> None:
    """Says what is served.

    Args:
      page: the HTML.
      solve: from text to what the page shows of it, object by object; raises
        an InputError instead of the first. None: nothing can be typed.
    """
    self.page, self.solve = page.encode("utf-8"), solve

  def knows_host(self, header: str | None) -> bool:
    """Whether a request's Host is ours; any is where we listen to all."""
    if self._host not in _LOOPBACK:
      return header is not None
    names = {f"[{n}]" if ":" in n else n for n in _LOOPBACK}
    return header in {f"{name}:{self.server_port}" for name in names}

  def process_request(self, request: Any, client_address: Any) -> None:
    """Refuses a connection too many, before it gets a thread."""
    if not self._open.acquire(blocking=False):
      self.shutdown_request(request)
      return
    super().process_request(request, client_address)

  def process_request_thread(self, request: Any, client_address: Any) -> None:
    """Answers a connection, and makes room for another."""
    try:
      super().process_request_thread(request, client_address)
    finally:
      self._open.release()

  def handle_error(self, request: Any, client_address: Any) -> None:
    """A client that has gone is no news; anything else is a line."""
    error = sys.exc_info()[1]
    if not isinstance(error, OSError):
      log.exception("error: a request failed")


class _Handler(http.server.BaseHTTPRequestHandler):
  server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
  timeout = TIMEOUT_S
  disable_nagle_algorithm = True  # A segment does not wait for the next one.
  server_version, sys_version = "hrm_jax", ""

  def do_GET(self) -> None:
    """The page."""
    try:
      url = urllib.parse.urlsplit(self.path)
    except ValueError:
      self._say(HTTPStatus.BAD_REQUEST, "that is no address")
      return
    given = urllib.parse.parse_qs(url.query).get("token", [""])[0]
    if not self._is_welcome(given):
      return
    if url.path != "/":
      self._say(HTTPStatus.NOT_FOUND, "there is only /")
      return
    self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

  def do_POST(self) -> None:
    """Solves the puzzles in the body, which is text in UTF-8.

    The answer is a JSON object a line, as they come; the end of the connection
    ends it. What goes wrong after the first line is a last one.
    """
    if not self._is_welcome(self.headers.get(HEADER, "")):
      return
    if self.path != "/solve" or self.server.solve is None:
      self._say(HTTPStatus.NOT_FOUND, "there is only /solve")
      return
    length = self.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdigit()):
      self._say(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
      return
    if len(length) > 9 or int(length) > MOST_BYTES:
      self._say(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"expected at most {MOST_BYTES:,} bytes, got {length:.20}",
      )
      return
    # Read first: who sends slowly must not keep others from being answered.
    text = self.rfile.read(int(length)).decode("utf-8", errors="replace")
    if not self.server.solving.acquire(blocking=False):
      self._say(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{MOST_SOLVING} puzzles are being solved; try again",
      )
      return
    try:
      self._send_lines(self.server.solve(text))
    finally:
      self.server.solving.release()

  def _send_lines(self, values: Iterator[dict[str, Any]]) -> None:
    try:
      first = next(values)
    except InputError as error:
      self._say(HTTPStatus.BAD_REQUEST, " ".join(str(error).split()))
      return
    self._send_head(HTTPStatus.OK, "application/x-ndjson")
    try:
      for value in itertools.chain([first], values):
        self.wfile.write(_as_json(value) + b"\n")
    except OSError:  # The client has gone.
      raise
    except Exception:
      line = "the network failed at this puzzle; the terminal says how"
      self.wfile.write(_as_json({"error": line}) + b"\n")
      raise

  def _is_welcome(self, token: str) -> bool:
    """Whether the request is from our page; answers it if it is not."""
    host, origin = self.headers.get("Host"), self.headers.get("Origin")
    if not self.server.knows_host(host):
      why = "this Host is not served"
    elif origin is not None and origin != f"http://{host}":
      why = "another Origin is not served"
    elif not secrets.compare_digest(
      token.encode("utf-8"), self.server.token.encode("utf-8")
    ):
      why = "the address lacks its token; it stands in the terminal"
    else:
      return True
    self._say(HTTPStatus.FORBIDDEN, why)
    return False

  def _say(self, status: HTTPStatus, line: str) -> None:
    self._send(status, "application/json", _as_json({"error": line}))

  def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
    self._send_head(status, kind, len(data))
    self.wfile.write(data)

  def _send_head(
    self, status: HTTPStatus, kind: str, length: int | None = None
  ) -> None:
    self.send_response(status)
    for name, value in (
      ("Content-Type", kind),
      ("Cache-Control", "no-store"),
      ("Referrer-Policy", "no-referrer"),  # The address holds the token.
      ("X-Content-Type-Options", "nosniff"),
      ("X-Frame-Options", "DENY"),
      ("Cross-Origin-Resource-Policy", "same-origin"),
    ):
      self.send_header(name, value)
    if length is not None:
      self.send_header("Content-Length", str(length))
    self.end_headers()

  def log_message(self, format: str, *args: Any) -> None:
    """Says nothing of requests: their addresses hold the token."""


def _as_json(value: dict[str, Any]) -> bytes:
  return json.dumps(value, allow_nan=False).encode("utf-8")

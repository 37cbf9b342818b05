"""Who may ask the viewer's server, and how much."""

import base64
import http.client
import json
import socket
import threading
import urllib.parse
import zlib

import numpy as np
import pytest

from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.data import sudoku
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question
from hrm_jax.view import live, server
from hrm_jax.view.recording import Recording
from tests.test_solve import OTHER, PUZZLE


class Asking:
  """A client of a server that runs in a thread."""

  def __init__(self, served):
    self.server = served
    self.token = urllib.parse.urlsplit(served.url).query.split("=")[1]

  def __call__(self, method, path, body=None, **headers):
    host = headers.pop("host", f"127.0.0.1:{self.server.server_port}")
    connection = http.client.HTTPConnection(
      "127.0.0.1", self.server.server_port, timeout=30
    )
    headers = {name.replace("_", "-"): v for name, v in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"Host": host, **headers}.items():
      connection.putheader(name, value)
    if body is not None and "Content-Length" not in headers:
      connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content

  def solve(self, text, **headers):
    """POSTs a puzzle as the page does; returns the status and the JSON."""
    status, (found,) = self.lines(text, **headers)
    return status, found

  def lines(self, text, **headers):
    """The same where the answer has several lines."""
    headers = {"X_Token": self.token, **headers}
    answer, content = self("POST", "/solve", text.encode(), **headers)
    return answer.status, [json.loads(line) for line in content.splitlines()]


def solve_or_refuse(text):
  if text == "bad":
    raise InputError("text: line 1: expected 16 cells,\n got 3.")
  yield {"echo": text}
  while text == "endless":
    yield {"more": "." * 10_000}
  if text == "breaks":
    raise RuntimeError("no memory")


@pytest.fixture
def asking():
  made = server.Server(host="127.0.0.1", port=0)
  made.show("<p>the page</p>", solve_or_refuse)
  thread = threading.Thread(target=made.serve_forever, args=(0.05,))
  thread.start()
  yield Asking(made)
  made.shutdown()
  thread.join()
  made.server_close()


def test_the_page_comes_to_who_has_its_address(asking):
  answer, content = asking("GET", f"/?token={asking.token}")
  assert (answer.status, content) == (200, b"<p>the page</p>")
  assert answer.headers["Cache-Control"] == "no-store"
  assert answer.headers["Referrer-Policy"] == "no-referrer"
  assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=x", "/%FF?token=é"])
def test_without_the_token_nothing_is_told(asking, path):
  answer, content = asking("GET", urllib.parse.quote(path, safe="/?=%"))
  assert answer.status == 403
  assert b"token" in content
  assert b"the page" not in content


def test_what_is_no_address_is_refused(asking):
  answer, content = asking("GET", f"http://[::1/?token={asking.token}")
  assert answer.status == 400
  assert b"no address" in content


def test_a_puzzle_is_solved_and_a_wrong_one_gets_its_line(asking):
  assert asking.solve("1 2 3") == (200, {"echo": "1 2 3"})
  status, found = asking.solve("bad")
  assert status == 400
  assert found == {"error": "text: line 1: expected 16 cells, got 3."}


def test_a_failure_after_the_first_line_is_the_last_one(asking):
  status, (first, last) = asking.lines("breaks")
  assert (status, first) == (200, {"echo": "breaks"})
  assert list(last) == ["error"]


def test_who_goes_away_makes_room(asking):
  body = b"endless"
  for _ in range(server.MOST_SOLVING):
    connection = http.client.HTTPConnection(
      "127.0.0.1", asking.server.server_port, timeout=30
    )
    headers = {"X-Token": asking.token}
    connection.request("POST", "/solve", body, headers)
    answer = connection.getresponse()
    assert json.loads(answer.readline()) == {"echo": "endless"}
    # Lines come while the answer goes on.
    assert list(json.loads(answer.readline())) == ["more"]
    answer.close()
    connection.close()
  assert all(
    asking.server.solving.acquire(timeout=30)
    for _ in range(server.MOST_SOLVING)
  )


@pytest.mark.parametrize(
  "headers",
  [
    {"X_Token": ""},
    {"X_Token": "x" * 22},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"host": "evil.example:{port}"},
    {"host": "127.0.0.1"},
  ],
)
def test_requests_from_elsewhere_are_refused(asking, headers):
  port = asking.server.server_port
  headers = {key: v.replace("{port}", str(port)) for key, v in headers.items()}
  status, found = asking.solve("1", **headers)
  assert status == 403
  assert list(found) == ["error"]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_page_itself_may_ask(asking, name):
  host = f"{name}:{asking.server.server_port}"
  status, _ = asking.solve("1", host=host, Origin=f"http://{host}")
  assert status == 200


@pytest.mark.parametrize(
  ("length", "status"),
  [
    (str(server.MOST_BYTES + 1), 413),
    ("9" * 5000, 413),
    ("-1", 411),
    ("1e3", 411),
    ("", 411),
  ],
)
def test_a_body_too_large_is_not_read(asking, length, status):
  got, _ = asking.solve("", Content_Length=length)
  assert got == status


def test_nothing_else_is_there(asking):
  token = asking.token
  for method, path in (("GET", "/etc"), ("POST", "/"), ("GET", "//x")):
    answer, _ = asking(method, f"{path}?token={token}", b"", X_Token=token)
    assert answer.status == 404
  assert asking("DELETE", "/")[0].status == 501


def test_only_so_many_puzzles_are_solved_at_once(asking):
  for _ in range(server.MOST_SOLVING):
    assert asking.server.solving.acquire(blocking=False)
  status, found = asking.solve("1")
  assert status == 503
  assert "try again" in found["error"]
  asking.server.solving.release()
  assert asking.solve("1")[0] == 200


def test_who_sends_slowly_keeps_nobody_from_solving(asking):
  address = ("127.0.0.1", asking.server.server_port)
  head = (
    f"POST /solve HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\n"
    f"X-Token: {asking.token}\r\nContent-Length: 5\r\n\r\n1"
  )
  slow = [socket.create_connection(address) for _ in range(server.MOST_SOLVING)]
  for connection in slow:
    connection.sendall(head.encode())
  assert [asking.solve("1")[0] for _ in range(3)] == [200] * 3
  for connection in slow:
    connection.sendall(b"2345")
    assert connection.recv(100).startswith(b"HTTP/1.0 ")
    connection.close()


def test_a_connection_too_many_is_closed(asking, monkeypatch):
  held = [
    http.client.HTTPConnection("127.0.0.1", asking.server.server_port)
    for _ in range(server.MOST_CONNECTIONS)
  ]
  for connection in held:
    connection.connect()
  with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
    asking("GET", f"/?token={asking.token}")
  for connection in held:
    connection.close()


def test_a_port_that_is_taken_is_refused(asking):
  port = asking.server.server_port
  with pytest.raises(InputError, match=f"--port={port}: cannot listen there"):
    server.Server(host="127.0.0.1", port=port)


def test_tokens_differ():
  made = [server.Server(host="127.0.0.1", port=0) for _ in range(2)]
  for each in made:
    each.server_close()
  assert made[0].token != made[1].token
  assert all(len(each.token) >= 22 for each in made)


@pytest.fixture(scope="module")
def solving(tiny_run):
  trained = load(tiny_run)
  return live.Live(
    trained,
    PuzzleText(trained.metadata, Board("sudoku", (4, 4), None)),
    lambda questions: np.zeros(len(questions), int),
  )


def test_typed_puzzles_come_back_with_what_rules_say(solving):
  lines = list(solving(f"{PUZZLE}\n{OTHER}"))
  assert len(lines) == 3
  for found in lines:
    assert found["segments"] == 1
    assert len(found["halts_after"]) == len(found["rules"]) == 2
    ((rules,), _) = found["rules"]
    words = [rule["words"] for rule in rules]
    assert words == ["obeys the rules", "keeps the clues"]
    json.dumps(found, allow_nan=False)


def test_each_line_says_who_has_halted_so_far(solving, monkeypatch):
  parts = [
    Recording(
      inputs=np.ones((2, 16), np.int32),
      labels=np.ones((2, 16), np.int32),
      puzzle_identifiers=np.zeros(2, np.int32),
      answers=np.ones((2, 1, 16), np.int32),
      confidence=np.ones((2, 1, 16), np.uint8),
      q_halt=np.float32(q_halt)[:, None],
      q_continue=np.zeros((2, 1), np.float32),
    )
    for q_halt in ([0, 0], [0, 1], [1, -1])
  ]
  monkeypatch.setattr(
    solving._recorder, "by_segment", lambda batch, count: iter(parts)
  )
  got = [line["halts_after"] for line in solving(f"{PUZZLE}\n{OTHER}")]
  assert got == [[0, 0], [0, 2], [3, 2]]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "text: expected puzzles of 16 cells, got none; read is "),
    ("12", "text: line 1: expected 16 cells, or 4 of a row, got 2"),
    ("11" + "." * 14, "text: line 1: the clues contradict each other"),
    (f"{PUZZLE}\n" * 5, "text: expected at most 4 puzzles at once, got 5."),
  ],
)
def test_a_typed_mistake_gets_its_line(solving, text, message):
  with pytest.raises(InputError) as error:
    next(solving(text))
  assert str(error.value).startswith(message)


def test_an_answer_that_comes_with_a_puzzle_is_its_solution(
  solving, monkeypatch
):
  tokens = sudoku.parse(PUZZLE)
  answer = tokens.copy()
  answer[3] = 0  # Padding: nothing is asked for there.
  asked = Question("text", tokens, answer=answer)
  monkeypatch.setattr(solving._text, "read", lambda source: [asked])
  made = next(solving("whatever it is"))
  data = zlib.decompress(base64.b64decode(made["labels"]))
  want = np.where(answer == 0, 0, answer + 1)
  np.testing.assert_array_equal(np.frombuffer(data, np.uint8), want)

"""A Hub on this machine: the few requests that huggingface_hub makes.

It speaks real HTTP on the loopback interface, keeps everything in memory, and
misbehaves when asked to. Weights are handed over as large files are (LFS),
everything else within the commit.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

_MODEL = r"/api/models/([\w.-]+/[\w.-]+)"


class FakeHub:
  """The content, and how it is handed out.

  Attributes:
    commits: from repository and commit to its files, by name.
    branches: from repository and branch to a commit.
    requests: "METHOD path" of each, in order.
    break_after: bytes of a large file after which a connection breaks, once
      for each entry.
    flip: whether large files come with a bit changed.
    url: where it listens.
  """

  def __init__(self):
    self.commits: dict[tuple[str, str], dict[str, bytes]] = {}
    self.branches: dict[tuple[str, str], str] = {}
    self.private: dict[str, bool] = {}
    self.requests: list[str] = []
    self.break_after: list[int] = []
    self.flip = False
    self.url = ""
    self.stored: dict[str, bytes] = {}  # large files, by their SHA-256

  def add(self, name: str, files: dict[str, bytes], branch="main") -> str:
    """Makes a commit; returns its number."""
    commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    self.commits[name, commit] = dict(files)
    self.branches[name, branch] = commit
    self.private.setdefault(name, True)
    return commit

  def commit_of(self, name: str, revision: str) -> str | None:
    if (name, revision) in self.commits:
      return revision
    return self.branches.get((name, revision))


def _is_large(name: str) -> bool:
  return name.endswith(".safetensors") or name == "checkpoint"


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  hub: FakeHub

  def log_message(self, format: str, *args: Any) -> None:
    pass

  def do_HEAD(self) -> None:
    self._answer()

  def do_GET(self) -> None:
    self._answer()

  def do_POST(self) -> None:
    self._answer()

  def do_PUT(self) -> None:
    self._answer()

  def _answer(self) -> None:
    path = self.path.partition("?")[0]
    self.hub.requests.append(f"{self.command} {path}")
    length = int(self.headers.get("Content-Length") or 0)
    body = self.rfile.read(length)
    for method, pattern, handle in _ROUTES:
      match = re.fullmatch(pattern, path)
      if match and self.command in method:
        handle(self, body, *match.groups())
        return
    self._send(404, {"error": "Repository not found"}, "RepoNotFound")

  def _send(self, status: int, value: Any, error: str = "", **headers) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    self.send_response(status)
    if error:
      self.send_header("X-Error-Code", error)
    for name, each in headers.items():
      self.send_header(name.replace("_", "-"), each)
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    if self.command != "HEAD":
      self.wfile.write(data)

  def _files(self, name: str, revision: str) -> tuple[str, dict] | None:
    commit = self.hub.commit_of(name, revision)
    if commit is None:
      known = name in self.hub.private
      error = "RevisionNotFound" if known else "RepoNotFound"
      self._send(404, {"error": error}, error)
      return None
    return commit, self.hub.commits[name, commit]

  def info(self, body: bytes, name: str, revision: str | None) -> None:
    found = self._files(name, revision or "main")
    if found:
      names = [{"rfilename": each} for each in found[1]]
      value = {"id": name, "modelId": name, "sha": found[0], "siblings": names}
      self._send(200, value)

  def tree(self, body: bytes, name: str, revision: str) -> None:
    found = self._files(name, revision)
    if found:
      entries = []
      for each, data in found[1].items():
        entry: dict[str, Any] = {
          "type": "file",
          "path": each,
          "size": len(data),
          "oid": hashlib.sha1(data).hexdigest(),
        }
        if _is_large(each):
          oid = hashlib.sha256(data).hexdigest()
          entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 100}
        entries.append(entry)
      self._send(200, entries)

  def resolve(self, body: bytes, name: str, revision: str, file: str) -> None:
    found = self._files(name, revision)
    if not found:
      return
    commit, files = found
    if file not in files:
      self._send(404, {"error": "Entry not found"}, "EntryNotFound")
      return
    data, large = files[file], _is_large(file)
    kind = hashlib.sha256 if large else hashlib.sha1
    etag = f'"{kind(data).hexdigest()}"'
    headers = {"ETag": etag, "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if large:
      headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}
    if self.command == "HEAD":
      self.send_response(200)
      for key, value in headers.items():
        self.send_header(key, value)
      self.send_header("Content-Length", str(len(data)))
      self.end_headers()
      return
    if large and self.hub.flip:
      data = data[:-1] + bytes([data[-1] ^ 1])
    status, asked = 200, self.headers.get("Range")
    if large and asked:
      start = int(asked.removeprefix("bytes=").partition("-")[0])
      headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
      status, data = 206, data[start:]
    self.send_response(status)
    for key, value in headers.items():
      self.send_header(key, value)
    self.send_header("Content-Length", str(len(data)))
    self.end_headers()
    if large and self.hub.break_after:
      self.wfile.write(data[: self.hub.break_after.pop(0)])
      self.close_connection = True
      self.connection.shutdown(2)
      return
    self.wfile.write(data)

  def create(self, body: bytes) -> None:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if name in self.hub.private:
      self._send(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
      return
    self.hub.add(name, {".gitattributes": b""})
    # Newer clients say "visibility".
    hidden = asked.get("private", asked.get("visibility") == "private")
    self.hub.private[name] = bool(hidden)
    self._send(200, {"url": f"{self.hub.url}/{name}"})

  def check_card(self, body: bytes) -> None:
    assert json.loads(body)["content"].startswith("---\n")
    self._send(200, {"errors": [], "warnings": []})

  def branch(self, body: bytes, name: str, branch: str) -> None:
    main = self.hub.branches[name, "main"]
    self.hub.branches.setdefault((name, branch), main)
    self._send(200, {})

  def preupload(self, body: bytes, name: str, revision: str) -> None:
    files = [
      {
        "path": each["path"],
        "uploadMode": "lfs" if _is_large(each["path"]) else "regular",
        "shouldIgnore": False,
      }
      for each in json.loads(body)["files"]
    ]
    self._send(200, {"files": files})

  def batch(self, body: bytes, name: str) -> None:
    objects = [
      {
        **{key: each[key] for key in ("oid", "size")},
        "authenticated": True,
        "actions": {"upload": {"href": f"{self.hub.url}/put/{each['oid']}"}},
      }
      for each in json.loads(body)["objects"]
    ]
    self._send(200, {"transfer": "basic", "objects": objects})

  def put(self, body: bytes, oid: str) -> None:
    assert hashlib.sha256(body).hexdigest() == oid
    self.hub.stored[oid] = body
    self._send(200, b"")

  def commit(self, body: bytes, name: str, revision: str) -> None:
    files = dict(self.hub.commits[name, self.hub.branches[name, revision]])
    for line in body.splitlines():
      entry = json.loads(line)
      value = entry["value"]
      if entry["key"] == "file":
        files[value["path"]] = base64.b64decode(value["content"])
      elif entry["key"] == "lfsFile":
        files[value["path"]] = self.hub.stored[value["oid"]]
    commit = self.hub.add(name, files, revision)
    url = f"{self.hub.url}/{name}/commit/{commit}"
    self._send(200, {"success": True, "commitOid": commit, "commitUrl": url})


_ROUTES = (
  ("GET", rf"{_MODEL}(?:/revision/([\w.-]+))?", _Handler.info),
  ("GET", rf"{_MODEL}/tree/([\w.-]+)", _Handler.tree),
  ("GET HEAD", r"/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/(.+)", _Handler.resolve),
  ("POST", "/api/repos/create", _Handler.create),
  ("POST", "/api/validate-yaml", _Handler.check_card),
  ("POST", rf"{_MODEL}/branch/([\w.-]+)", _Handler.branch),
  ("POST", rf"{_MODEL}/preupload/([\w.-]+)", _Handler.preupload),
  ("POST", r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", _Handler.batch),
  ("PUT", r"/put/(\w+)", _Handler.put),
  ("POST", rf"{_MODEL}/commit/([\w.-]+)", _Handler.commit),
)


@contextlib.contextmanager
def serve() -> Iterator[FakeHub]:
  """A Hub that listens until the block ends."""
  hub = FakeHub()
  handler = type("Handler", (_Handler,), {"hub": hub})
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
  server.daemon_threads = True
  hub.url = f"http://127.0.0.1:{server.server_address[1]}"
  thread = threading.Thread(target=server.serve_forever, args=(0.05,))
  thread.start()
  try:
    yield hub
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def run(
  *arguments: object, endpoint: str, home: Any, **environment: str
) -> subprocess.CompletedProcess:
  """Runs `python -m ...` as somebody whose Hub is at `endpoint`."""
  return subprocess.run(
    [sys.executable, "-m", *map(str, arguments)],
    env={
      "PATH": os.environ["PATH"],
      "PYTHONPATH": os.getcwd(),
      "JAX_PLATFORMS": "cpu",
      "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
      "HF_ENDPOINT": endpoint,
      "HF_HOME": str(home),
      "HF_HUB_DISABLE_XET": "1",
      "HF_TOKEN": "hf_of_a_test",
      "NO_PROXY": "127.0.0.1",
      **environment,
    },
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )

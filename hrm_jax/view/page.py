"""Builds the page: one HTML file that asks for nothing else.

The modules of `browser/` become one script, the data a JSON block beside it. A
policy allows this script and this style and nothing more, so that a name in
the data can never run, whatever the page does with it.
"""

import base64
import hashlib
import html
import json
import pathlib
import re
from typing import Any

FOLDER = pathlib.Path(__file__).parent / "browser"

_IMPORT = re.compile(r'^import\s[^;]*?from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class)\b)", re.M)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def build(data: dict[str, Any], *, title: str, connects: bool = False) -> str:
  """The whole page.

  Args:
    data: what `report.payload` returns, and what the page says about it.
    title: of the window.
    connects: whether it may ask the server that it comes from.
  """
  style = (FOLDER / "page.css").read_text(encoding="utf-8")
  script = bundle("main")
  parts = {
    "title": html.escape(title),
    "policy": policy(style, script, connects=connects),
    "style": style,
    "data": as_script_data(data),
    "script": script,
  }
  template = (FOLDER / "page.html").read_text(encoding="utf-8")
  return _PLACE.sub(lambda place: parts[place[1]], template)


def bundle(entry: str) -> str:
  """One script of a module and all that it imports, each once, in order.

  Imports and the word `export` go; names are the same in all modules.

  Args:
    entry: the module's name in `FOLDER`.
  """
  seen: list[str] = []
  texts: list[str] = []

  def add(name: str) -> None:
    if name in seen:
      return
    seen.append(name)
    source = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    for needed in _IMPORT.findall(source):
      add(needed)
    texts.append(_EXPORT.sub("", _IMPORT.sub("", source)).strip())

  add(entry)
  # A line end on either side, as in the template, for the digest.
  return "\n\n".join(texts)


def policy(style: str, script: str, *, connects: bool = False) -> str:
  """A Content-Security-Policy that knows this style and script alone."""
  rules = {
    "default-src": "'none'",
    "style-src": _digest(style),
    "script-src": _digest(script),
    "connect-src": "'self'" if connects else "'none'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
  }
  return "; ".join(f"{name} {value}" for name, value in rules.items())


def as_script_data(value: Any) -> str:
  """JSON that cannot end the block it stands in, nor begin a tag or comment."""
  text = json.dumps(value, allow_nan=False, separators=(",", ":"))
  # json.dumps has written everything beyond ASCII as \\uXXXX.
  for character in "<>&":
    text = text.replace(character, f"\\u{ord(character):04x}")
  return text


def _digest(text: str) -> str:
  digest = hashlib.sha256(text.encode("utf-8")).digest()
  return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"

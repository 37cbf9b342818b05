"""What observed runs write down of their updates; see `observed`."""

import json
import pathlib
from typing import Any


def read(record: pathlib.Path) -> list[dict[str, Any]]:
  """Its whole lines; a kill, or reading while it is written, cuts one short."""
  if not record.exists():
    return []
  lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith("\n")]

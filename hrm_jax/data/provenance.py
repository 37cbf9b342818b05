"""Which code something was made by."""

import pathlib
import subprocess


def source_commit() -> str | None:
  """The git commit of this code, or None outside a checkout of it.

  An installed copy can lie within a repository of something else.
  """
  root = pathlib.Path(__file__).resolve().parents[2]
  if not (root / ".git").exists():
    return None
  command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
  except (OSError, subprocess.CalledProcessError):
    return None
  return done.stdout.strip()

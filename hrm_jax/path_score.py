"""Scores answers to mazes by their rules: any shortest path counts.

Exact match compares with the one path that a data set holds, of several.
"""

import json
import math

import numpy as np

from hrm_jax import maze
from hrm_jax.console import InputError
from hrm_jax.dataset import Split

# Mazes of a set without build.json that are looked at to recognise it.
_GLANCE = 64


def holds_mazes(split: Split) -> bool:
  """Whether a split holds mazes.

  Its build.json says so. Sets that the reference built have none: they are
  recognised by vocabulary, a square length and what their first rows hold.

  Raises:
    InputError: build.json is not a JSON object.
  """
  path = split.path.parent / "build.json"
  if path.exists():
    try:
      build = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
      raise InputError(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(build, dict):
      raise InputError(f"{path}: expected a JSON object, got {build!r:.40}.")
    return build.get("puzzle") == "maze"
  cells = split.metadata.seq_len
  return (
    split.metadata.vocab_size == maze.VOCAB_SIZE
    and math.isqrt(cells) ** 2 == cells
    and all(maze.looks_like_mazes(s.inputs[:_GLANCE]) for s in split.sets)
  )


def right_paths(inputs: np.ndarray, predictions: np.ndarray) -> np.float64:
  """How many of [B, G] predictions are a shortest path of their maze."""
  return np.float64(maze.is_shortest_path(inputs, predictions).sum())

"""Scores answers to mazes by their rules: any shortest path counts.

Exact match compares with the one path that a data set holds, of several.
"""

import numpy as np

from hrm_jax.data import maze, puzzle_kind
from hrm_jax.data.split import Split


def holds_mazes(split: Split) -> bool:
  """Whether a split holds mazes, see `puzzle_kind`."""
  kind = puzzle_kind.kind_of(split.path.parent, [split])
  return kind == puzzle_kind.MAZE


def right_paths(inputs: np.ndarray, predictions: np.ndarray) -> int:
  """How many of [B, G] predictions are a shortest path of their maze."""
  return int(maze.is_shortest_path(inputs, predictions).sum())

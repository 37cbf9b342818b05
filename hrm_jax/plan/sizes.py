"""How large the puzzles of a run are: as given, as its data set says, or usual.

A plan needs no data. Where there is none, the sizes are those of the task that
the configuration names by the command that builds its data.
"""

from typing import NamedTuple

import ml_collections

from hrm_jax.console import InputError, log
from hrm_jax.data import arc, maze, puzzle, sudoku
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.plan.program import generated_puzzles


class _Sizes(NamedTuple):
  seq_len: int
  vocab_size: int
  num_identifiers: int


# Identifiers: one for all Sudokus or mazes, beside the blank one; for ARC-AGI-1
# with 1,000 augmentations, those of the reference's set.
_USUAL = {
  "build_sudoku": _Sizes(81, sudoku.vocab_size(9), 1),
  "build_maze": _Sizes(900, maze.VOCAB_SIZE, 1),
  "build_arc": _Sizes(900, arc.VOCAB_SIZE, 1_045_829),
}

_FLAGS = ("--seq-len", "--vocab-size", "--num-identifiers")


def of_run(
  config: ml_collections.ConfigDict,
  seq_len: int | None = None,
  vocab_size: int | None = None,
  num_identifiers: int | None = None,
) -> tuple[DatasetMetadata, str]:
  """The sizes of a run's puzzles, and where they are from.

  Args:
    config: names the data set.
    seq_len: cells; None: as the data set has them.
    vocab_size: the same of tokens.
    num_identifiers: the same of rows of the puzzle table.

  Raises:
    InputError: there is no data set, and no usual size either.
  """
  given = (seq_len, vocab_size, num_identifiers)
  found, where = _unless_given(config, given)
  sizes = [f if g is None else g for g, f in zip(given, found, strict=True)]
  flags = [flag for flag, g in zip(_FLAGS, given, strict=True) if g is not None]
  said = [", ".join(flags)] if flags else []
  if len(flags) < len(given):
    said.append(where)
  return generated_puzzles(*sizes), "; else ".join(said)


def _unless_given(
  config: ml_collections.ConfigDict, given: tuple[int | None, ...]
) -> tuple[_Sizes, str]:
  if None not in given:
    return _Sizes(0, 0, 0), ""
  path = config.data.path
  if path and puzzle.metadata_path(path, "train").exists():
    found = puzzle.read_metadata(path, "train")
    sizes = _Sizes(
      found.seq_len, found.vocab_size, found.num_puzzle_identifiers
    )
    return sizes, f"the data set {path}"
  if config.data.generate:
    if path:
      log.warning(f"warning: config.data.path: no data set at '{path}'")
    rows, _, columns = config.data.box.partition("x")
    side = int(rows) * int(columns)
    sizes = _Sizes(side**2, sudoku.vocab_size(side), 1)
    return sizes, f"the puzzles that config.data.box={config.data.box} makes"
  for command, sizes in _USUAL.items():
    if command in config.data.build_command:
      return sizes, f"what {command} usually makes, for there is no data set"
  missing = [f for f, g in zip(_FLAGS, given, strict=True) if g is None]
  raise InputError(
    f"config.data.path: no data set at '{path}', so its sizes are not known; "
    f"expected it, or {', '.join(missing)}."
  )

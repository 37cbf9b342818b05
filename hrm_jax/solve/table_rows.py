"""Which row of the puzzle table a puzzle is asked with.

A row says what one task of the training data asks for, and its name stands in
`identifiers.json`. Sets of a single task, such as Sudokus and mazes, have the
blank row alone.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from hrm_jax.checkpoint.load import Trained
from hrm_jax.checkpoint.published import find_own_data
from hrm_jax.console import InputError
from hrm_jax.data import identifiers
from hrm_jax.data.question import Question

# The row of padding; in a set of several tasks it is never trained.
BLANK = "<blank>"


def of_questions(
  args: argparse.Namespace, trained: Trained, questions: Sequence[Question]
) -> tuple[np.ndarray, list[str]]:
  """The rows that puzzles are asked with.

  Args:
    args: the command line; `--identifier` names one row for all.
    trained: the weights.
    questions: n puzzles; their `task` names a row.

  Returns:
    [n] int64 puzzle identifiers; and the names of all rows, if they were
    needed.

  Raises:
    InputError: there is no such row, or nobody knows which one it is.
  """
  blank = trained.metadata.blank_identifier_id
  known = trained.metadata.num_puzzle_identifiers
  has_names = trained.weights.puzzle_table is not None and known > 1
  if args.identifier == BLANK or (args.identifier is None and not has_names):
    return np.full(len(questions), blank), []
  if trained.weights.puzzle_table is None:
    raise InputError(
      f"--identifier={args.identifier}: this network has no puzzle table "
      "(model.puzzle_emb_ndim=0); leave it out."
    )
  where, names = _names(args, trained)
  row_of = {name: row for row, name in enumerate(names)}
  rows = []
  for question in questions:
    name = args.identifier or question.task
    if name is None:
      raise InputError(
        f"{question.name}: expected the name of its task, as the network knows "
        f"{known:,}; choose one of {where} with --identifier=NAME, or "
        f"--identifier='{BLANK}' for none."
      )
    if name not in row_of:
      asked = "--identifier" if args.identifier else question.name
      raise InputError(
        f"{asked}: expected a task that the network was trained on, one of the "
        f"names in {where} (there are {len(names):,}), got '{name}'; name "
        "another one with --identifier=NAME, train a row for this one (see "
        'docs/checkpoints.md, "Unseen ARC tasks"), or ask without a task: '
        f"--identifier='{BLANK}'."
      )
    rows.append(row_of[name])
  return np.array(rows), names


def _names(args: argparse.Namespace, trained: Trained) -> tuple[str, list[str]]:
  """Where the names of the rows stand, and what they are.

  Raises:
    InputError: they are not known, or are those of other data.
  """
  if args.data is None and trained.identifiers is not None:
    return f"{args.model}/{identifiers.FILE_NAME}", trained.identifiers
  path = find_own_data(args, trained) / identifiers.FILE_NAME
  names = identifiers.read_names(path)
  most = trained.metadata.num_puzzle_identifiers
  if len(names) > most:
    raise InputError(
      f"{path}: expected at most {most:,} names, as many as the puzzle table "
      f"has rows, got {len(names):,}."
    )
  return str(path), names

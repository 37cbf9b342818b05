"""Writes Sudoku boards with their images by symmetries of the game."""

from collections.abc import Iterator

import numpy as np

from hrm_jax import console
from hrm_jax.data import sudoku, symmetry, writer


def augmented(
  rng: np.random.Generator,
  questions: np.ndarray,
  answers: np.ndarray,
  num_aug: int,
  *,
  boards_at_once: int = 16384,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields every puzzle followed by `num_aug` symmetry images of it.

  Args:
    rng: draws the symmetries; the same one moves question and answer.
    questions: [N, G] uint8 token ids.
    answers: [N, G] uint8 token ids.
    num_aug: images of each puzzle beside the original.
    boards_at_once: about how many boards a piece holds; bounds the memory.

  Yields:
    ([M, G], [M, G]) uint8, N * (1 + num_aug) boards in all.
  """
  side = sudoku.side_of(questions.shape[1])
  group = 1 + num_aug
  total = len(questions) * group
  for start in range(0, total, boards_at_once):
    board = np.arange(start, min(start + boards_at_once, total))
    question, answer = questions[board // group], answers[board // group]
    image = np.flatnonzero(board % group)
    symmetries = symmetry.draw_sudoku(rng, len(image), side)
    for boards in (question, answer):
      boards[image] = symmetry.transform(symmetries, boards[image])
    yield question, answer


def write_split(
  dataset: writer.DatasetWriter,
  split: str,
  questions: np.ndarray,
  answers: np.ndarray,
  *,
  num_aug: int,
  rng: np.random.Generator,
  identifiers: np.ndarray | None = None,
) -> None:
  """Writes N puzzles and their images, one group for each.

  Args:
    dataset: where to; the only writing to this split.
    split: its name.
    questions: [N, G] uint8 token ids.
    answers: [N, G] uint8 token ids.
    num_aug: images of each puzzle beside the original.
    rng: draws the symmetries.
    identifiers: [N], shared by a puzzle with its images; None: all blank.
  """
  group = 1 + num_aug
  total = len(questions) * group
  if identifiers is None:
    identifiers = np.full(len(questions), writer.BLANK_IDENTIFIER_ID)
  with console.Progress(f"writing {split}", total, unit="puzzles") as bar:
    for inputs, labels in augmented(rng, questions, answers, num_aug):
      dataset.add_examples(split, inputs, labels)
      bar.advance(len(inputs))
  dataset.add_puzzles(
    split,
    identifiers=identifiers.repeat(group),
    examples_per_puzzle=np.ones(total),
    puzzles_per_group=np.full(len(questions), group),
  )

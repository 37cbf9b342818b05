"""A few puzzles of the test split, always the same, for people to look at.

Every process thinks about its share of them at the same place of a run, because
the puzzle table may lie in parts; then all have all answers, and who draws them
asks nobody.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hrm_jax.data import puzzle_kind
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.puzzle import Batch, pad_batch
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.split import Split
from hrm_jax.machines import sharding
from hrm_jax.model.hrm import SegmentOutput
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import inference
from hrm_jax.train.dashboard import picture
from hrm_jax.train.setup import Setup


class Thoughts(NamedTuple):
  """What became of one puzzle in S segments; see `picture.draw`.

  Attributes:
    inputs: [G] int32 token ids.
    labels: [G] int32 token ids, or IGNORE_LABEL_ID.
    answers: [S, G] int32 token ids.
    halt_probability: [S] float32.
  """

  inputs: np.ndarray
  labels: np.ndarray
  answers: np.ndarray
  halt_probability: np.ndarray


class Samples:
  """Thinks about them with the weights of the moment; compiles once.

  Args:
    setup: the network and its devices.
    split: what they are of; they are spread evenly over it.
    board: what they look like.
    count: how many; fewer where there are fewer.
  """

  def __init__(self, setup: Setup, split: Split, board: Board, count: int):
    metadata = split.metadata
    self._board, self._vocab_size = board, metadata.vocab_size
    self._mesh = setup.mesh
    puzzles = _spread(split, count)
    self._count = len(puzzles["inputs"])
    size = -(-self._count // setup.mesh.size) * setup.mesh.size
    self._batch = pad_batch(puzzles, size, metadata)
    self._think = jax.jit(
      functools.partial(_think, setup),
      out_shardings=sharding.replicated(setup.mesh),
    )

  def __call__(self, weights: Weights) -> list[Thoughts]:
    """What the network thinks of each; every process must call it."""
    size = len(self._batch["inputs"])
    mine = sharding.local_rows(self._mesh, size)
    rows = jax.tree.map(lambda leaf: leaf[mine], self._batch)
    batch = sharding.put_rows(rows, self._mesh, size)
    answers, chances = jax.device_get(self._think(weights, batch))
    columns = self._batch["inputs"], self._batch["labels"], answers, chances
    return [Thoughts(*row) for row in zip(*columns, strict=True)][: self._count]

  def draw(self, thoughts: Thoughts) -> np.ndarray:
    """The picture of one, [height, width] places in `picture.PALETTE`."""
    return picture.draw(self._board, self._vocab_size, **thoughts._asdict())


def make_samples(
  setup: Setup, split: Split, kind: str | None, count: int
) -> Samples | None:
  """The samples of a run.

  Args:
    setup: the network and its devices.
    split: what they are of.
    kind: one of `puzzle_kind.KINDS`; None: not known.
    count: how many; 0: there are none.
  """
  if count == 0:
    return None
  # A kind is not known where build.json is wrong.
  build = puzzle_kind.read_build(split.path.parent) if kind else {}
  board = puzzle_kind.board_of(kind or puzzle_kind.GRID, build, split.metadata)
  return Samples(setup, split, board, count)


def _spread(split: Split, count: int) -> Batch:
  """As many examples, evenly over all sets."""
  one_by_one = EvaluationData(split, batch_size=1)
  total = one_by_one.num_examples
  count = min(count, total)
  parts = [
    one_by_one.batch(number * total // count).batch for number in range(count)
  ]
  return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def _think(
  setup: Setup, weights: Weights, batch: Batch
) -> tuple[jax.Array, jax.Array]:
  """Answers [B, S, G] int32 and halting probabilities [B, S] float32."""
  model = setup.model

  def observe(output: SegmentOutput) -> tuple[jax.Array, jax.Array]:
    answer = jnp.argmax(output.logits, -1).astype(jnp.int32)
    return answer, jax.nn.sigmoid(output.q_halt_logits)

  def think(weights, batch, puzzle_rows):
    seen = inference.solve(
      model,
      weights,
      batch,
      halt="full",
      observe=observe,
      puzzle_rows=puzzle_rows,
    ).trace
    # Rows first, because the devices have rows.
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), seen)

  # The table may be large, and lie in parts: devices get the rows they need.
  rows = gather_puzzle_rows(model, weights, batch["puzzle_identifiers"])
  return sharding.on_each_device(think, setup.mesh)(
    weights._replace(puzzle_table=None), batch, rows
  )

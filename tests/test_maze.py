"""What a maze is, and which answers to it are right."""

import collections

import jax.numpy as jnp
import numpy as np
import pytest

from configs import maze as maze_config
from hrm_jax.console import InputError
from hrm_jax.data import maze, writer
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import scoring
from hrm_jax.evaluate.evaluator import Evaluator
from tests.drawn import drawn
from tests.toys import mesh_of

OPEN = "S  \n # \n  G"  # two shortest paths, around the wall
RIGHT, OTHER = "Soo\n #o\n  G", "S  \no# \nooG"
LONG = "S    \n#### \n     \n ####\n    G"


def random_mazes(count, side, seed=0):
  rng = np.random.default_rng(seed)
  mazes = np.where(rng.random((count, side * side)) < 0.35, 1, 2)
  for row in mazes:
    start, goal = rng.choice(side * side, 2, replace=False)
    row[start], row[goal] = maze.START_ID, maze.GOAL_ID
  return mazes.astype(np.uint8)


def plain_search(grid):
  """(moves, number of shortest paths), one cell at a time."""
  side = maze.side_of(len(grid))
  start, goal = (int((grid == t).argmax()) for t in (3, 4))
  moves, paths = {start: 0}, collections.Counter({start: 1})
  queue = collections.deque([start])
  while queue:
    cell = queue.popleft()
    row, column = divmod(cell, side)
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
      r, c = row + down, column + right
      new = r * side + c
      if not (0 <= r < side and 0 <= c < side) or grid[new] == maze.WALL_ID:
        continue
      if new not in moves:
        moves[new] = moves[cell] + 1
        queue.append(new)
      if moves[new] == moves[cell] + 1:
        paths[new] += paths[cell]
  return moves.get(goal, -1), paths[goal]


@pytest.mark.parametrize("side", [2, 5, 9, 16])
def test_the_search_agrees_with_a_plain_one(side):
  for grid in random_mazes(60, side):
    moves, paths = plain_search(grid)
    assert maze.shortest_length(grid) == moves
    assert maze.has_one_shortest_path(grid) == (paths == 1)


def test_text_comes_back_with_its_spaces():
  grid = maze.parse("S  \r\n # \r\n  G\n")
  assert maze.to_text(grid) == "S   #   G"
  assert drawn("maze", grid) == OPEN
  assert sorted({*grid.tolist()}) == [1, 2, 3, 4]


@pytest.mark.parametrize(
  ("text", "message"), [("S G", "square"), ("S?G ", "cell 2: .* got '\\?'")]
)
def test_bad_text_is_refused(text, message):
  with pytest.raises(InputError, match=message):
    maze.parse(text)


def test_any_shortest_path_is_right():
  inputs = np.stack([maze.parse(OPEN)] * 2)
  answers = np.stack([maze.parse(RIGHT), maze.parse(OTHER)])
  assert maze.is_shortest_path(inputs, answers).all()
  assert not maze.is_shortest_path(inputs, inputs).any()
  assert not maze.is_shortest_path(inputs, answers - 7).any()


@pytest.mark.parametrize(
  ("question", "answer", "message"),
  [
    (OPEN, RIGHT, None),
    ("SG  ", "SG  ", None),
    (LONG, LONG.replace(" ", "o"), None),
    (OPEN, "Soo\n o \n  G", "answer: row 2, column 2: expected '#' as in"),
    (OPEN, "Soo\n #o\n oG", "answer: expected 3 path cells"),
    (OPEN, "So \n #o\n oG", "got a broken path"),
    (OPEN, "ooo\n #o\n  G", "row 1, column 1: expected 'S'"),
    (OPEN, "Soo\n##o\n  G", "expected ' ' or 'o' as in the question, got '#'"),
    (OPEN.replace("#", "S"), RIGHT, "question: expected exactly one S, got 2"),
    (OPEN.replace("G", " "), RIGHT, "question: expected exactly one G, got 0"),
    (OPEN.replace("#", "o"), RIGHT, "question: row 2, column 2: expected one"),
    ("S##G", "S##G", "question: expected a way from S to G, got none"),
  ],
)
def test_what_is_wrong_is_said(question, answer, message):
  question, answer = maze.parse(question), maze.parse(answer)
  found = maze.error(question, answer)
  assert (found is None) == (message is None)
  assert message is None or message in found
  assert maze.is_shortest_path(question, answer) == (message is None)


def write_mazes(root, answers):
  with writer.DatasetWriter(root, seq_len=9, vocab_size=6) as dataset:
    for split in writer.SPLITS:
      count = len(answers)
      dataset.add_examples(
        split,
        np.stack([maze.parse(OPEN)] * count),
        np.stack([maze.parse(a) for a in answers]),
      )
      ones = np.ones(count, int)
      dataset.add_puzzles(
        split,
        identifiers=0 * ones,
        examples_per_puzzle=ones,
        puzzles_per_group=ones,
      )
    dataset.finish(identifiers=["<blank>"], build={"puzzle": "maze"})


def test_mazes_are_recognised_with_and_without_build_json(tmp_path):
  write_mazes(tmp_path / "out", [RIGHT, OTHER])
  split = open_split(tmp_path / "out", "test")
  assert scoring.holds_mazes(split)
  (tmp_path / "out" / "build.json").unlink()
  assert scoring.holds_mazes(split)
  (tmp_path / "out" / "build.json").write_text('{"puzzle": "grid"}')
  assert not scoring.holds_mazes(split)
  (tmp_path / "out" / "build.json").write_text("[")
  with pytest.raises(InputError, match=r"build.json: expected a JSON object"):
    scoring.holds_mazes(split)


class PlannedEvaluator(Evaluator):
  """Answers every puzzle with its label, or with a given answer."""

  def __init__(self, answer):
    self._answer, self._halt, self._mesh = answer, "full", mesh_of(1)
    self._queued = False

  def _compile(self, *_):
    pass

  def _results(self, weights, chunks, mine, settings):
    for asked in chunks.batches(mine):
      answers = np.stack([self._answer] * chunks.batch_size)
      right = (answers == asked.batch["labels"]).all(-1).sum(keepdims=True)
      sums = {"count": np.int32(len(asked.rows)), "exact_accuracy": right[0]}
      counts = scoring.Counts(right, right, np.zeros(10, np.int32))
      yield asked, (sums, counts, {"predictions": jnp.asarray(answers)})


@pytest.mark.parametrize(
  ("answer", "exact", "path"), [(OTHER, 1 / 3, 1), (RIGHT, 2 / 3, 1)]
)
def test_evaluation_takes_any_shortest_path(tmp_path, answer, exact, path):
  write_mazes(tmp_path / "out", [RIGHT, OTHER, RIGHT])
  data = EvaluationData(open_split(tmp_path / "out", "test"), batch_size=2)
  result = PlannedEvaluator(maze.parse(answer))(None, data, step=1)
  means = result["sets"]["all"]
  assert means["count"] == 3
  np.testing.assert_allclose(means["exact_accuracy"], exact)
  np.testing.assert_allclose(means["path_accuracy"], path)


def test_the_published_recipe():
  config = maze_config.get_config()
  assert (config.global_batch_size, config.epochs) == (768, 20_000)
  with pytest.raises(InputError, match="known are 1k"):
    maze_config.get_config("2k")

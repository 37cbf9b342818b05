"""Generated mazes: one shortest path, long enough, none an image of another."""

import json

import numpy as np
import pytest

from data_tools import generate_maze, maze_augment
from hrm_jax.console import InputError
from hrm_jax.data import maze, puzzle
from tests.commands import Commands, files_of
from tests.test_build_sudoku import load

TOY = {"size": 9, "num_train": 12, "num_test": 8}


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.mark.parametrize(
  ("style", "size", "least"),
  [("walls", 30, 111), ("walls", 9, 12), ("carved", 30, 111), ("carved", 9, 9)],
)
def test_mazes_have_one_shortest_path(style, size, least):
  questions, answers = generate_maze.make_mazes(
    np.random.default_rng(0), 12, size, style=style, min_moves=least
  )
  assert questions.shape == answers.shape == (12, size * size)
  assert questions.dtype == answers.dtype == np.uint8
  assert [maze.question_error(q) for q in questions] == [None] * len(questions)
  assert maze.is_shortest_path(questions, answers).all()
  assert all(map(maze.has_one_shortest_path, questions))
  assert min(map(maze.shortest_length, questions)) >= least
  assert len(set(map(maze_augment.class_key, questions))) == 12


def test_the_seed_decides_every_byte(tmp_path):
  for name, seed in (("a", 5), ("b", 5), ("c", 6)):
    generate_maze.generate(tmp_path / name, seed=seed, aug=True, **TOY)
  first, same, other = (files_of(tmp_path / name) for name in "abc")
  assert first == same
  assert first["train/all__inputs.npy"] != other["train/all__inputs.npy"]


def test_no_test_maze_is_an_image_of_a_training_maze(tmp_path):
  generate_maze.generate(
    tmp_path / "out", size=4, num_train=60, num_test=40, min_moves=2, aug=True
  )
  train, test = (
    set(map(maze_augment.class_key, load(tmp_path / "out", split)["inputs"]))
    for split in ("train", "test")
  )
  assert (len(train), len(test)) == (60, 40)
  assert not train & test


def test_the_command_prints_its_counts(tmp_path, commands):
  out = tmp_path / "out"
  flags = ["--size", 7, "--num-train", 6, "--num-test", 4, "--style", "carved"]
  result = commands(
    generate_maze, "--output-dir", out, *flags, "--aug", "--min-moves", 5
  )
  assert result["train"] == {"groups": 6, "puzzles": 48, "examples": 48}
  assert result["test"] == {"groups": 4, "puzzles": 4, "examples": 4}
  build = json.loads((out / "build.json").read_text())
  assert (build["puzzle"], build["arguments"]["min_moves"]) == ("maze", 5)
  metadata = puzzle.read_metadata(out, "test")
  assert (metadata.seq_len, metadata.vocab_size) == (49, 6)


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--size", 2], "--size: expected at least 3, got 2"),
    (["--num-train", 0], "--num-train: expected at least 1, got 0"),
    (["--num-test", 0], "--num-test: expected at least 1, got 0"),
    (["--min-moves", 0], "--min-moves: expected at least 1, got 0"),
    (["--seed", -1], "--seed: expected at least 0, got -1"),
  ],
)
def test_impossible_requests_get_one_line(flags, message, tmp_path, commands):
  out = tmp_path / "out"
  assert message in commands.error(generate_maze, "--output-dir", out, *flags)
  assert list(tmp_path.iterdir()) == []


def test_a_search_that_finds_nothing_ends(tmp_path, monkeypatch):
  monkeypatch.setattr(generate_maze, "_BARREN_TRIES", 50)
  with pytest.raises(InputError, match="got 0 and then none in 50 tries"):
    generate_maze.generate(tmp_path / "out", size=5, min_moves=24)
  assert list(tmp_path.iterdir()) == []

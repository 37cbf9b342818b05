"""The checker on ARC sets: frames, unknown answers, identifiers."""

import json

import numpy as np
import pytest

from data_tools import check
from tests.commands import Commands
from tests.datasets import write_split
from tests.test_check import cell, entry


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def arc_grid(top, left, height, width):
  grid = np.zeros((30, 30), np.uint8)
  grid[top : top + height, left : left + width] = 2 + np.arange(width) % 10
  grid[top + height : top + height + 1, left : left + width] = 1
  grid[top : top + height, left + width : left + width + 1] = 1
  return grid.ravel()


@pytest.fixture
def arc_root(tmp_path):
  grids = [arc_grid(0, 0, 30, 30), arc_grid(4, 7, 3, 5), arc_grid(29, 0, 1, 9)]
  for split in check.SPLITS:
    path = write_split(
      tmp_path, split, groups=[[2, 1]], seq_len=900, vocab_size=12
    )
    for field in ("inputs", "labels"):
      np.save(path / f"all__{field}.npy", np.stack(grids))
  (tmp_path / "identifiers.json").write_text(json.dumps(list("abc")))
  return tmp_path


def test_arc_grids_are_framed_by_eos(arc_root):
  assert check.check(arc_root)["puzzle"] == "arc"
  path = arc_root / "test" / "all__labels.npy"
  np.save(path, entry(1, 0)(np.load(path)))  # an answer that is not known
  check.check(arc_root)


def test_a_training_answer_must_be_known(arc_root, commands):
  path = arc_root / "train" / "all__labels.npy"
  np.save(path, entry(1, 0)(np.load(path)))
  assert f"{path}: row 1: expected one rectangle" in commands.error(
    check, arc_root
  )


def test_the_first_identifiers_may_be_unused(arc_root):
  path = arc_root / "identifiers.json"
  names = json.loads(path.read_text())
  path.write_text(json.dumps([names[0], names[0], *names[2:]]))
  assert check.check(arc_root)["identifiers"] == len(names)


def test_a_name_that_stands_twice_is_found(arc_root, commands):
  path = arc_root / "identifiers.json"
  names = json.loads(path.read_text())
  path.write_text(json.dumps([*names[:-1], names[0]]))
  message = f"{path}: expected different names, got {names[0]!r} 2 times."
  assert commands.error(check, arc_root) == message


@pytest.mark.parametrize(
  ("place", "token"),
  [
    ((4, 7), 0),  # a hole at the corner
    ((5, 8), 1),  # EOS inside
    ((7, 7), 0),  # a gap in the frame
    ((7, 12), 1),  # the corner of the frame
    ((20, 20), 5),  # a second grid
    ((0, 0), 1),  # EOS far away
  ],
)
def test_other_layouts_of_arc_grids_are_found(place, token, arc_root, commands):
  path = arc_root / "train" / "all__labels.npy"
  cells = cell(1, place[0] * 30 + place[1], token)
  np.save(path, cells(np.load(path)))
  error = commands.error(check, arc_root)
  assert error.startswith(f"{path}: row 1: expected one rectangle of colours")

"""The ARC builder: tasks in, augmented sets out, bad files refused."""

import json

import numpy as np
import pytest

from configs import arc as config_of_arc
from data_tools import arc_augment, arc_tasks, build_arc
from hrm_jax.console import InputError
from hrm_jax.data import arc
from hrm_jax.data.split import open_split
from tests.commands import Commands, files_of
from tests.test_arc import random_grid


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def make_task(seed, train=3, test=1):
  rng = np.random.default_rng(seed)

  def pair():
    return {k: random_grid(rng, 8).tolist() for k in ("input", "output")}

  return {
    "train": [pair() for _ in range(train)],
    "test": [pair() for _ in range(test)],
  }


def write_json(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def write_source(path):
  """Two tasks to train on, and two to be evaluated on, one with two tests."""
  for i, folder in enumerate(["training", "training/deeper"]):
    write_json(path / folder / f"train{i}.json", make_task(i))
  write_json(path / "evaluation" / "eval0.json", make_task(2))
  write_json(path / "evaluation" / "eval1.json", make_task(3, test=2))
  return path


@pytest.fixture
def source(tmp_path):
  return write_source(tmp_path / "source")


def examples(root, split):
  """(identifier's text, input board, label board) of every example."""
  (data,) = open_split(root, split).sets
  names = json.loads((root / "identifiers.json").read_text())
  counts = np.diff(data.puzzle_indices)
  texts = [names[i] for i in data.puzzle_identifiers.repeat(counts)]
  return list(zip(texts, data.inputs, data.labels, strict=True))


def test_splits_groups_and_counts(source, tmp_path, commands):
  out = tmp_path / "out"
  flags = ["--dataset-dirs", source, "--output-dir", out, "--num-aug", 5]
  assert commands(build_arc, *flags) == {
    "path": str(out),
    "train": {"groups": 4, "puzzles": 24, "examples": 6 * (4 + 4 + 3 + 3)},
    "test": {"groups": 2, "puzzles": 12, "examples": 6 * (1 + 2)},
  }
  train, test = (open_split(out, split) for split in ("train", "test"))
  assert train.metadata.mean_puzzle_examples == 3.5
  assert train.metadata.num_puzzle_identifiers == 25
  assert train.metadata.vocab_size == 12
  assert train.metadata.seq_len == 900
  assert train.sets[0].inputs.dtype == train.sets[0].labels.dtype == np.uint8
  assert train.sets[0].group_indices.tolist() == [0, 6, 12, 18, 24]
  names = json.loads((out / "identifiers.json").read_text())
  assert names[0] == "<blank>"
  assert len(set(names)) == len(names) == 25
  evaluated = {i for i, n in enumerate(names) if n.startswith("eval")}
  assert set(test.sets[0].puzzle_identifiers.tolist()) == evaluated
  assert evaluated < set(train.sets[0].puzzle_identifiers.tolist())
  assert json.loads((out / "build.json").read_text())["puzzle"] == "arc"
  asked = json.loads((out / "test_puzzles.json").read_text())
  assert asked == {
    f"eval{i}": json.loads((source / f"evaluation/eval{i}.json").read_text())[
      "test"
    ]
    for i in (0, 1)
  }


def test_every_board_is_its_augmentation_of_the_task(source, tmp_path):
  out = tmp_path / "out"
  build_arc.build(out, dataset_dirs=[source], num_aug=8)
  tasks = {task.name: task for task in arc_tasks.read_tasks([source])[0]}
  for split in ("train", "test"):
    corners = {}
    for text, *boards in examples(out, split):
      augmentation = arc.parse_identifier(text)
      task = tasks[augmentation.name]
      pairs = task.test if split == "test" else task.train
      if split == "train" and not task.evaluated:
        pairs = task.train + task.test
      i = len(corners.setdefault(text, []))
      row, column = (
        int(np.flatnonzero(boards[0].reshape(30, 30).any(a))[0]) for a in (1, 0)
      )
      corners[text].append((row, column))
      for grid, board in zip(pairs[i], boards, strict=True):
        expected = arc.augment(grid, augmentation)
        np.testing.assert_array_equal(
          board, arc.to_tokens(expected, row, column)
        )
    for places in corners.values():
      # One example stays, and the others move, by the odds of 1 in 500.
      still = sum(place == (0, 0) for place in places)
      assert still == len(places) if split == "test" else 1 <= still < 3


def test_variants_differ_in_content():
  rng = np.random.default_rng(0)
  pairs = [(random_grid(rng, 4) % 3, random_grid(rng, 4) % 3)]
  variants = arc_augment.draw("x", pairs, 300, 0)
  inputs, labels = arc_augment.boards(variants, pairs)
  assert len(variants.transforms) == 301
  both = np.concatenate([inputs, labels], axis=1)
  assert len(np.unique(both, axis=0)) == 301


def test_a_task_with_few_variants_gets_them_all():
  # One cell of one colour: nine ways to paint it.
  cell = np.ones((1, 1), np.uint8)
  variants = arc_augment.draw("x", [(cell, cell)], 100, 0)
  assert sorted(variants.permutations[:, 1]) == list(range(1, 10))
  # Two examples that a mirror exchanges are the same content.
  one, other = np.array([[0, 0, 1]]), np.array([[1, 0, 0]])
  pairs = [(one, one), (other, other)]
  variants = arc_augment.draw("x", pairs, 200, 0)
  assert len(variants.transforms) == 18


def test_the_seed_decides_every_byte_and_key_order_nothing(source, tmp_path):
  def build(name, seed):
    build_arc.build(
      tmp_path / name, dataset_dirs=[source], num_aug=4, seed=seed
    )
    return files_of(tmp_path / name)

  first, same, other = build("a", 5), build("b", 5), build("c", 6)
  assert first == same
  assert first["identifiers.json"] != other["identifiers.json"]
  assert str(tmp_path).encode() not in first["build.json"]
  for path in source.rglob("*.json"):
    task = json.loads(path.read_text())
    pairs = {
      part: [dict(reversed(pair.items())) for pair in task[part]]
      for part in ("test", "train")
    }
    write_json(path, {**pairs, "name": path.stem})
  turned = build("d", 5)
  # That records the digest of the files.
  assert turned.pop("build.json") != first.pop("build.json")
  assert turned == first


def test_competition_files_give_the_same_set(source, tmp_path):
  build_arc.build(tmp_path / "a", dataset_dirs=[source], num_aug=3)
  combined = tmp_path / "combined"
  for folder in ("training", "evaluation"):
    tasks = {
      p.stem: json.loads(p.read_text())
      for p in (source / folder).rglob("*.json")
    }
    answers = {
      name: [pair.pop("output") for pair in task["test"]]
      for name, task in tasks.items()
    }
    write_json(combined / f"arc-agi_{folder}_challenges.json", tasks)
    write_json(combined / f"arc-agi_{folder}_solutions.json", answers)
  write_json(combined / "sample_submission.json", {"x": []})
  build_arc.build(tmp_path / "b", dataset_dirs=[combined], num_aug=3)
  # The order of the tasks differs, the examples do not.
  a, b = (
    sorted(
      (text, i.tobytes(), o.tobytes())
      for text, i, o in examples(tmp_path / name, "test")
    )
    for name in "ab"
  )
  assert a == b
  (combined / "arc-agi_evaluation_solutions.json").unlink()
  build_arc.build(tmp_path / "c", dataset_dirs=[combined], num_aug=3)
  assert not any(o.any() for *_, o in examples(tmp_path / "c", "test"))
  asked = json.loads((tmp_path / "c" / "test_puzzles.json").read_text())
  assert [p["output"] for p in asked["eval1"]] == [None, None]


def test_impossible_requests_get_one_line(source, tmp_path):
  def build(*directories, **arguments):
    build_arc.build(tmp_path / "out", dataset_dirs=directories, **arguments)

  (tmp_path / "empty").mkdir()
  with pytest.raises(InputError, match="empty: expected folders of ARC tasks"):
    build(source, tmp_path / "empty")
  with pytest.raises(InputError, match="nowhere: no such directory"):
    build(tmp_path / "nowhere")
  with pytest.raises(InputError, match="in a folder named 'evaluation'"):
    build(source / "training")
  with pytest.raises(InputError, match="--num-aug: expected at least 0, got"):
    build(source, num_aug=-1)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("variant", ["1", "2"])
def test_the_configuration_names_this_builder(variant):
  config = config_of_arc.get_config(variant)
  assert "build_arc --output-dir {path} " in config.data.build_command
  assert (config.global_batch_size, config.epochs) == (768, 100_000)
  assert config.epochs % config.eval_interval == 0
  with pytest.raises(InputError, match="known are 1, 2"):
    config_of_arc.get_config("3")


def test_the_real_tasks_build(hrm_data_dir, tmp_path):
  root = hrm_data_dir / "arc"
  built = build_arc.build(
    tmp_path / "out",
    dataset_dirs=[root / "ARC-AGI/data", root / "ConceptARC/corpus"],
    num_aug=1,
  )
  assert built["counts"]["train"]["groups"] == 960
  assert built["counts"]["test"] == {
    "groups": 400,
    "puzzles": 800,
    "examples": 838,
  }
  assert built["source"][1]["tasks"] == 160

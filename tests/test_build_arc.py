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


@pytest.fixture
def source(tmp_path):
  """Two tasks to train on, and two to be evaluated on, one with two tests."""
  path = tmp_path / "source"
  for i, folder in enumerate(["training", "training/deeper"]):
    write_json(path / folder / f"train{i}.json", make_task(i))
  write_json(path / "evaluation" / "eval0.json", make_task(2))
  write_json(path / "evaluation" / "eval1.json", make_task(3, test=2))
  return path


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


def test_answers_in_the_training_data_are_reported(
  source, tmp_path, monkeypatch
):
  lines = []
  monkeypatch.setattr(arc_tasks.log, "warning", lines.append)
  arc_tasks.warn_of_answers_in_training(arc_tasks.read_tasks([source])[0])
  assert lines == []
  write_json(source / "training" / "copy.json", make_task(3, test=2))
  arc_tasks.warn_of_answers_in_training(arc_tasks.read_tasks([source])[0])
  assert len(lines) == 1
  assert "2 of 3 test pairs stand in the training data" in lines[0]
  assert "eval1.json: test[0]" in lines[0]
  assert "copy.json: test[0]" in lines[0]


def test_a_list_of_pairs_trains_whole(source, tmp_path, commands):
  pairs = make_task(5, train=6)["train"]
  write_json(source / "training" / "more.json", pairs)
  write_json(source / "evaluation" / "asked.json", pairs)
  tasks = {task.name: task for task in arc_tasks.read_tasks([source])[0]}
  assert (len(tasks["more"].train), len(tasks["more"].test)) == (6, 0)
  assert (len(tasks["asked"].train), len(tasks["asked"].test)) == (5, 1)
  assert tasks["asked"].test[0][0].tolist() == pairs[-1]["input"]
  out = tmp_path / "out"
  flags = ["--dataset-dirs", source, "--output-dir", out, "--num-aug", 2]
  assert commands(build_arc, *flags)["test"]["groups"] == 3
  texts = [text for text, *_ in examples(out, "train")]
  assert (texts.count("more"), texts.count("asked")) == (6, 5)
  assert "asked" in json.loads((out / "test_puzzles.json").read_text())


@pytest.mark.parametrize("list_first", [False, True])
def test_a_list_of_pairs_joins_the_training_task_of_its_name(
  source, list_first, tmp_path
):
  task = json.loads((source / "training" / "train0.json").read_text())
  more = make_task(5)["train"]
  write_json(tmp_path / "lists" / "train0.json", [task["train"][0], *more])
  directories = [source, tmp_path / "lists"]
  if list_first:
    directories.reverse()
  tasks, _ = arc_tasks.read_tasks(directories)
  (joined,) = [task for task in tasks if task.name == "train0"]
  assert [i.tolist() for i, _ in joined.train] == [
    pair["input"] for pair in [*task["train"], *more]
  ]
  assert len(joined.test) == 1


def test_a_reported_pair_is_named_with_its_task_in_a_file_of_many(
  tmp_path, monkeypatch
):
  asked, known = make_task(1), make_task(2)
  known["test"] = asked["test"]
  for kind, tasks in (
    ("evaluation", {"aa": make_task(0), "bb": asked}),
    ("training", {"cc": make_task(3), "dd": known}),
  ):
    answers = {
      name: [pair.pop("output") for pair in task["test"]]
      for name, task in json.loads(json.dumps(tasks)).items()
    }
    write_json(tmp_path / f"{kind}_challenges.json", tasks)
    write_json(tmp_path / f"{kind}_solutions.json", answers)
  lines = []
  monkeypatch.setattr(arc_tasks.log, "warning", lines.append)
  arc_tasks.warn_of_answers_in_training(arc_tasks.read_tasks([tmp_path])[0])
  assert "evaluation_challenges.json: bb.test[0], which is " in lines[0]
  assert "training_challenges.json: dd.test[0]." in lines[0]


def changed(path, value):
  """A task in which what stands at a path of keys has another value."""
  task = make_task(9)
  at = task
  for key in path[:-1]:
    at = at[key]
  if value is None:
    del at[path[-1]]
  else:
    at[path[-1]] = value
  return json.dumps(task)


OUTPUT = ("train", 2, "output")
BAD = {
  "too_large": (
    changed(OUTPUT, [[0] * 31] * 31),
    "train[2].output: expected at most 30x30 cells, got 31x31",
  ),
  "colour_10": (
    changed(OUTPUT, [[1, 2], [3, 10]]),
    "train[2].output: expected integers 0 to 9, got 10 at row 1, column 1",
  ),
  "colour_negative": (changed(OUTPUT, [[-1]]), "0 to 9, got -1 at row 0"),
  "ragged": (
    changed(OUTPUT, [[1, 2], [3]]),
    "train[2].output: expected rows of equal length, 2, got 1 in row 1",
  ),
  "empty_grid": (
    changed(("test", 0, "input"), []),
    "test[0].input: expected a list of rows, got []",
  ),
  "empty_row": (changed(OUTPUT, [[]]), "expected rows of colours, got []"),
  "row_no_list": (changed(OUTPUT, [5]), "expected rows of colours, got 5"),
  "cell_true": (changed(OUTPUT, [[True]]), "0 to 9, got True at row 0"),
  "cell_float": (changed(OUTPUT, [[1.0]]), "0 to 9, got 1.0 at row 0"),
  "no_test": (
    changed(("test",), None),
    "test: expected a list of pairs, got no",
  ),
  "no_train": (changed(("train",), None), "train: expected a list of pairs"),
  "train_empty": (
    changed(("train",), []),
    "train: expected a list of pairs, got []",
  ),
  "test_empty": (
    changed(("test",), []),
    "test: expected a list of pairs, got []",
  ),
  "no_output": (
    changed(OUTPUT, None),
    "train[2].output: expected a grid, got none",
  ),
  "pair_no_object": (
    changed(("train", 1), [1]),
    "train[1]: expected an object, got [1]",
  ),
  "name_no_text": (changed(("name",), 7), "name: expected a text, got 7"),
  "name_of_variant": (
    changed(("name",), "x_t1_0123456789"),
    "does not end like an augmentation's",
  ),
  "name_taken": (
    changed(("name",), "eval0"),
    "evaluation/eval0.json, got other pairs under that name",
  ),
  "list_short": (
    json.dumps(make_task(9)["test"]),
    "a list of at least 2 pairs, the last for the test, below 'evaluation', g",
  ),
  "list_of_others": ("[[], []]", "[0]: expected an object, got []"),
  "number": ("7", "expected an object, got 7"),
  "truncated": (changed((*OUTPUT,), [[1]])[:-9], "line 1: expected JSON"),
  "empty": ("", "line 1: expected JSON"),
  "not_utf8": (
    b'{"n": \n"\xe9"}',
    "line 2: expected UTF-8 text, got byte 0xe9",
  ),
  "too_deep": ("[" * 200_000, "expected the JSON of a task"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_get_one_line(case, source, tmp_path, commands):
  content, message = BAD[case]
  path = source / "evaluation" / "new.json"
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  out = tmp_path / "made" / "out"
  error = commands.error(
    build_arc, "--dataset-dirs", source, "--output-dir", out
  )
  assert error.startswith(f"{path}: ")
  assert message in error
  assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
  ("name", "evaluated"),
  [
    ("arc-agi_training", False),
    ("latest_training", False),
    ("contest", False),
    ("arc-agi_evaluation", True),
    ("test", True),
    ("arc-agi_test", True),
  ],
)
def test_a_word_of_the_file_says_which_tasks_are_evaluated(
  name, evaluated, tmp_path
):
  task = make_task(3)
  answers = [pair.pop("output") for pair in task["test"]]
  write_json(tmp_path / "made" / f"{name}_challenges.json", {"a": task})
  write_json(tmp_path / "made" / f"{name}_solutions.json", {"a": answers})
  other = tmp_path / "other" / "evaluation"
  write_json(other / "b.json", make_task(4))
  (found, _), _ = arc_tasks.read_tasks([tmp_path / "made", other])
  assert found.evaluated is evaluated


@pytest.mark.parametrize(
  ("answers", "message"),
  [
    ({}, "a: expected 1 outputs, as many as"),
    ({"a": [[[1]], [[1]]]}, "a: expected 1 outputs"),
    ({"a": 5}, "a: expected 1 outputs"),
    ({"a": [[[10]]]}, "a[0]: expected integers 0 to 9, got 10"),
    ({"a": [[[1]]], "b": []}, "b: expected only tasks of"),
    ([], "expected an object, got []"),
  ],
)
def test_solutions_that_do_not_fit_get_one_line(
  answers, message, source, tmp_path, commands
):
  write_json(source / "evaluation_challenges.json", {"a": make_task(7)})
  path = source / "evaluation_solutions.json"
  write_json(path, answers)
  error = commands.error(
    build_arc, "--dataset-dirs", source, "--output-dir", tmp_path / "out"
  )
  assert error.startswith(f"{path}: ")
  assert message in error
  if "expected 1" in error or "only" in error:
    assert "evaluation_challenges.json" in error
  assert not (tmp_path / "out").exists()


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

"""ARC tasks from files: every form that is read, and bad files refused."""

import errno
import json
import pathlib

import pytest

from data_tools import arc_tasks, build_arc
from tests.commands import Commands
from tests.test_build_arc import examples, make_task, write_json, write_source


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def source(tmp_path):
  return write_source(tmp_path / "source")


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


@pytest.mark.parametrize("folder", ["training", "training/deeper", "."])
def test_a_folder_that_cannot_be_read_is_not_left_out(
  folder, source, tmp_path, commands, unreadable
):
  unreadable(source / folder)
  flags = ["--output-dir", tmp_path / "out", "--dataset-dirs", source]
  assert commands.error(build_arc, *flags) == (
    f"{source / folder}: cannot be read (Permission denied)."
  )
  assert not (tmp_path / "out").exists()


def test_a_directory_behind_one_that_cannot_be_entered_is_told(
  source, tmp_path, commands, monkeypatch
):
  stat = pathlib.Path.stat

  def refuse(path, **arguments):
    if path == source:
      raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return stat(path, **arguments)

  monkeypatch.setattr(pathlib.Path, "stat", refuse)
  flags = ["--output-dir", tmp_path / "out", "--dataset-dirs", source]
  assert commands.error(build_arc, *flags) == (
    f"{source}: cannot be read (Permission denied)."
  )


def test_hidden_folders_need_not_be_readable(source, tmp_path, unreadable):
  before = build_arc.build(tmp_path / "a", dataset_dirs=[source], num_aug=1)
  (source / ".git").mkdir()
  unreadable(source / ".git")
  after = build_arc.build(tmp_path / "b", dataset_dirs=[source], num_aug=1)
  assert after == before

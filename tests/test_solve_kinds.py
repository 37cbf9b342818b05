"""`solve` on mazes, ARC tasks and grids of one's own task."""

import json
import re
import shutil
import sys

import numpy as np
import pytest

from data_tools import build_arc, build_grid, generate_maze, show
from hrm_jax.checkpoint import torch_commands
from hrm_jax.checkpoint.export import export
from hrm_jax.console import InputError
from hrm_jax.data import maze
from hrm_jax.solve import __main__ as solve
from hrm_jax.solve import by_votes
from tests.commands import Commands
from tests.untrained import STEP, write_run

STYLE = re.compile(r"\x1b\[[0-9;]*m")
SMALL = {"model.H_cycles": 1, "model.L_cycles": 1, "model.halt_max_steps": 2}


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture
def printed(command, capsys):
  """Runs the command for a person; returns what it printed."""

  def run(*flags):
    command._run(solve, flags)
    return capsys.readouterr().out

  return run


# -------------------------------------------------------------------- mazes


@pytest.fixture(scope="module")
def maze_run(tmp_path_factory):
  path = tmp_path_factory.mktemp("mazes")
  generate_maze.generate(
    path / "set", size=7, num_train=2, num_test=3, style="carved"
  )
  return write_run(path / "run", path / "set", **SMALL)


@pytest.fixture
def maze_file(maze_run, tmp_path):
  path = tmp_path / "maze.txt"
  lines = show.show(maze_run.parent / "set", count=3)
  path.write_text("\n".join(lines))
  return path


def test_mazes_are_solved_from_a_file(maze_run, maze_file, command):
  found = command(
    solve,
    f"--workdir={maze_run}",
    f"--file={maze_file}",
    "--json",
    "--halt=full",
    "--segments=3",
  )
  assert (found["step"], found["kind"], found["segments"]) == (STEP, "maze", 3)
  inputs = np.load(maze_run.parent / "set/test/all__inputs.npy")
  assert len(found["puzzles"]) == 3
  for entry, tokens in zip(found["puzzles"], inputs, strict=True):
    assert entry["puzzle"] == maze.to_text(tokens)
    assert len(entry["trace"]) == 3
    assert entry["trace"][-1] == entry["answer"]
    answer = np.array(["?# SGo".index(cell) for cell in entry["answer"]])
    assert entry["is_shortest_path"] == maze.is_shortest_path(tokens, answer)


def test_what_is_printed_of_a_maze_can_be_solved_again(
  maze_run, maze_file, command, printed, tmp_path
):
  flags = [f"--workdir={maze_run}", "--trace", f"--file={maze_file}"]
  text = printed(*flags)
  assert "after segment 1:\n" in text
  assert "\nis a shortest path: no\n" in text
  again = tmp_path / "printed.txt"
  again.write_text(text)
  flags = [f"--workdir={maze_run}", "--json"]
  want = command(solve, *flags, f"--file={maze_file}")
  assert command(solve, *flags, f"--file={again}") == want


@pytest.mark.parametrize(
  ("terminal", "no_color", "styled"),
  [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_colour_is_for_terminals(
  terminal, no_color, styled, maze_run, maze_file, printed, monkeypatch
):
  plain = printed(f"--workdir={maze_run}", f"--file={maze_file}")
  monkeypatch.setenv("NO_COLOR", no_color)
  monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, False)
  text = printed(f"--workdir={maze_run}", f"--file={maze_file}")
  assert bool(STYLE.search(text)) is styled
  assert STYLE.sub("", text) == plain


def test_the_rows_of_a_maze_may_be_arguments(maze_run, command):
  rows = ["S      ", *["       "] * 5, "      G"]
  found = command(solve, f"--workdir={maze_run}", "--json", *rows)
  assert [each["puzzle"] for each in found["puzzles"]] == ["".join(rows)]


def test_a_wrong_maze_gets_one_line(maze_run, maze_file, command):
  text = maze_file.read_text().splitlines()
  text[3] = text[3][1:7] + "x" + text[3][8:]
  maze_file.write_text("\n".join(text))
  message = command.error(solve, f"--workdir={maze_run}", f"--file={maze_file}")
  assert message.startswith(f"{maze_file}: line 4: expected ")
  assert "got 'x'" in message


# ---------------------------------------------------------------------- ARC


def make_task(seed):
  rng = np.random.default_rng(seed)
  pairs = [
    {key: rng.integers(10, size=(2, 3)).tolist() for key in ("input", "output")}
    for _ in range(4)
  ]
  return {"train": pairs[:2], "test": pairs[2:]}


@pytest.fixture(scope="module")
def arc_run(tmp_path_factory):
  path = tmp_path_factory.mktemp("arc")
  for folder, name, seed in (("training", "aa", 1), ("evaluation", "bb", 2)):
    file = path / "tasks" / folder / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(make_task(seed)))
  build_arc.build(path / "set", dataset_dirs=[path / "tasks"], num_aug=1)
  return write_run(path / "run", path / "set", **SMALL)


@pytest.fixture
def arc_file(arc_run):
  return arc_run.parent / "tasks" / "evaluation" / "bb.json"


@pytest.fixture(scope="module")
def arc_model(arc_run, tmp_path_factory):
  out = tmp_path_factory.mktemp("arc_model") / "model"
  export(arc_run, None, out)
  return out


def test_a_task_is_solved_with_its_own_embedding(arc_run, arc_file, command):
  flags = [f"--workdir={arc_run}", "--json", "--halt=full"]
  own = command(solve, *flags, f"--file={arc_file}")
  assert own["kind"] == "arc"
  for i, (entry, pair) in enumerate(
    zip(own["puzzles"], make_task(2)["test"], strict=True)
  ):
    assert (entry["task"], entry["test"]) == ("bb", i)
    assert entry["puzzle"] == pair["input"]
    assert entry["is_right"] is (entry["answer"] == pair["output"])
    assert len(entry["trace"]) == entry["segments"] == 2

  def probabilities(*more):
    found = command(solve, *flags, f"--file={arc_file}", *more)
    return [entry["halt_probability"] for entry in found["puzzles"]]

  want = [entry["halt_probability"] for entry in own["puzzles"]]
  assert probabilities("--identifier=bb") == want
  # Every row of the table is another one here.
  others = [probabilities(f"--identifier={name}") for name in ("aa", "<blank>")]
  assert want not in others
  assert others[0] != others[1]


def test_votes_are_of_the_rows_of_the_task(
  arc_run, arc_file, command, monkeypatch
):
  asked = []

  def stop(networks, puzzles, rows, settings):
    asked.extend([rows, settings.views.look(1, puzzles, rows)[1]])
    raise InputError("stopped.")

  monkeypatch.setattr(by_votes, "solve", stop)
  flags = [f"--workdir={arc_run}", f"--file={arc_file}", "--votes=2"]
  assert command.error(solve, *flags) == "stopped."
  names = json.loads((arc_run.parent / "set/identifiers.json").read_text())
  own, other = asked
  assert [names[row] for row in own] == ["bb", "bb"]
  assert {names[row][:4] for row in other} == {"bb_t"}


def test_a_model_of_the_reference_needs_its_data(
  arc_run, arc_file, command, tmp_path
):
  flags = [f"--file={arc_file}", "--json"]
  want = command(solve, f"--workdir={arc_run}", *flags)
  out = tmp_path / "for_torch"
  torch_commands.export(arc_run, None, out)
  assert command(solve, f"--model={out}", *flags) == want
  config = out / "all_config.yaml"
  there = f"data_path: {arc_run.parent / 'set'}"
  assert there in config.read_text()
  config.write_text(config.read_text().replace(there, "data_path: nowhere"))
  message = command.error(solve, f"--model={out}", *flags)
  assert "say where the data set is with --data=DIR" in message
  flags += [f"--model={out}", f"--data={arc_run.parent / 'set'}"]
  assert command(solve, *flags) == want


def test_a_model_knows_the_names_of_its_tasks(
  arc_run, arc_model, arc_file, command, tmp_path
):
  flags = [f"--file={arc_file}", "--json"]
  want = command(solve, f"--workdir={arc_run}", *flags)
  assert command(solve, f"--model={arc_model}", *flags) == want
  nameless = tmp_path / "model"
  shutil.copytree(arc_model, nameless)
  (nameless / "identifiers.json").unlink()
  config = json.loads((nameless / "config.json").read_text())
  del config["files"]["identifiers.json"]
  (nameless / "config.json").write_text(json.dumps(config))
  message = command.error(solve, f"--model={nameless}", *flags)
  assert "which is not here; say with --data=DIR" in message
  flags += [f"--model={nameless}"]
  assert command(solve, *flags, f"--data={arc_run.parent / 'set'}") == want
  command(solve, *flags, "--identifier=<blank>")


def test_an_unknown_task_gets_a_line_that_says_what_to_do(
  arc_run, arc_file, command, tmp_path
):
  path = tmp_path / "cc.json"
  shutil.copy(arc_file, path)
  message = command.error(solve, f"--workdir={arc_run}", f"--file={path}")
  assert message.startswith(f"{path}: test[0]: expected a task that the")
  for part in ("got 'cc'", "--identifier='<blank>'", "docs/checkpoints.md"):
    assert part in message
  flags = [f"--workdir={arc_run}", f"--file={path}", "--identifier=dd"]
  message = command.error(solve, *flags)
  assert message.startswith("--identifier: expected a task that the network")


def test_the_names_of_other_data_are_refused(
  arc_run, arc_file, command, tmp_path
):
  shutil.copytree(arc_run.parent / "tasks", tmp_path / "tasks")
  shutil.copy(arc_file, tmp_path / "tasks/training/cc.json")
  build_arc.build(
    tmp_path / "set", dataset_dirs=[tmp_path / "tasks"], num_aug=1
  )
  flags = [f"--workdir={arc_run}", f"--file={arc_file}"]
  message = command.error(solve, *flags, f"--data={tmp_path / 'set'}")
  assert "expected the data that the run was trained on" in message


def test_a_person_sees_the_grids_of_a_task(arc_run, arc_file, printed):
  text = printed(f"--workdir={arc_run}", f"--file={arc_file}", "--trace")
  first = make_task(2)["test"][0]["input"]
  rows = "".join("".join(f"{cell} " for cell in row) + "\n" for row in first)
  assert text.startswith(
    f"task: bb\ntest: 0\npuzzle:\n{rows}\nafter segment 1:"
  )
  assert "is the answer of the file: " in text


def test_a_wrong_task_gets_one_line(arc_run, command, tmp_path):
  task = make_task(2)
  task["test"][1]["input"][1][2] = 10
  path = tmp_path / "bb.json"
  path.write_text(json.dumps(task))
  message = command.error(solve, f"--workdir={arc_run}", f"--file={path}")
  assert message == (
    f"{path}: test[1].input: expected integers 0 to 9, got 10 at row 1, column "
    "2."
  )
  message = command.error(solve, f"--workdir={arc_run}", str(path))
  assert message.startswith("puzzle 1: expected the JSON of an ARC task with")


# -------------------------------------------------------------------- grids


@pytest.fixture(scope="module")
def grid_run(tmp_path_factory):
  path = tmp_path_factory.mktemp("grids")
  source = path / "lines.jsonl"
  grids = [[[1, 0, i]] for i in range(3)] + [[[i], [1]] for i in range(3)]
  lines = [
    {"input": grid, "output": grid, "split": split, "group": f"g{i % 2}"}
    for i, grid in enumerate(grids)
    for split in ("train", "test")
  ]
  source.write_text("\n".join(map(json.dumps, lines)))
  build_grid.build(path / "set", source=source, identifiers="per-group")
  return write_run(path / "run", path / "set", **SMALL)


def test_the_build_of_the_data_says_what_a_grid_looks_like(grid_run, command):
  flags = [f"--workdir={grid_run}", "--json"]
  source = grid_run.parent / "lines.jsonl"
  found = command(solve, *flags, f"--file={source}")
  assert found["kind"] == "grid"
  assert len(found["puzzles"]) == 12
  assert found["puzzles"][4]["puzzle"] == [[1, 0, 2], [None] * 3]
  assert {entry["is_right"] for entry in found["puzzles"]} <= {True, False}
  named = command(solve, *flags, "--identifier=g0", "102")
  assert named["puzzles"][0]["trace"] == found["puzzles"][4]["trace"]
  assert "is_right" not in named["puzzles"][0]


def test_a_grid_of_no_known_task_must_be_named(grid_run, command):
  message = command.error(solve, f"--workdir={grid_run}", "102")
  assert message.startswith("puzzle 1: expected the name of its task, as the ")
  assert "--identifier=NAME" in message


def test_a_moved_data_set_must_be_named(grid_run, command, tmp_path):
  shutil.copytree(grid_run, tmp_path / "run")
  moved = tmp_path / "set"
  (grid_run.parent / "set").rename(moved)
  flags = [f"--workdir={tmp_path / 'run'}", "--identifier=<blank>", "102"]
  try:
    message = command.error(solve, *flags)
    assert "say where it is now with --data=DIR" in message
    command(solve, *flags, "--json", f"--data={moved}")
  finally:
    moved.rename(grid_run.parent / "set")


def test_other_data_do_not_say_what_a_grid_looks_like(
  grid_run, command, tmp_path
):
  source = tmp_path / "lines.jsonl"
  text = (grid_run.parent / "lines.jsonl").read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  lines[0]["input"] = [[2, 2, 2]]
  source.write_text("\n".join(map(json.dumps, lines)))
  build_grid.build(tmp_path / "set", source=source, identifiers="per-group")
  flags = [f"--workdir={grid_run}", f"--data={tmp_path / 'set'}", "102"]
  message = command.error(solve, *flags)
  assert "expected the data that the run was trained on" in message

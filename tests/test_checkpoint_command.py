"""python -m hrm_jax.checkpoint: what it lists, verifies and deletes."""

import errno
import json
import re
import sys

import pytest

from hrm_jax.checkpoint import __main__ as checkpoint_cli
from tests.commands import Commands, files_of
from tests.toy_checkpoints import (
  OTHER_FORMATS,
  delete,
  flip,
  save,
  set_format,
  steps_of,
)


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def run_command(monkeypatch, capsys, *flags):
  """Runs it; returns its exit code, its JSON and its stderr lines."""
  code = 0
  monkeypatch.setattr(sys, "argv", ["checkpoint", *map(str, flags)])
  try:
    checkpoint_cli.main()
  except SystemExit as error:
    code = error.code
  captured = capsys.readouterr()
  out = captured.out.splitlines()
  return code, json.loads(out[-1]), captured.err.splitlines()


def test_verify_passes_what_is_whole(tmp_path, monkeypatch, capsys):
  save(tmp_path, 1, 2)
  for directory in (tmp_path, tmp_path / "checkpoints"):
    code, value, _ = run_command(monkeypatch, capsys, "verify", directory)
    assert (code, value) == (0, {"ok": True, "steps": {"1": [], "2": []}})


def test_verify_names_each_bad_file_and_fails(
  tmp_path, monkeypatch, capsys, lines
):
  save(tmp_path, 1, 2)
  path = tmp_path / "checkpoints" / "2"
  flip(path / "run" / "metadata")
  delete(path / "state" / "_METADATA")
  code, value, err = run_command(monkeypatch, capsys, "verify", tmp_path)
  assert code == 1
  assert value["ok"] is False
  assert value["steps"]["2"] == err
  assert [line.split(": ")[0] for line in err] == [
    str(path / "run" / "metadata"),
    str(path / "state" / "_METADATA"),
  ]
  code, _, err = run_command(
    monkeypatch, capsys, "verify", tmp_path, "--step=1"
  )
  assert (code, err) == (0, [])


def test_list_marks_best_newest_and_incomplete(tmp_path, command):
  save(tmp_path, 1, accuracy=0.75)
  save(tmp_path, 2, 3)
  (tmp_path / "checkpoints" / "3" / "manifest.json").unlink()
  result = command(checkpoint_cli, "list", tmp_path)
  facts = [
    (row["step"], row["complete"], row["score"], row["best"], row["newest"])
    for row in result["steps"]
  ]
  assert facts == [
    (1, True, 0.75, True, False),
    (2, True, 0.5, False, True),
    (3, False, None, False, False),
  ]
  assert result["steps"][0]["bytes"] > 1000
  assert "incomplete" in result["steps"][2]["problems"][0]


def test_prune_removes_damaged_and_old_steps(tmp_path, command):
  save(tmp_path, 1, accuracy=0.75)
  save(tmp_path, 2, 3, 4)
  directory = tmp_path / "checkpoints"
  flip(directory / "4" / "run" / "metadata")
  (directory / "5.orbax-checkpoint-tmp").mkdir()
  before = files_of(tmp_path)
  expected = {
    "damaged": [4],
    "old": [2],
    "half_written": ["5.orbax-checkpoint-tmp"],
    "kept": [1, 3],
  }
  flags = ("prune", tmp_path, "--keep=1")
  result = command(checkpoint_cli, *flags, "--dry-run")
  assert result == {**expected, "dry_run": True}
  assert files_of(tmp_path) == before
  assert command(checkpoint_cli, *flags) == {**expected, "dry_run": False}
  assert sorted(p.name for p in directory.iterdir()) == ["1", "3"]


def test_prune_never_deletes_the_last_hope(tmp_path, command):
  save(tmp_path, 1)
  (tmp_path / "checkpoints" / "1" / "manifest.json").unlink()
  assert "no step is whole" in command.error(checkpoint_cli, "prune", tmp_path)
  assert steps_of(tmp_path) == [1]


def test_a_directory_without_checkpoints_gets_one_line(tmp_path, command):
  for name in ("list", "verify", "prune"):
    message = command.error(checkpoint_cli, name, tmp_path)
    assert message.startswith(f"{tmp_path}: expected a workdir")


@pytest.mark.parametrize(("number", "said"), OTHER_FORMATS)
def test_the_command_says_a_line_per_step_of_another_format(
  tmp_path, monkeypatch, capsys, number, said
):
  save(tmp_path, 1, 2, 3)
  for step in (1, 2):
    set_format(tmp_path / "checkpoints" / str(step), number)
  code, value, _ = run_command(monkeypatch, capsys, "list", tmp_path)
  assert code == 0
  assert [row["complete"] for row in value["steps"]] == [True] * 3
  assert [len(row["problems"]) for row in value["steps"]] == [1, 1, 0]
  code, value, err = run_command(monkeypatch, capsys, "verify", tmp_path)
  assert (code, value["ok"], len(err)) == (1, False, 2)
  for line in err:
    assert re.search(said, line)
  before = files_of(tmp_path)
  code, value, err = run_command(
    monkeypatch, capsys, "prune", tmp_path, "--keep=1"
  )
  assert (code, value["kept"], len(err)) == (0, [1, 2, 3], 2)
  assert files_of(tmp_path) == before


def test_prune_keeps_what_may_not_be_read(
  tmp_path, monkeypatch, capsys, locked
):
  save(tmp_path, 1, 2, 3)
  locked(tmp_path / "checkpoints" / "1" / "run" / "metadata", errno.EACCES)
  code, value, err = run_command(
    monkeypatch, capsys, "prune", tmp_path, "--keep=1"
  )
  assert (code, value["old"], value["kept"]) == (0, [2], [1, 3])
  assert "1/run/metadata: cannot be read (Permission denied)" in err[0]
  assert steps_of(tmp_path) == [1, 3]


def test_a_directory_that_may_not_be_read_gets_one_line(
  tmp_path, command, monkeypatch
):
  def refuse(path):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))

  monkeypatch.setattr(checkpoint_cli.os, "listdir", refuse)
  for name in ("list", "verify", "prune"):
    message = command.error(checkpoint_cli, name, tmp_path)
    assert message.startswith(f"{tmp_path}: cannot be read (Permission denied)")

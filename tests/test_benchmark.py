"""The benchmark of the builders: measures, or says in a line why it cannot."""

import resource

import pytest

from data_tools import benchmark
from hrm_jax.console import InputError
from tests.commands import Commands


@pytest.fixture
def commands(monkeypatch, capsys):
  monkeypatch.delenv("HRM_DATA_DIR", raising=False)
  return Commands(monkeypatch, capsys)


def with_command(monkeypatch, *command):
  monkeypatch.setattr(benchmark, "commands", lambda data: {"sudoku": command})


def test_seconds_and_memory_are_measured(commands, monkeypatch, tmp_path):
  flags = ["--num-train", "2", "--num-test", "2"]
  with_command(monkeypatch, "data_tools.generate_sudoku", flags)
  result = commands(
    benchmark, "--json", "--data-dir", tmp_path, "--only", "sudoku"
  )
  assert 0.05 < result["sudoku"]["seconds"] < 60
  # An interpreter with numpy; Linux adds what this process held at the fork.
  held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert 10e6 < result["sudoku"]["peak_bytes"] < 1e9 + held
  assert list(tmp_path.iterdir()) == []


def test_a_builder_that_fails_is_named(monkeypatch, tmp_path):
  flags = ["--num-train", "0"]
  with_command(monkeypatch, "data_tools.generate_sudoku", flags)
  with pytest.raises(InputError, match=r"got 2 and: error: --num-train: ex"):
    benchmark.benchmark(tmp_path, ("sudoku",))


def test_missing_data_and_builders_get_one_line(
  commands, monkeypatch, tmp_path
):
  assert "got neither the flag nor HRM_DATA_DIR" in commands.error(benchmark)
  flags = ["--data-dir", tmp_path, "--only", "sudoku"]
  error = commands.error(benchmark, *flags)
  assert error.startswith(f"{tmp_path}/sudoku: expected a directory")
  with_command(monkeypatch, "data_tools.no_such_builder", [])
  error = commands.error(benchmark, *flags)
  assert error.startswith("data_tools.no_such_builder: expected this builder")

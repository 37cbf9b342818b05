"""Runs a command of ours inside the test's own process."""

import json
import signal
import sys
import types

import pytest

from hrm_jax import console
from hrm_jax.console import signals


class Commands:
  """Calls `main` of a module as `python -m` would, and reads what it says."""

  def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys):
    self._monkeypatch, self._capsys = monkeypatch, capsys

  def __call__(self, module: types.ModuleType, *flags: object) -> dict:
    """Runs a command that should succeed; returns its last line's JSON."""
    return json.loads(self.text(module, *flags).splitlines()[-1])

  def text(self, module: types.ModuleType, *flags: object) -> str:
    """Runs a command that should succeed; returns what it prints."""
    self._run(module, flags)
    return self._capsys.readouterr().out

  def error(self, module: types.ModuleType, *flags: object) -> str:
    """Runs a command that should exit with 2; returns its one line."""
    with pytest.raises(SystemExit) as exit_info:
      self._run(module, flags)
    captured = self._capsys.readouterr()
    assert exit_info.value.code == 2, captured.err
    assert captured.out == ""
    lines = [
      line for line in captured.err.splitlines() if line.startswith("error: ")
    ]
    assert len(lines) == 1, captured.err
    assert captured.err.endswith(lines[0] + "\n")
    return lines[0].removeprefix("error: ")

  def _run(self, module: types.ModuleType, flags: tuple) -> None:
    self._monkeypatch.setattr(sys, "argv", ["command", *map(str, flags)])
    handlers = console.log.handlers[:]
    before = {n: signal.getsignal(n) for n in signals.that_end()}
    try:
      console.run(module.main)
    finally:
      # The handler holds this test's stderr, which closes with the test.
      console.log.handlers[:] = handlers
      for number, handler in before.items():
        signal.signal(number, handler)


def files_of(root) -> dict[str, bytes]:
  """Every file under a directory, by its path."""
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in sorted(root.rglob("*"))
    if path.is_file()
  }

"""Every command of docs/tutorial.md, in order; and the pictures of docs/."""

import configparser
import importlib
import json
import os
import pathlib
import re
import subprocess

import pytest

from tests.commands import Commands

ROOT = pathlib.Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial.md"

# What makes the run that of `tiny.py`, whose programs are compiled already.
SHRUNK = (
  "--config.data.num_train=40",
  "--config.data.num_test=27",
  "--config.data.num_aug=3",
  "--config.model.hidden_size=16",
  "--config.model.num_heads=2",
  "--config.model.halt_max_steps=3",
  "--config.model.H_layers=1",
  "--config.model.L_layers=1",
  "--config.model.expansion=1.0",
  "--config.global_batch_size=16",
  "--config.epochs=4",
  "--config.eval_interval=2",
  "--config.lr_warmup_steps=2",
  "--config.log_every=1",
)


def blocks(text):
  """The commands of a page: all its fenced blocks of bash."""
  return re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def as_bash_reads_them(script, folder):
  """The words of every command, after bash has expanded loops and quotes."""
  tools = folder / "tools"
  tools.mkdir()
  for name in ("python", "python3", "pip"):
    tool = tools / name
    # One line for each word, and an empty one behind the command.
    tool.write_text(
      f"#!/bin/sh\nprintf '%s\\n' {name} \"$@\" '' >>\"$ASKED\"\n"
    )
    tool.chmod(0o755)
  (folder / ".venv/bin").mkdir(parents=True)
  (folder / ".venv/bin/activate").touch()
  subprocess.run(
    ["bash", "-euc", script],
    cwd=folder,
    env={
      "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
      "ASKED": str(folder / "asked"),
    },
    check=True,
  )
  asked = (folder / "asked").read_text().split("\n\n")
  return [command.splitlines() for command in asked if command]


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs(tmp_path, monkeypatch, capsys):
  asked = as_bash_reads_them(
    "\n".join(blocks(TUTORIAL.read_text(encoding="utf-8"))), tmp_path
  )
  ours = [words[2:] for words in asked if words[:2] == ["python", "-m"]]
  assert [words for words in asked if words[:2] != ["python", "-m"]] == [
    ["python3", "-m", "venv", ".venv"],
    ["pip", "install", "-e", ".[plot]"],
  ]
  monkeypatch.chdir(tmp_path)
  command = Commands(monkeypatch, capsys)
  said = {}
  for name, *words in ours:
    module = importlib.import_module(f"{name}.__main__")
    more = SHRUNK if name == "hrm_jax.train" else ()
    said.setdefault(name, []).append(command.text(module, *words, *more))
  assert list(said) == [
    f"hrm_jax.{name}" for name in ("train", "evaluate", "solve", "view", "plot")
  ]
  for text in said["hrm_jax.train"]:
    assert json.loads(text.splitlines()[-1])["ended"] == "finished"
  assert said["hrm_jax.solve"][0].startswith("puzzle:\n. 4 | 1 .\n")
  assert (tmp_path / "report.html").stat().st_size > 0
  made = json.loads(said["hrm_jax.plot"][0].splitlines()[-1])
  assert made["lines"] == {"mini": 3}
  # The pictures of the page are among what it has drawn.
  drawn = {name for files in made["figures"].values() for name in files}
  assert {path.name for path in pictures(TUTORIAL)} <= drawn


def pictures(page):
  """The picture files that a page shows."""
  text = page.read_text(encoding="utf-8")
  return [
    page.parent / name for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
  ]


def test_every_picture_is_shown_and_comes_from_a_command_of_its_page():
  shown = {}
  for page in (ROOT / "README.md", *DOCS.glob("*.md")):
    commands = "\n".join(blocks(page.read_text(encoding="utf-8")))
    for picture in pictures(page):
      assert picture.is_file(), f"{page.name}: {picture}"
      assert re.search(rf"\b{re.escape(picture.stem)}\b", commands), picture
      shown[picture.resolve()] = page
  kept = [*(DOCS / "img").iterdir(), *(DOCS / "results").glob("*/*.svg")]
  assert set(shown) == {path.resolve() for path in kept}
  for picture in shown:
    assert picture.stat().st_size < 100_000, picture


def test_the_extras_that_pages_install_exist():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  known = set(setup["options.extras_require"])
  for page in (ROOT / "README.md", *DOCS.glob("*.md")):
    text = page.read_text(encoding="utf-8")
    asked = re.findall(r"install (?:-e )?'[\w.]*\[([\w,]+)\]'", text)
    assert set(",".join(asked).split(",")) - {""} <= known, page


def test_the_results_draw_the_figures_beside_them(
  tmp_path, monkeypatch, capsys
):
  pytest.importorskip("matplotlib")
  page = (DOCS / "results.md").read_text(encoding="utf-8")
  scripts = [s for s in blocks(page) if "--beside" in s]
  monkeypatch.chdir(ROOT)
  command = Commands(monkeypatch, capsys)
  drawn = []
  for number, script in enumerate(scripts):
    folder = tmp_path / str(number)
    folder.mkdir()
    (words,) = as_bash_reads_them(script, folder)
    _, _, module, *arguments = words
    (out,) = (a for a in arguments if a.startswith("--out="))
    arguments[arguments.index(out)] = f"--out={folder / 'drawn'}"
    command(importlib.import_module(f"{module}.__main__"), *arguments)
    for table in (folder / "drawn").glob("*.csv"):
      kept = ROOT / out.removeprefix("--out=") / table.name
      assert kept.read_text() == table.read_text()
      drawn.append(kept)
  assert sorted(drawn) == sorted((DOCS / "results").glob("*/*.csv"))
  assert drawn

"""The builder of own tasks: lines in, padded grids out, bad lines refused."""

import csv
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from data_tools import build_grid, check
from hrm_jax.data import puzzle
from tests.commands import Commands, files_of

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "own_task.md"


@pytest.fixture
def commands(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.mark.parametrize("name", ["a", "line 3", "<blank>"])
def test_two_puzzles_of_one_name_are_refused(tmp_path, commands, name):
  grids = {"input": [[1]], "output": [[2]]}
  lines = [
    {**grids, "split": "train", "group": "a"},
    {**grids, "split": "train", "id": name},
    {**grids, "split": "test"},
  ]
  source = write_jsonl(tmp_path / "own.jsonl", lines)
  out = tmp_path / "out"
  error = commands.error(
    build_grid,
    f"--output-dir={out}",
    f"--source={source}",
    "--identifiers=per-group",
  )
  line = 3 if name == "line 3" else 2
  assert error == (
    f"{source}: line {line}: expected a name that no puzzle before has, got "
    f"'{name}'."
  )
  assert not out.exists()


def write_jsonl(path, lines):
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def load(root, split):
  return {
    field: np.load(puzzle.field_path(root, split, "all", field))
    for field in puzzle.FIELDS
  }


def example(split="train", **more):
  grids = {"input": [[0, 1]], "output": [[1, 0]]}
  return {**grids, "split": split, **more}


GOOD = [
  {"id": "a", "input": [[0, 1, 2]], "output": [[2], [1]], "split": "train"},
  {"id": 7, "input": [[3]], "output": [[0]], "split": "train", "more": {}},
  {"id": "b", "input": [[1], [1]], "output": [[3]], "split": "test"},
]


def test_grids_are_padded_to_the_largest(tmp_path, commands):
  source = write_jsonl(tmp_path / "task.jsonl", GOOD)
  out = tmp_path / "out"
  counts = commands(build_grid, "--source", source, "--output-dir", out)
  assert counts["train"] == {"groups": 2, "puzzles": 2, "examples": 2}
  train, test = load(out, "train"), load(out, "test")
  assert train["inputs"].tolist() == [[1, 2, 3, 0, 0, 0], [4, 0, 0, 0, 0, 0]]
  assert train["labels"].tolist() == [[3, 0, 0, 2, 0, 0], [1, 0, 0, 0, 0, 0]]
  assert test["inputs"].tolist() == [[2, 0, 0, 2, 0, 0]]
  assert train["inputs"].dtype == np.uint8
  metadata = puzzle.read_metadata(out, "train")
  assert (metadata.seq_len, metadata.vocab_size) == (6, 5)
  assert metadata.num_puzzle_identifiers == 1
  build = json.loads((out / "build.json").read_text())
  assert build["puzzle"] == "grid"
  assert (build["rows"], build["columns"]) == (2, 3)
  assert check.check(out)["puzzle"] == "grid"


def test_a_maximum_may_be_given(tmp_path):
  source = write_jsonl(tmp_path / "task.jsonl", GOOD)
  build_grid.build(tmp_path / "out", source=source, max_rows=4, max_columns=5)
  assert puzzle.read_metadata(tmp_path / "out", "test").seq_len == 20


def test_a_table_of_strings_needs_a_charset(tmp_path):
  source = tmp_path / "task.csv"
  with source.open("w", encoding="utf-8-sig", newline="") as file:
    write = csv.writer(file).writerow
    write(["split", "output", "comment", "input"])
    write(["train", "é#\r\n##", "", "##\n# "])
    write([])
    write(["test", "#", "x", "é"])
  build = build_grid.build(tmp_path / "out", source=source, charset="# é")
  assert build["charset"] == "# é"
  train = load(tmp_path / "out", "train")
  assert train["inputs"].tolist() == [[1, 1, 1, 2]]
  assert train["labels"].tolist() == [[3, 1, 1, 1]]
  assert puzzle.read_metadata(tmp_path / "out", "train").vocab_size == 4


def test_a_group_is_one_puzzle_with_an_identifier_of_its_own(tmp_path):
  lines = [
    example(group="x"),
    example(group="y"),
    {**example(group="x"), "input": [[1, 1]]},
    example("test", group="y"),
    example("test", id="alone"),
  ]
  source = write_jsonl(tmp_path / "task.jsonl", lines)
  out = tmp_path / "out"
  build_grid.build(out, source=source, identifiers="per-group")
  train, test = load(out, "train"), load(out, "test")
  assert train["inputs"].tolist() == [[1, 2], [2, 2], [1, 2]]
  assert train["puzzle_indices"].tolist() == [0, 2, 3]
  assert train["group_indices"].tolist() == [0, 1, 2]
  assert train["puzzle_identifiers"].tolist() == [1, 2]
  assert test["puzzle_identifiers"].tolist() == [2, 3]
  names = json.loads((out / "identifiers.json").read_text())
  assert names == ["<blank>", "x", "y", "alone"]
  assert puzzle.read_metadata(out, "train").mean_puzzle_examples == 1.5
  check.check(out)


@pytest.mark.parametrize(
  "grid",
  ["##\n# ", ["##", "# "], [["#", "#"], ["#", " "]]],
  ids=["text", "row_texts", "characters"],
)
def test_a_grid_of_characters_may_be_written_in_many_ways(grid, tmp_path):
  source = write_jsonl(
    tmp_path / "task.jsonl",
    [
      {"input": grid, "output": ["#"], "split": split}
      for split in ("train", "test")
    ],
  )
  build_grid.build(tmp_path / "out", source=source, charset="# ")
  assert load(tmp_path / "out", "test")["inputs"].tolist() == [[1, 1, 1, 2]]


def test_an_array_or_an_object_of_splits_is_read_like_lines(tmp_path, commands):
  write_jsonl(tmp_path / "task.jsonl", GOOD)
  split_of = {split: [] for split in ("train", "test")}
  for line in GOOD:
    split_of[line["split"]].append({k: line[k] for k in line if k != "split"})
  for name, value in (("array", GOOD), ("object", split_of)):
    (tmp_path / f"{name}.json").write_text(json.dumps(value, indent=1))
  expected = None
  for name in ("task.jsonl", "array.json", "object.json"):
    out = tmp_path / "out" / name
    commands(build_grid, "--source", tmp_path / name, "--output-dir", out)
    files = files_of(out)
    del files["build.json"]  # It holds the digest of the source.
    expected = expected or files
    assert files == expected


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("[1]", "task.json: entry 1: expected a JSON object, got 1"),
    ('[{"input": [[1]]}]', "task.json: entry 1: key 'output' is missing"),
    ('{"test": [7]}', "task.json: test[0]: expected a JSON object, got 7"),
    ("{}", "task.json: expected an array of examples, or an object with the"),
    ("3", "task.json: expected an array of examples, or an object with the"),
    ("[1,\n2", "not JSON (Expecting ',' delimiter at line 2, character 2)"),
    ("[]", "expected an example, got none"),
    (
      '[{"input": ["12"], "output": [[1]]}]',
      "got strings, for which a charset",
    ),
  ],
)
def test_bad_entries_get_one_line(text, message, tmp_path, commands):
  source = tmp_path / "task.json"
  source.write_text(text)
  flags = ["--source", source, "--output-dir", tmp_path / "out"]
  assert message in commands.error(build_grid, *flags)
  assert list(tmp_path.iterdir()) == [source]


def test_a_cell_is_one_character(tmp_path, commands):
  line = {"input": [["# "]], "output": "#", "split": "train"}
  source = write_jsonl(tmp_path / "task.jsonl", [line])
  flags = ["--source", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_grid, *flags, "--charset", "# ")
  assert "column 1: expected a character of the charset '# ', got '# '" in error


def test_test_inputs_that_stand_in_training_are_counted(tmp_path, monkeypatch):
  lines = []
  monkeypatch.setattr(build_grid.overlap.log, "warning", lines.append)
  source = write_jsonl(
    tmp_path / "task.jsonl",
    [
      example(group="x"),
      example("test", group="x"),
      example("test", group="y"),
      example("test", group="x", input=[[0], [1]]),
    ],
  )
  for identifiers, equal in (("shared", 2), ("per-group", 1)):
    out = tmp_path / identifiers
    built = build_grid.build(out, source=source, identifiers=identifiers)
    assert built["test_in_train"] == {"equal": equal, "images": None}
    assert check.check(out)["test_in_train"] == built["test_in_train"]
  assert f"{equal} of 3 test puzzles" in lines[-1]


def test_the_seed_draws_whole_groups_for_the_test(tmp_path):
  lines = [
    {"input": [[i]], "output": [[i]], "group": i // 4} for i in range(40)
  ]
  source = write_jsonl(tmp_path / "task.jsonl", lines)
  for name, seed in (("a", 1), ("b", 1), ("c", 2)):
    build_grid.build(
      tmp_path / name, source=source, test_fraction=0.3, seed=seed
    )
  first, same, other = (files_of(tmp_path / name) for name in "abc")
  assert first == same
  assert first["test/all__inputs.npy"] != other["test/all__inputs.npy"]
  test = load(tmp_path / "a", "test")
  assert test["puzzle_indices"].tolist() == [0, 4, 8, 12]
  train = load(tmp_path / "a", "train")
  both = np.concatenate([test["inputs"], train["inputs"]])
  assert sorted(both.ravel()) == list(range(1, 41))


def line_with(**changed):
  return json.dumps({**GOOD[0], **changed})


BAD = {
  "not_json": ('{"input": ', "expected a JSON object, got text that is not"),
  "not_an_object": ("[1]", "expected a JSON object, got [1]"),
  "no_output": ('{"input": [[1]]}', "key 'output' is missing"),
  "no_rows": (line_with(input=[]), "key 'input': expected rows with at least"),
  "no_cells": (line_with(output=[[]]), "key 'output': expected rows with at"),
  "flat": (
    line_with(input=[1, 2]),
    "key 'input': row 1: expected a list, got 1",
  ),
  "ragged": (
    line_with(output=[[1, 2], [1]]),
    "key 'output': row 2: expected 2 cells as in row 1, got 1",
  ),
  "row_is_number": (
    line_with(output=[[1], 2]),
    "key 'output': row 2: expected a list, got 2",
  ),
  "negative": (
    line_with(input=[[0, -1]]),
    "key 'input': row 1, column 2: expected an integer in 0..254, got -1",
  ),
  "too_large": (line_with(input=[[255]]), "in 0..254, got 255"),
  "fraction": (line_with(input=[[1.0]]), "in 0..254, got 1.0"),
  "bool": (line_with(input=[[True]]), "in 0..254, got True"),
  "string": (line_with(input="12"), "expected rows of integers, got a string"),
  "split": (line_with(split="val"), "key 'split': expected 'train' or 'test'"),
  "no_split": (
    line_with(id="c", split=None),
    "expected it in every line or in none",
  ),
  "group": (line_with(group=[1]), "key 'group': expected a name, got [1]"),
  "id_twice": (line_with(), "key 'id': expected one of its own, got 'a' as in"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_get_one_line(case, tmp_path, commands):
  text, message = BAD[case]
  source = tmp_path / "task.jsonl"
  good = [json.dumps(line) for line in GOOD]
  source.write_text("\n".join([*good, text, ""]))
  error = commands.error(
    build_grid, "--source", source, "--output-dir", tmp_path / "made" / "out"
  )
  assert error.startswith(f"{source}: line 4: ")
  assert message in error
  assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
  ("text", "line", "message"),
  [
    ("", 1, "a header with one column 'input', got 'an empty line'"),
    ("input,split\n", 1, "one column 'output'"),
    ("input,output,input\n", 1, "one column 'input'"),
    ("input,output\n", 1, "expected an example, got no more lines"),
    ("input,output\n1,1\n1\n", 3, "expected 2 fields, got 1"),
    ("input,output\n1,1\n1,\n", 3, "key 'output' is missing"),
    ("input,output\n1,1\n1,14\n", 3, "expected a character of the charset"),
    ('input,output\n"1\n1",1\n1,x\n', 4, "key 'output': row 1, column 1: "),
    ('input,output\n1,1\n1,"1\n', 3, "not valid CSV"),
  ],
)
def test_bad_tables_get_one_line(text, line, message, tmp_path, commands):
  source = tmp_path / "task.csv"
  source.write_text(text)
  flags = ["--source", source, "--output-dir", tmp_path / "out"]
  error = commands.error(build_grid, *flags, "--charset", "123")
  assert error.startswith(f"{source}: line {line}: ")
  assert message in error
  assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--max-rows", 1], "line 1: key 'output': expected at most 1 row ("),
    (["--max-columns", 0], "--max-columns: expected at least 1, got 0"),
    (["--seed", -1], "--seed: expected at least 0, got -1"),
    (["--test-fraction", 1.5], "--test-fraction: expected a number between"),
    (["--test-fraction", 0.5], "expected none beside --test-fraction"),
    (["--charset", "112"], "--charset: expected different characters"),
    (["--charset", ""], "--charset: expected 1 to 255 characters, got 0"),
    (["--charset", "123"], "column 1: expected a character of the charset '1"),
    (["--source", "nowhere.jsonl"], "nowhere.jsonl: cannot read: No such file"),
    (["--source", "task.txt"], "task.txt: expected a name that ends in .jsonl"),
  ],
)
def test_impossible_requests_get_one_line(flags, message, tmp_path, commands):
  source = write_jsonl(tmp_path / "task.jsonl", GOOD)
  out = tmp_path / "out"
  error = commands.error(
    build_grid, "--source", source, "--output-dir", out, *flags
  )
  assert message in error
  assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    ([example()], "expected lines of both splits, got none with 'test'"),
    ([example(None)], "line 1: key 'split' is missing; write"),
  ],
)
def test_both_splits_are_needed(lines, message, tmp_path, commands):
  source = write_jsonl(tmp_path / "task.jsonl", lines)
  error = commands.error(
    build_grid, "--source", source, "--output-dir", tmp_path / "out"
  )
  assert message in error


def test_text_that_is_not_utf8_is_located(tmp_path, commands):
  source = write_jsonl(tmp_path / "task.jsonl", GOOD)
  source.write_bytes(source.read_bytes() + b'{"id": "\xe9"}\n')
  error = commands.error(
    build_grid, "--source", source, "--output-dir", tmp_path / "out"
  )
  assert "task.jsonl: line 4: expected UTF-8 text, got byte 0xe9" in error


def test_the_documents_script_builds(tmp_path, commands):
  text = DOCUMENT.read_text(encoding="utf-8")
  (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
  flags = ["--source", tmp_path / "rotate.jsonl"]
  counts = commands(build_grid, *flags, "--output-dir", tmp_path / "out")
  assert counts["train"]["examples"] == 3500
  assert counts["test"]["examples"] == 500
  assert check.check(tmp_path / "out")["puzzle"] == "grid"
  test = load(tmp_path / "out", "test")
  grids = [test[f][0].reshape(5, 5) for f in ("inputs", "labels")]
  question, answer = (g[g.any(1)][:, g.any(0)] for g in grids)
  np.testing.assert_array_equal(answer, np.rot90(question, -1))

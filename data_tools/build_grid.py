"""Builds a data set from your own task: pairs of rectangular grids.

  python -m data_tools.build_grid --output-dir data/rotate --source rotate.jsonl

A .jsonl file holds one example a line, {"input": GRID, "output": GRID} with
optional "id", "split" ("train" or "test") and "group"; a .csv file has columns
of these names. A GRID is a list of rows of integers, or a string with a line
end between rows, for which --charset lists the characters. Smaller grids are
padded at the right and at the bottom.
"""

import argparse
import csv
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data_tools import writer
from hrm_jax import console
from hrm_jax.console import InputError

KEYS = ("input", "output", "id", "split", "group")
# Token ids are bytes, and 0 is PAD.
MOST_SYMBOLS = 255

_EXAMPLES_AT_ONCE = 8192


class Example(NamedTuple):
  """A line of the source, checked."""

  line: int  # where it stands in the file, from 1
  input: np.ndarray  # [rows, columns] uint8 symbols, 0 for the first
  output: np.ndarray  # [rows, columns] uint8, of its own size
  id: str | None
  split: str | None  # one of writer.SPLITS
  group: str | None

  @property
  def puzzle(self) -> tuple[str, str | int]:
    """What the examples of one puzzle share."""
    if self.group is not None:
      return "group", self.group
    return "line", self.line

  @property
  def name(self) -> str:
    """What the puzzle is called in identifiers.json."""
    return self.group or self.id or f"line {self.line}"


def build(
  output_dir: str | os.PathLike,
  *,
  source: str | os.PathLike,
  charset: str | None = None,
  max_rows: int | None = None,
  max_columns: int | None = None,
  identifiers: str = "shared",
  test_fraction: float | None = None,
  seed: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Builds the data set; the arguments are the command's flags.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument or a line is not as it should be; nothing is left
      behind.
  """
  for flag, value, least in (
    ("--max-rows", max_rows, 1),
    ("--max-columns", max_columns, 1),
    ("--seed", seed, 0),
  ):
    if value is not None and value < least:
      raise InputError(f"{flag}: expected at least {least}, got {value}.")
  if test_fraction is not None and not 0 < test_fraction < 1:
    raise InputError(
      f"--test-fraction: expected a number between 0 and 1, got "
      f"{test_fraction}."
    )
  if charset is not None:
    _check_charset(charset)
  source = str(source)
  examples = read_examples(
    source, charset=charset, most=(max_rows, max_columns)
  )
  splits = _split(
    source, examples, test_fraction, identifiers, np.random.default_rng(seed)
  )
  grids = [grid for e in examples for grid in (e.input, e.output)]
  shape = (
    max_rows or max(len(grid) for grid in grids),
    max_columns or max(grid.shape[1] for grid in grids),
  )
  symbols = charset and len(charset)
  symbols = symbols or 1 + max(int(grid.max()) for grid in grids)
  names, numbers = _number(examples, identifiers)
  with writer.DatasetWriter(
    output_dir,
    seq_len=shape[0] * shape[1],
    vocab_size=symbols + 1,
    overwrite=overwrite,
  ) as dataset:
    for split, chosen in splits.items():
      _write_split(dataset, split, chosen, shape, numbers)
    return dataset.finish(
      identifiers=names,
      build={
        "builder": "build_grid",
        "puzzle": "grid",
        "rows": shape[0],
        "columns": shape[1],
        "charset": charset,
        "seed": seed,
        "source": {
          "sha256": {os.path.basename(source): writer.file_digest(source)}
        },
        "arguments": {
          "identifiers": identifiers,
          "test_fraction": test_fraction,
        },
      },
    )


def read_examples(
  path: str, *, charset: str | None, most: tuple[int | None, int | None]
) -> list[Example]:
  """Reads and checks a .jsonl or .csv file.

  Args:
    path: the file.
    charset: the characters of grids that are strings; None: of integers.
    most: rows and columns a grid may have; None: any number.

  Raises:
    InputError: names the file, the line (from 1, the header included) and
      the key, what was expected and what came.
  """
  readers = {".jsonl": _read_jsonl, ".csv": _read_csv}
  read = readers.get(os.path.splitext(path)[1].lower())
  if read is None:
    raise InputError(f"{path}: expected a name that ends in .jsonl or .csv.")
  examples, ids = [], {}
  try:
    with (
      # utf-8-sig drops a byte order mark.
      open(path, encoding="utf-8-sig", newline="") as file,
      console.Progress(f"reading {path}", None, unit="lines") as bar,
    ):
      for line, values in read(path, file):
        where = f"{path}: line {line}"
        example = _parse(where, line, values, charset, most)
        if example.id is not None:
          first = ids.setdefault(example.id, line)
          if first != line:
            raise InputError(
              f"{where}: key 'id': expected one of its own, got "
              f"{example.id!r:.60} as in line {first}."
            )
        examples.append(example)
        bar.advance()
  except UnicodeDecodeError as error:
    raise InputError(
      f"{path}: line {_line_of_bad_text(path)}: expected UTF-8 text, got byte "
      f"0x{error.object[error.start]:02x}."
    ) from None
  except OSError as error:
    raise InputError(f"{path}: cannot read: {error.strerror}.") from None
  if not examples:
    raise InputError(f"{path}: line 1: expected an example, got no more lines.")
  return examples


def _check_charset(charset: str) -> None:
  if not 1 <= len(charset) <= MOST_SYMBOLS:
    raise InputError(
      f"--charset: expected 1 to {MOST_SYMBOLS} characters, got {len(charset)}."
    )
  for character in charset:
    if charset.count(character) > 1 or character in "\r\n":
      raise InputError(
        f"--charset: expected different characters, none of them a line end, "
        f"got {character!r}."
      )


def _read_jsonl(path: str, file: Any) -> Iterator[tuple[int, dict]]:
  for line, text in enumerate(file, 1):
    if not text.strip():
      continue
    try:
      value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
      raise InputError(
        f"{path}: line {line}: expected a JSON object, got text that is not "
        f"JSON ({error})."
      ) from None
    if not isinstance(value, dict):
      raise InputError(
        f"{path}: line {line}: expected a JSON object, got {value!r:.40}."
      )
    yield line, value


def _read_csv(path: str, file: Any) -> Iterator[tuple[int, dict]]:
  reader = csv.reader(file, strict=True)
  try:
    header = next(reader, [])
    for name in KEYS:
      wanted = name in ("input", "output")
      if header.count(name) > 1 or (wanted and name not in header):
        raise InputError(
          f"{path}: line 1: expected a header with one column '{name}', got "
          f"{','.join(header) or 'an empty line'!r:.200}."
        )
    line = reader.line_num + 1
    for row in reader:
      if row and len(row) != len(header):
        raise InputError(
          f"{path}: line {line}: expected {len(header)} fields, got {len(row)}."
        )
      if row:
        cells = zip(header, row, strict=True)
        # An empty field is one that is not there.
        yield line, {name: cell for name, cell in cells if cell}
      line = reader.line_num + 1
  except csv.Error as error:
    raise InputError(
      f"{path}: line {reader.line_num}: not valid CSV ({error})."
    ) from None


def _parse(
  where: str,
  line: int,
  values: dict,
  charset: str | None,
  most: tuple[int | None, int | None],
) -> Example:
  """Checks the values of one line."""
  grids = []
  for key in ("input", "output"):
    if key not in values:
      raise InputError(f"{where}: key '{key}' is missing.")
    grids.append(_parse_grid(f"{where}: key '{key}'", values[key], charset))
    for size, limit, what in zip(
      grids[-1].shape, most, ("rows", "columns"), strict=True
    ):
      if limit is not None and size > limit:
        raise InputError(
          f"{where}: key '{key}': expected at most {limit} {what} "
          f"(--max-{what}), got {size}."
        )
  names = {}
  for key in ("id", "split", "group"):
    value = values.get(key)
    number = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not number and not isinstance(value, str):
      raise InputError(
        f"{where}: key '{key}': expected a name, got {value!r:.40}."
      )
    names[key] = None if value is None else str(value)
  if names["split"] not in (None, *writer.SPLITS):
    raise InputError(
      f"{where}: key 'split': expected 'train' or 'test', got "
      f"{names['split']!r:.40}."
    )
  return Example(line, *grids, **names)


def _parse_grid(where: str, value: Any, charset: str | None) -> np.ndarray:
  """[rows, columns] uint8 symbols of a string or of lists of integers."""
  if charset is None:
    if isinstance(value, str):
      raise InputError(
        f"{where}: expected rows of integers, got a string; --charset lists "
        "the characters of strings."
      )
    rows = value
  else:
    if not isinstance(value, str):
      raise InputError(
        f"{where}: expected a string, as --charset is given, got {value!r:.40}."
      )
    rows = value.replace("\r\n", "\n").removesuffix("\n").split("\n")
  if not isinstance(rows, list) or not rows or not rows[0]:
    raise InputError(
      f"{where}: expected rows with at least one cell, got {value!r:.40}."
    )
  for i, row in enumerate(rows, 1):
    if not isinstance(row, list | str):
      raise InputError(f"{where}: row {i}: expected a list, got {row!r:.40}.")
    if len(row) != len(rows[0]):
      raise InputError(
        f"{where}: row {i}: expected {len(rows[0])} cells as in row 1, got "
        f"{len(row)}."
      )
    for j, cell in enumerate(row, 1):
      if charset is None:
        # A bool is an int to Python, but not to the one who wrote the file.
        good = type(cell) is int and 0 <= cell < MOST_SYMBOLS
        expected = f"an integer in 0..{MOST_SYMBOLS - 1}"
      else:
        good = cell in charset
        expected = f"a character of --charset {charset!r:.60}"
      if not good:
        raise InputError(
          f"{where}: row {i}, column {j}: expected {expected}, got "
          f"{cell!r:.40}."
        )
  if charset is not None:
    rows = [[charset.index(cell) for cell in row] for row in rows]
  return np.array(rows, np.uint8)


def _split(
  path: str,
  examples: list[Example],
  test_fraction: float | None,
  identifiers: str,
  rng: np.random.Generator,
) -> dict[str, list[Example]]:
  """The examples of each split, in order."""
  first = examples[0]
  for example in examples:
    if (example.split is None) != (first.split is None):
      raise InputError(
        f"{path}: line {example.line}: key 'split': expected it in every line "
        f"or in none, got {example.split!r} here and {first.split!r} in line "
        f"{first.line}."
      )
  if first.split is None:
    if test_fraction is None:
      raise InputError(
        f"{path}: line {first.line}: key 'split' is missing; write 'train' or "
        "'test' in every line, or pass --test-fraction."
      )
    # A puzzle that is seen whole in one split teaches nothing about itself in
    # the other. With an identifier per group the test needs known groups.
    whole = identifiers == "shared"
    keys = [e.puzzle if whole else e.line for e in examples]
    puzzles = list(dict.fromkeys(keys))
    if len(puzzles) < 2:
      raise InputError(
        f"{path}: expected at least 2 puzzles to split (--test-fraction), got "
        f"{len(puzzles)}."
      )
    size = round(test_fraction * len(puzzles))
    size = min(max(size, 1), len(puzzles) - 1)
    drawn = rng.choice(len(puzzles), size, replace=False)
    test = {puzzles[i] for i in drawn}
    splits = ["test" if key in test else "train" for key in keys]
  elif test_fraction is not None:
    raise InputError(
      f"{path}: line {first.line}: key 'split': expected none beside "
      f"--test-fraction, got {first.split!r}."
    )
  else:
    splits = [example.split for example in examples]
  chosen = {
    split: [e for e, s in zip(examples, splits, strict=True) if s == split]
    for split in writer.SPLITS
  }
  for split, some in chosen.items():
    if not some:
      raise InputError(
        f"{path}: key 'split': expected lines of both splits, got none with "
        f"'{split}'."
      )
  return chosen


def _number(
  examples: list[Example], identifiers: str
) -> tuple[list[str], dict[tuple, int]]:
  """The names of the identifiers, and the identifier of each puzzle."""
  names, numbers = ["<blank>"], {}
  for example in examples:
    if example.puzzle not in numbers:
      numbers[example.puzzle] = writer.BLANK_IDENTIFIER_ID
      if identifiers == "per-group":
        numbers[example.puzzle] = len(names)
        names.append(example.name)
  return names, numbers


def _write_split(
  dataset: writer.DatasetWriter,
  split: str,
  examples: list[Example],
  shape: tuple[int, int],
  numbers: dict[tuple, int],
) -> None:
  """Writes the examples, gathered into puzzles; one puzzle a group."""
  puzzles: dict[tuple, list[Example]] = {}
  for example in examples:
    puzzles.setdefault(example.puzzle, []).append(example)
  gathered = [e for together in puzzles.values() for e in together]
  with console.Progress(
    f"writing {split}", len(gathered), unit="examples"
  ) as bar:
    for start in range(0, len(gathered), _EXAMPLES_AT_ONCE):
      some = gathered[start : start + _EXAMPLES_AT_ONCE]
      inputs, labels = np.full((2, len(some), *shape), writer.PAD_ID, np.uint8)
      for i, example in enumerate(some):
        for tokens, grid in (
          (inputs[i], example.input),
          (labels[i], example.output),
        ):
          tokens[: grid.shape[0], : grid.shape[1]] = grid + np.uint8(1)
      rows = (len(some), -1)
      dataset.add_examples(split, inputs.reshape(rows), labels.reshape(rows))
      bar.advance(len(some))
  dataset.add_puzzles(
    split,
    identifiers=np.array([numbers[key] for key in puzzles]),
    examples_per_puzzle=np.array(list(map(len, puzzles.values()))),
    puzzles_per_group=np.ones(len(puzzles)),
  )


def _line_of_bad_text(path: str) -> int:
  """The first line, from 1, that is not UTF-8."""
  with open(path, "rb") as file:
    for line, data in enumerate(file, 1):
      try:
        data.decode("utf-8")
      except UnicodeDecodeError:
        return line
  raise AssertionError("the file was not UTF-8 a moment ago")


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = argparse.ArgumentParser(
    prog="python -m data_tools.build_grid",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--output-dir", required=True, help="directory to create")
  add("--source", required=True, metavar="FILE", help="a .jsonl or a .csv file")
  add(
    "--charset",
    metavar="CHARACTERS",
    help="every character that may stand in a grid (needed for strings, so "
    "for .csv)",
  )
  add(
    "--max-rows", type=int, help="of a grid (default: the largest in the file)"
  )
  add(
    "--max-columns",
    type=int,
    help="of a grid (default: the largest in the file)",
  )
  add(
    "--identifiers",
    choices=("shared", "per-group"),
    default="shared",
    help="one puzzle identifier for all, or one for each group: a task that "
    "is learned from its examples (default: %(default)s)",
  )
  add(
    "--test-fraction",
    type=float,
    help="share of the groups to hold out for the test, at random, where no "
    "line has a split (with --identifiers per-group: of the lines)",
  )
  add("--seed", type=int, default=0, help="of all random choices (default: 0)")
  add("--overwrite", action="store_true", help="replace an existing data set")
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": flags["output_dir"], **built["counts"]})


if __name__ == "__main__":
  console.run(main)

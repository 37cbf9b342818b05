"""A checkpoint of the reference, as weights and a run record of ours.

Every tensor of the file has its place, and every place its tensor; whatever
the tensors do not say comes from `all_config.yaml` and from the data set. What
neither says must be given: nothing is guessed.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from hrm_jax.checkpoint import (
  manifest,
  run_record,
  torch_config,
  torch_file,
  torch_names,
)
from hrm_jax.checkpoint.flags import KEEP, MAP
from hrm_jax.checkpoint.torch_file import Described, TorchFile
from hrm_jax.console import InputError, counted, expand_home, log, printable
from hrm_jax.data import identifiers, puzzle_kind
from hrm_jax.data.puzzle import DatasetMetadata, metadata_path
from hrm_jax.data.split import check_splits_agree, digest, open_split
from hrm_jax.model.build import check_arch, make_model
from hrm_jax.model.weights import Weights, num_table_rows

# What torch.compile puts before every name.
_COMPILED = "_orig_mod."

# What the tensors of a checkpoint may be; each is a float32 number.
_DTYPES = ("float32", "bfloat16", "float16")


class Imported(NamedTuple):
  """A checkpoint of the reference, read and checked.

  Attributes:
    step: updates that the weights have seen.
    run: the run record, see `run_record.describe`.
    weights: NumPy arrays, with the rows that a run's puzzle table has.
    notes: what was done with the keys and the table, for a person.
  """

  step: int
  run: dict[str, Any]
  weights: Weights
  notes: dict[str, Any]


class _Data(NamedTuple):
  """What is known of the data.

  Attributes:
    metadata: describes them.
    digests: one per split; none without a data set.
    kind: of puzzle, if known.
    root: of the data set; None without one.
  """

  metadata: DatasetMetadata
  digests: dict[str, str]
  kind: str | None
  root: pathlib.Path | None


def read(
  path: pathlib.Path,
  *,
  config_path: pathlib.Path | None = None,
  data: pathlib.Path | None = None,
  seq_len: int | None = None,
  step: int | None = None,
  table: str | None = None,
) -> Imported:
  """Reads a checkpoint of the reference.

  Args:
    path: the file of torch.save.
    config_path: its configuration; None: `all_config.yaml` beside it.
    data: the data set that it was trained on; None: where its configuration
      says, if there is one.
    seq_len: cells per puzzle, where there is no data set.
    step: updates that it has seen; None: as a name "step_<N>" says, else 0.
    table: "keep", "reset" or "map=FILE"; None: it must agree with the data.

  Raises:
    InputError: file, configuration and data do not fit together, or one of
      them is missing or damaged.
  """
  with torch_file.opened(path) as file:
    names = _names(file)
    given = torch_config.read(
      config_path or path.parent / torch_config.FILE_NAME
    )
    config = given.config
    described = {name: file.tensors[full] for name, full in names.items()}
    _check_layers(path, described, config)
    rows = _num_rows(described)
    known = _find_data(path, config, data, seq_len, described, rows)
    check_arch(config.model)
    model = make_model(config.model, known.metadata)
    shapes = {name: each.shape for name, each in described.items()}
    differ = torch_names.differences(shapes, model, rows)
    if differ:
      raise InputError(
        f"{path}: its tensors do not fit {torch_config.FILE_NAME} and the data "
        f"set: {'; '.join(differ)}."
      )
    policy = _table_policy(path, table, rows, known, model.puzzle_width)
    named = {
      name: _numbers(file, name, full, config.model.forward_dtype)
      for name, full in names.items()
    }
  weights = torch_names.from_reference(named, model, rows)
  del named
  weights, known, table_note = _fitted(weights, rows, known, policy)
  if given.unused:
    log.info(
      f"keys of {torch_config.FILE_NAME} that mean nothing here: "
      f"{', '.join(given.unused)}"
    )
  source = {
    "file": path.name,
    "sha256": manifest.sha256_of(path),
    "prefix": _COMPILED if _COMPILED in next(iter(names.values())) else "",
    "unused": given.unused,
    "table": table_note,
  }
  run = run_record.describe(
    config, known.metadata, known.digests, puzzle=known.kind
  )
  run |= {"imported": source, run_record.WEIGHTS_ONLY: True}
  return Imported(_step(path, step), run, weights, source)


def _names(file: TorchFile) -> dict[str, str]:
  """The names of the tensors without a compiler's prefix, with those in it."""
  names: dict[str, str] = {}
  for full in file.tensors:
    name = full.removeprefix(_COMPILED)
    if name in names:
      raise InputError(
        f"{file.path}: tensor '{printable(name[:100])}' is there twice, with "
        f"and without {_COMPILED}"
      )
    names[name] = full
  if not names:
    raise InputError(f"{file.path}: expected tensors, got none.")
  return names


def _num_layers(names: Mapping[str, Any], level: str) -> int:
  pattern = re.escape(torch_names.PREFIX) + rf"{level}_level\.layers\.(\d+)\."
  found = (re.match(pattern, name) for name in names)
  return len({match[1] for match in found if match})


def _check_layers(
  path: pathlib.Path,
  described: Mapping[str, Described],
  config: ml_collections.ConfigDict,
) -> None:
  """Compares the depth first: no network of millions of blocks is built."""
  for level in "HL":
    got = _num_layers(described, level)
    said = config.model[f"{level}_layers"]
    if level == "H" and config.model.shared_level:
      said = 0
    if got != said:
      raise InputError(
        f"{path}: expected {counted(said, 'layer')} in {level}_level, as "
        f"{torch_config.FILE_NAME} says (arch.{level}_layers), got {got}."
      )


def _num_rows(described: Mapping[str, Described]) -> int:
  table = described.get(torch_names.TABLE)
  return table.shape[0] if table and table.shape else 0


def _find_data(
  path: pathlib.Path,
  config: ml_collections.ConfigDict,
  given: pathlib.Path | None,
  seq_len: int | None,
  described: Mapping[str, Described],
  rows: int,
) -> _Data:
  """What is known of the data; makes `config.data.path` say where they are."""
  root = given
  if root is None and seq_len is None:
    recorded = expand_home(config.data.path)
    if not metadata_path(recorded, "train").exists():
      raise InputError(
        f"{path}: the data set of {torch_config.FILE_NAME} (data_path: "
        f"{printable(config.data.path)}) is not there from where this runs, "
        "and the tensors do not say how many cells a puzzle has; say where the "
        "data set is with --data=DIR (to import the file as a run, --seq-len=N "
        "will do)."
      )
    root = recorded
  if root is not None:
    if seq_len is not None:
      raise InputError(
        f"--seq-len={seq_len}: expected either this or --data, got both."
      )
    train, test = (open_split(root, name) for name in ("train", "test"))
    check_splits_agree(train, test)
    config.data.path = str(root.absolute())
    digests = {"train": digest(train), "test": digest(test)}
    kind = puzzle_kind.kind_of(root, [train, test])
    return _Data(train.metadata, digests, kind, root)
  head = described.get(f"{torch_names.PREFIX}lm_head.weight")
  vocab_size = head.shape[0] if head and head.shape else 1
  # The three identifiers are what every builder of the reference writes.
  metadata = DatasetMetadata(
    pad_id=0,
    ignore_label_id=0,
    blank_identifier_id=0,
    vocab_size=vocab_size,
    seq_len=seq_len or 0,
    num_puzzle_identifiers=max(rows, 1),
    total_groups=0,
    mean_puzzle_examples=1.0,
    sets=("all",),
  )
  return _Data(metadata, {}, None, None)


def _table_policy(
  path: pathlib.Path,
  given: str | None,
  rows: int,
  known: _Data,
  width: int,
) -> str:
  """What becomes of the puzzle table.

  Raises:
    InputError: it has another number of rows than the data set has
      identifiers, and nobody said what to do; or there is nothing to do.
  """
  if not width:
    if given is not None:
      raise InputError(f"--table={given}: {path} has no puzzle table.")
    return KEEP
  wanted = known.metadata.num_puzzle_identifiers
  if given is None and rows != wanted:
    raise InputError(
      f"{path}: its puzzle table has {counted(rows, 'row')}, but the data set "
      f"{known.root} has {counted(wanted, 'puzzle identifier')}, so nobody "
      "knows which row belongs to which; choose --table=keep (row i is "
      "identifier i; what is missing is zero), --table=reset (all rows are "
      "zero) or --table=map=identifiers.json (the names of the file's rows: "
      "those that the data set knows are found by name)."
    )
  if given is not None and given.startswith(MAP) and known.root is None:
    raise InputError(f"--table={given}: needs the data set; add --data=DIR.")
  return given or KEEP


def _fitted(
  weights: Weights, rows: int, known: _Data, policy: str
) -> tuple[Weights, _Data, dict[str, Any] | None]:
  """The weights with the rows that a run has, and what was done about it."""
  if weights.puzzle_table is None:
    return weights, known, None
  wanted = known.metadata.num_puzzle_identifiers
  note: dict[str, Any] = {"policy": policy, "rows_in_file": rows}
  if policy == KEEP and rows > wanted:
    # They are part of what was trained; a data set may use fewer.
    wanted = rows
    fields = {**known.metadata.to_json(), "num_puzzle_identifiers": rows}
    metadata = DatasetMetadata(**{**fields, "sets": known.metadata.sets})
    known = known._replace(metadata=metadata)
  old = np.asarray(weights.puzzle_table)
  table = np.zeros((num_table_rows(wanted), old.shape[1]), np.float32)
  if policy == KEEP:
    count = min(rows, wanted)
    table[:count] = old[:count]
  elif policy.startswith(MAP):
    assert known.root is not None
    path = expand_home(policy.partition("=")[2])
    to, source = _matching(path, rows, known.root, wanted)
    table[to] = old[source]
    count = len(to)
  else:
    count = 0
  note |= {"rows": wanted, "rows_taken": count}
  weights = weights._replace(puzzle_table=table)  # pyright: ignore[reportArgumentType]
  return weights, known, note


def _matching(
  path: pathlib.Path, rows: int, root: pathlib.Path, wanted: int
) -> tuple[np.ndarray, np.ndarray]:
  """Which of our rows take which rows of the file, by their names."""
  theirs = identifiers.read_names(
    path, rows, different=True, meaning="rows of the file's puzzle table"
  )
  ours = identifiers.read_names(
    root / identifiers.FILE_NAME,
    wanted,
    different=True,
    meaning="identifiers of the data set",
  )
  found = identifiers.rows_by_name(theirs, ours)
  to = np.flatnonzero(found >= 0)
  if not len(to):
    raise InputError(
      f"{path}: none of its {counted(rows, 'name')} is one of "
      f"{root}/{identifiers.FILE_NAME}."
    )
  return to, found[to]


def _numbers(
  file: TorchFile, name: str, full: str, forward_dtype: str
) -> np.ndarray:
  """One tensor as float32; the initial states as they are computed with."""
  where = f"{file.path}: tensor '{full}'"
  dtype = str(file.tensors[full].dtype)
  if dtype not in _DTYPES:
    raise InputError(
      f"{where}: expected one of {', '.join(_DTYPES)}, got {dtype}."
    )
  value = file.array(full).astype(np.float32, copy=False)
  if not np.isfinite(value).all():
    raise InputError(f"{where}: expected finite numbers, got others too.")
  is_state = name.removeprefix(torch_names.PREFIX) in ("H_init", "L_init")
  is_rounded = is_state and forward_dtype == "bfloat16"
  # The lower half of a float32 number would be lost without a word.
  if is_rounded and np.any(value.view(np.uint32) & 0xFFFF):
    raise InputError(
      f"{where}: expected numbers of bfloat16, as arch.forward_dtype says, "
      "got others; was it trained with forward_dtype: float32?"
    )
  return value


def _step(path: pathlib.Path, given: int | None) -> int:
  if given is not None:
    return given
  if match := re.fullmatch(r"step_(\d{1,9})", path.name):
    return int(match[1])
  log.warning(
    f"warning: {path}: its name does not say how many updates it has seen "
    "(step_<N>); it becomes step 0, or say --step=N"
  )
  return 0

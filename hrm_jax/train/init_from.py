"""A new run that starts with the weights of a model, and nothing else of it.

Its optimisers, its schedule and the order of its examples are those of any new
run. The network must have the sizes of the model; what must be decided is which
rows of the puzzle table mean the same puzzles here as there.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from hrm_jax.checkpoint import flags, published
from hrm_jax.checkpoint.flags import KEEP, MAP, RESET
from hrm_jax.checkpoint.published import Published
from hrm_jax.console import InputError, counted, log
from hrm_jax.data import identifiers, sudoku_generator
from hrm_jax.data.puzzle import DatasetMetadata, read_metadata
from hrm_jax.model.weights import Weights

# Keys of `config.model` that the shapes of the weights follow from, or that
# say how their numbers are divided up. The others may differ.
_SIZES = (
  "H_layers",
  "L_layers",
  "hidden_size",
  "num_heads",
  "expansion",
  "puzzle_emb_ndim",
  "puzzle_emb_len",
  "pos_encodings",
  "mlp_t",
  "shared_level",
  "H_only",
)


@dataclasses.dataclass
class InitFrom:
  """What `--init-from` and `--table` ask for.

  Attributes:
    model: a folder, or hf://ORG/NAME@REVISION.
    table: "keep": each row stays where it is; "reset": all rows are zero;
      "map": a row goes where its name is, and new names have zeros;
      "map=FILE": the same, with the names of a model that has none. None:
      "keep", if the names are the same.
  """

  model: str
  table: str | None = None
  _found: Published | None = dataclasses.field(default=None, init=False)

  def read(self, metadata: DatasetMetadata | None) -> Published:
    """Reads the model, unless that was done.

    Args:
      metadata: of the run's data set, if it is there: a model of the reference
        does not say how many cells a puzzle has.

    Raises:
      InputError: it is not there, or is damaged.
    """
    if self._found is None:
      self._found = published.read(
        self.model,
        flag="--init-from",
        seq_len=metadata.seq_len if metadata else None,
      )
    return self._found

  @property
  def source(self) -> Published:
    """The model, once it was read."""
    assert self._found is not None
    return self._found

  @property
  def given(self) -> str:
    """What was asked for, to be compared when a run goes on."""
    if self.model.startswith(flags.HUB):
      return self.model
    return str(pathlib.Path(self.model).absolute())

  def check(
    self, config: ml_collections.ConfigDict, root: pathlib.Path | None
  ) -> None:
    """Refuses what does not fit, as far as it can be known.

    Args:
      config: of the run.
      root: its data set; None if that is to be generated.

    Raises:
      InputError: lists the keys that differ, or says what to do with the table.
    """
    metadata = None if root is None else read_metadata(root, "train")
    self.read(metadata)
    self._check_sizes(config, metadata)
    names = sudoku_generator.IDENTIFIERS
    self.rows(metadata.num_puzzle_identifiers if metadata else len(names), root)

  def _check_sizes(
    self,
    config: ml_collections.ConfigDict,
    metadata: DatasetMetadata | None,
  ) -> None:
    there, here = self.source.network.config.model, config.model
    pairs = [
      (f"config.model.{k}", _size(there, k), _size(here, k)) for k in _SIZES
    ]
    if metadata is not None:
      pairs += [
        (
          f"dataset.{k}",
          getattr(self.source.network.metadata, k),
          getattr(metadata, k),
        )
        for k in ("vocab_size", "seq_len")
      ]
    differ = [f"{k} ({a} there, {b} here)" for k, a, b in pairs if a != b]
    if differ:
      raise InputError(
        f"--init-from={self.model}: its weights do not fit this run: "
        f"{', '.join(differ)}."
      )

  def _check_shapes(self, shapes: Weights) -> None:
    """Compares the arrays themselves; `_check_sizes` names the keys."""
    there, here = (
      {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights.params)
      }
      for weights in (self.source.weights, shapes)
    )
    for name in sorted(there.keys() | here.keys()):
      if there.get(name) != here.get(name):
        raise InputError(
          f"--init-from={self.model}: array {name}: expected the shape "
          f"{here.get(name)}, got {there.get(name)}."
        )

  def rows(
    self, count: int, root: pathlib.Path | None
  ) -> tuple[str, np.ndarray]:
    """Which row of the model's table each row of the run's comes from.

    Args:
      count: N, the identifiers of the run's data set.
      root: where that lies; None if it is to be generated.

    Returns:
      The rule: "keep", "reset" or "map"; and [N] int64, with -1 for a row that
      starts at zero.

    Raises:
      InputError: the rule does not fit, or none is given and one is needed.
    """
    if self.source.weights.puzzle_table is None:
      return RESET, np.full(count, -1)
    there = self.source.network.metadata.num_puzzle_identifiers
    rule, _, file = (self.table or "").partition("=")
    here = root or "the data set to be generated"
    if rule == RESET:
      return RESET, np.full(count, -1)
    if rule == KEEP:
      if there != count:
        raise InputError(
          "--table=keep: expected as many puzzle identifiers as the model "
          f"has, {there:,}, got {count:,} in {here}; choose --table=reset or "
          "map."
        )
      return KEEP, np.arange(count)
    theirs = self._names(file)
    ours = (
      identifiers.read_names(root / identifiers.FILE_NAME)
      if root
      else list(sudoku_generator.IDENTIFIERS)
    )
    if rule == MAP:
      return MAP, self._mapped(theirs, ours)
    if theirs is not None and theirs == ours:
      return KEEP, np.arange(count)
    what = "unknown puzzles" if theirs is None else "other puzzles"
    raise InputError(
      f"--init-from={self.model}: its puzzle table has {counted(there, 'row')} "
      f"of {what}, and {here} has {counted(count, 'identifier')}; choose "
      "--table=map (rows go where their names are), reset (all start at zero) "
      "or keep (by their numbers)."
    )

  def _names(self, file: str) -> list[str] | None:
    if not file:
      return self.source.identifiers
    return identifiers.read_names(
      pathlib.Path(file),
      self.source.network.metadata.num_puzzle_identifiers,
      where=f"--table=map={file}",
    )

  def _mapped(
    self, theirs: Sequence[str] | None, ours: Sequence[str]
  ) -> np.ndarray:
    if theirs is None:
      raise InputError(
        f"--table=map: {self.model} does not name the rows of its table; "
        "choose --table=map=identifiers.json with a list of their names."
      )
    rows = identifiers.rows_by_name(theirs, ours)
    if (rows < 0).all():
      raise InputError(
        f"--table=map: none of the {counted(len(ours), 'name')} here is one of "
        f"{self.model}; choose --table=reset."
      )
    return rows

  def weights(
    self,
    shapes: Weights,
    metadata: DatasetMetadata,
    root: pathlib.Path,
  ) -> tuple[Weights, dict[str, Any]]:
    """The weights to start with, and what the run record says of them.

    Args:
      shapes: of the run's weights, with their shardings; `check` has passed.
      metadata: of its data set.
      root: where that lies.

    Returns:
      Weights on the devices; `model` with its commit, `given`, `sha256` of the
      weights' file, `step` of the model, the rule for the `table`, and
      `rows`, how many rows were taken over.

    Raises:
      InputError: an array has another shape.
    """
    self.read(metadata)
    self._check_shapes(shapes)
    rule, rows = self.rows(metadata.num_puzzle_identifiers, root)
    found = self.source.weights
    table: Any = None
    if shapes.puzzle_table is not None:
      table = np.zeros(shapes.puzzle_table.shape, np.float32)
      taken = np.flatnonzero(rows >= 0)
      table[taken] = np.asarray(found.puzzle_table)[rows[taken]]
    # The initial states have the dtype in which this run computes.
    states = {
      name: np.asarray(value).astype(shapes.initial_states[name].dtype)
      for name, value in found.initial_states.items()
    }
    start = jax.tree.map(
      published.put, Weights(found.params, states, table), shapes
    )
    count = int((rows >= 0).sum())
    log.info(
      f"weights of {self.source.name}, update {self.source.step:,}; puzzle "
      f"table: {rule}, {count:,} of {counted(len(rows), 'row')}"
    )
    record = {
      "model": self.source.name,
      "given": self.given,
      "sha256": self.source.digest,
      "step": self.source.step,
      "table": rule,
      "rows": count,
    }
    self._found = None  # The table of an ARC model is gigabytes.
    return start, record

  def check_same(self, earlier: dict[str, Any], workdir: pathlib.Path) -> None:
    """Refuses to go on with a run that began with other weights.

    The model is not read again: it need not be there any more.

    Args:
      earlier: the run record of the checkpoint to go on from.
      workdir: of the run.

    Raises:
      InputError: says how it began.
    """
    began = earlier.get("init_from")
    if began is None or began["given"] != self.given:
      how = "with random weights" if began is None else f"from {began['given']}"
      raise InputError(
        f"--init-from={self.model}: the run in {workdir} began {how}, and goes "
        "on from its own checkpoint; leave the flag out, or choose another "
        "--workdir."
      )


def _size(arch: ml_collections.ConfigDict, key: str) -> Any:
  value = arch[key]
  if key == "puzzle_emb_ndim" and value is None:
    return arch.hidden_size
  if (key == "H_layers" and arch.shared_level) or (
    key == "L_layers" and arch.H_only
  ):
    return 0  # There is no such module, whatever the key says.
  return value

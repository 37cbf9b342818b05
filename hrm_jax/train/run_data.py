"""The data set of a run; the embedded one is generated on first use."""

import pathlib
import re
import shlex

import ml_collections

from hrm_jax.checkpoint.run_record import data_directory
from hrm_jax.console import InputError, log
from hrm_jax.data import (
  puzzle,
  puzzle_kind,
  sudoku_generator,
  train_batches,
)
from hrm_jax.data.split import Split
from hrm_jax.machines import cluster

# The flags of the generator that are keys of the configuration.
_FLAGS = r"--(?:box|num-train|num-test|num-aug|seed)\b"


def prepare(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """The data set's directory; generates the embedded one on first use.

  Raises:
    InputError: it is missing; says which command builds it.
  """
  check_there(config, workdir)
  root = data_directory(config, workdir)
  if _is_generated(config) and cluster.is_first():
    _generate(config, root, _is_there(root))
  cluster.wait_for_all("the data set")
  return root


def check_there(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Checks that the data set is there, unless it can be generated.

  Raises:
    InputError: it is missing; says which command builds it.
  """
  root = data_directory(config, workdir)
  if not _is_there(root) and not _is_generated(config):
    build = config.data.build_command or "a command of data_tools/"
    build = build.replace("{path}", shlex.quote(str(root)))
    # The command may have been meant to run in another directory.
    said = "" if root.is_absolute() else f" ({root} from where this runs)"
    raise InputError(
      f"{root.absolute()}: no data set there{said}; build it with: {build}"
    )


def root_if_there(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path | None:
  """The data set's directory; None if it is still to be generated."""
  root = data_directory(config, workdir)
  return root if _is_there(root) else None


def kind(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, splits: list[Split]
) -> str | None:
  """The kind of puzzles, for who solves some later; None: not known."""
  try:
    return puzzle_kind.kind_of(data_directory(config, workdir), splits)
  except InputError as error:  # Training needs no kind.
    log.warning(f"warning: {error} The kind of puzzles is not recorded")
    return None


def _is_there(root: pathlib.Path) -> bool:
  return puzzle.metadata_path(root, "train").exists()


def _is_generated(config: ml_collections.ConfigDict) -> bool:
  # Only a set of the run's own is generated: a path is somebody's real data.
  return config.data.generate and not config.data.path


def _generate(
  config: ml_collections.ConfigDict, root: pathlib.Path, is_there: bool
) -> None:
  """Generates the embedded data set, or checks that it is the one asked for.

  Raises:
    InputError: it is there, but was generated from other arguments; or it
      would not fill a single batch.
  """
  wanted = {
    key: config.data[key] for key in ("box", "num_train", "num_test", "num_aug")
  }
  if not is_there:
    # It has one example per puzzle, and a group per puzzle before augmentation:
    # what is too small for the run need not be made first.
    interval = config.eval_interval or config.epochs
    if (
      examples := interval * config.data.num_train
    ) < config.global_batch_size:
      raise train_batches.too_few_examples(
        examples, config.global_batch_size, interval, str(root)
      )
    log.info(f"generating {config.data.box} Sudoku puzzles into {root}")
    try:
      sudoku_generator.generate(root, **wanted, seed=config.seed)
    except InputError as error:
      raise InputError(re.sub(_FLAGS, _key_of, str(error))) from None
    return
  build = puzzle_kind.read_build(root)
  if build.get("builder") != "generate_sudoku":
    raise InputError(
      f"{root}: expected the data set that this configuration generates, got "
      f"one of {build.get('builder', 'an unknown builder')}; name it with "
      "--config.data.path, or choose another --workdir."
    )
  arguments = build.get("arguments", {})
  differ = [
    f"config.{key} ({given} there, {value} here)"
    for key, value, given in (
      ("seed", config.seed, build.get("seed")),
      *((f"data.{k}", v, arguments.get(k)) for k, v in wanted.items()),
    )
    if given != value
  ]
  if differ:
    raise InputError(
      f"{root}: was generated with another configuration: "
      f"{', '.join(differ)}; choose another --workdir, or delete {root} if "
      "nothing was trained on it."
    )


def _key_of(flag: re.Match) -> str:
  """The configuration key behind a flag of the generator."""
  name = flag[0].removeprefix("--").replace("-", "_")
  return f"config.{name}" if name == "seed" else f"config.data.{name}"

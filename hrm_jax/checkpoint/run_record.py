"""The run record of a checkpoint: what a run is, besides its arrays.

A JSON object that makes a checkpoint self-contained, and tells whether a run
may go on from it. Its keys are those of `describe`; the trainer adds which
attention it uses, and the store the number of the format.
"""

import importlib.metadata
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file
from hrm_jax.config import KEYS, by_dotted_key
from hrm_jax.console import InputError, log
from hrm_jax.data.provenance import source_commit
from hrm_jax.data.puzzle import DatasetMetadata
from hrm_jax.data.split import Split, digest, open_split

_PACKAGES = (
  "hrm_jax",
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "numpy",
)

# A key of the run record of a checkpoint that holds the weights and nothing
# else: its optimisers and its carry begin anew. Nobody could have saved theirs.
WEIGHTS_ONLY = "weights_only"
# Where weights came from; it stays true whatever the run does with them.
_ORIGIN = "imported"

# Beginnings of the keys that a resumed run may not change: they make the run
# what it is, the network and which examples come when. The directory of the
# data may move.
_MAY_NOT_CHANGE = (
  "config.model.",
  "config.data.augment",
  "config.data.box",
  "config.data.hint_mix",
  "config.data.num_",
  "config.ema",
  "config.eval_interval",
  "config.global_batch_size",
  "config.seed",
  "dataset.",
  "digests.",
)
# These begin like that, but only say how the same numbers are computed.
_MAY_CHANGE = (
  "config.ema_rate",
  "config.model.remat",
  "config.model.unroll",
)


def describe(
  config: ml_collections.ConfigDict,
  metadata: DatasetMetadata,
  digests: Mapping[str, str],
  *,
  puzzle: str | None = None,
) -> dict[str, Any]:
  """The run record: all that a reader needs besides the arrays.

  Args:
    config: the run's configuration.
    metadata: describes its training data.
    digests: one per split; see `split.digest`.
    puzzle: the kind of its puzzles, see `puzzle_kind`; None: not known.
  """
  return {
    "config": json.loads(config.to_json_best_effort()),
    "dataset": metadata.to_json(),
    "digests": dict(digests),
    "puzzle": puzzle,
    "versions": versions(),
    "git_commit": source_commit(),
    "init_from": None,  # whose weights it began with, if not random ones
    "evaluation": None,
    "changes": [],  # keys that a resume has changed, by step
    "ended": None,  # the reason, if the run has ended for good
  }


def versions() -> dict[str, str | None]:
  """The version of each package that a run depends on.

  None stands for a package that is not installed as one, such as this code
  when it runs from a checkout.
  """

  def version_of(package: str) -> str | None:
    try:
      return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      return None

  return {package: version_of(package) for package in _PACKAGES}


def write_description(workdir: pathlib.Path, run: dict[str, Any]) -> None:
  """Writes what describes a run beside its checkpoints, for people.

  WORKDIR/config.json holds the configuration, WORKDIR/versions.json the
  versions of packages and the git commit. Both describe the newest run. Each
  checkpoint holds its own, so nothing is lost where these cannot be written.
  """
  code = {**run["versions"], "git_commit": run["git_commit"]}
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    atomic_file.write_json(workdir / "config.json", run["config"])
    atomic_file.write_json(workdir / "versions.json", code)
  except OSError as error:
    log.warning(
      f"warning: {workdir}: config.json and versions.json are not written "
      f"({error.strerror})"
    )


def has_average(run: Mapping[str, Any]) -> bool:
  """Whether the checkpoint with this run record has averaged parameters."""
  # One that was imported holds nothing but what is to be used.
  return bool(run["config"].get("ema")) and not run.get(WEIGHTS_ONLY)


def check_fits_data(
  run: dict[str, Any], metadata: DatasetMetadata, where: str
) -> None:
  """Checks that the weights of a run fit a data set.

  Args:
    run: the run record of the checkpoint with those weights.
    metadata: describes the data set.
    where: the data set's name, for the message.

  Raises:
    InputError: they do not; says which number differs.
  """
  for key in ("seq_len", "vocab_size"):
    expected, got = run["dataset"][key], getattr(metadata, key)
    if expected != got:
      raise InputError(
        f"{where}: {key} is {got}, but the checkpoint was trained with "
        f"{key}={expected}."
      )
  rows = run["dataset"]["num_puzzle_identifiers"]
  if metadata.num_puzzle_identifiers > rows:
    raise InputError(
      f"{where}: num_puzzle_identifiers is {metadata.num_puzzle_identifiers}, "
      f"but the checkpoint's puzzle table has {rows} rows."
    )


def check_same_data(run: dict[str, Any], root: pathlib.Path) -> list[Split]:
  """Opens the data set that a run was trained on.

  Args:
    run: its run record.
    root: where the data set should be.

  Returns:
    Its splits, `train` and `test`.

  Raises:
    InputError: it is another one, or is damaged.
  """
  splits = [open_split(root, name) for name in ("train", "test")]
  for name, split in zip(("train", "test"), splits, strict=True):
    got, expected = digest(split), run["digests"].get(name)
    if got != expected:
      raise InputError(
        f"{split.path}: expected the data that the run was trained on, of "
        f"digest {expected}, got {got}; name it with --data."
      )
  return splits


def take_over(run: dict[str, Any], earlier: dict[str, Any], step: int) -> None:
  """Carries the history of a run into the run record of its continuation.

  Args:
    run: changed in place.
    earlier: the run record of the checkpoint that it goes on from.
    step: the number of that checkpoint.
  """
  changed = _changed_keys(earlier, run)
  for key, values in changed.items():
    log.info(f"changed since: {key} ({values})")
  run["changes"] = list(earlier["changes"])
  if changed:
    run["changes"].append({"step": step, "keys": changed})
  run["init_from"] = earlier.get("init_from")
  run["evaluation"] = earlier["evaluation"]
  if _ORIGIN in earlier:
    run[_ORIGIN] = earlier[_ORIGIN]
  # With another bound, what ended the run need not end it any more.
  same_bound = "config.early_stop_train_accuracy" not in changed
  run["ended"] = earlier["ended"] if same_bound else None


def check_same_run(
  run: dict[str, Any], earlier: dict[str, Any], workdir: pathlib.Path
) -> None:
  """Refuses to resume with another network, other data or another order.

  Args:
    run: the run record of what is starting.
    earlier: the run record of the checkpoint to go on from.
    workdir: for the message.

  Raises:
    InputError: lists the keys that differ.
  """
  refused = [
    f"{key} ({values})"
    for key, values in _changed_keys(earlier, run).items()
    if key.startswith(_MAY_NOT_CHANGE) and key not in _MAY_CHANGE
  ]
  if refused:
    raise InputError(
      f"{workdir}: cannot resume with another configuration: "
      f"{', '.join(refused)}; choose another --workdir."
    )


def _changed_keys(
  earlier: dict[str, Any], run: dict[str, Any]
) -> dict[str, str]:
  """What differs in the configurations and data sets of two run records.

  Returns:
    From `config.<key>` or `dataset.<key>` to a text with both values.
  """
  before, now = _keys_that_count(earlier), _keys_that_count(run)
  return {
    key: f"{before.get(key)} there, {now.get(key)} here"
    for key in sorted(before | now)
    if before.get(key) != now.get(key)
  }


def _keys_that_count(run: dict[str, Any]) -> dict[str, Any]:
  config = dict(run["config"])
  # If it is not given, there is one evaluation, at the end.
  config["eval_interval"] = config["eval_interval"] or config["epochs"]
  # The reference writes the number that None stands for.
  model = dict(config["model"])
  if model["puzzle_emb_ndim"] is None:
    model["puzzle_emb_ndim"] = model["hidden_size"]
  config["model"] = model
  parts = {
    "config": config,
    "dataset": run["dataset"],
    "digests": run["digests"],
  }
  # A key that there was not at the time has had the effect of its default.
  defaults = {f"config.{name}": key.default for name, key in KEYS.items()}
  return defaults | by_dotted_key(parts)


def data_directory(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where a run's data set lies: `config.data.path`, or WORKDIR/data.

  A relative path is one from where the command runs, and `~` is a home.
  """
  return _data_directory(config.data.path, workdir)


def find_data(recorded: str, workdir: pathlib.Path) -> pathlib.Path:
  """The data set that a run was trained on, for who reads the run later.

  Args:
    recorded: its `config.data.path`.
    workdir: of the run.

  Raises:
    InputError: it is not there; names what was recorded, and --data.
  """
  root = _data_directory(recorded, workdir)
  if not root.is_dir():
    name = f"config.data.path={recorded}" if recorded else "WORKDIR/data"
    raise InputError(
      f"{root.absolute()}: no such directory; the run was trained on {name}, "
      "which is looked for from where the command runs; say where it is now "
      "with --data=DIR."
    )
  return root


def _data_directory(path: str, workdir: pathlib.Path) -> pathlib.Path:
  if not path:
    return pathlib.Path(workdir) / "data"
  return console.expand_home(path)

"""A model as a folder: what is exported, published, and read again.

  model.safetensors  the weights, see `safetensors_file`
  config.json        what they are: step, run record, and a digest per file
  identifiers.json   the names of the puzzle table's rows
  README.md          the model card, for people; nothing reads it

`config.json` is the only file that says what to trust: a folder is refused
unless the others are as it says, to the last byte.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

import ml_collections

from hrm_jax.checkpoint import atomic_file, manifest
from hrm_jax.config import KEYS, base, by_dotted_key, check_value
from hrm_jax.console import InputError
from hrm_jax.data import identifiers
from hrm_jax.data.puzzle import DatasetMetadata, metadata_from_json

WEIGHTS, CONFIG = "model.safetensors", "config.json"
IDENTIFIERS, CARD = identifiers.FILE_NAME, "README.md"
NAMES = (WEIGHTS, CONFIG, IDENTIFIERS, CARD)

# The number of this layout; who changes it counts up.
_FORMAT_KEY, _FORMAT = "hrm_jax_model", 1
# A million names are 25 MB. Nobody's memory is filled by a text.
_MOST_BYTES = {CONFIG: 2**24, IDENTIFIERS: 2**30}
# Without these nobody knows what the network computes. The other keys say how
# it was trained, and one that is younger than the folder has its default.
_SECTIONS = ("model.", "loss.")


class Description(NamedTuple):
  """What a folder says of its weights.

  Attributes:
    path: of the folder.
    step: updates that they have seen.
    run: the run record, see `run_record.describe`.
    config: the configuration of the run.
    metadata: describes the data it was trained on.
    files: size and digest of each file that is read, by its name.
  """

  path: pathlib.Path
  step: int
  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  files: dict[str, dict[str, Any]]


@contextlib.contextmanager
def being_written(
  out: pathlib.Path, *, may_replace: bool = True
) -> Iterator[pathlib.Path]:
  """A new directory, which gets the name `out` when all went well.

  Args:
    out: the folder; an empty one, or an earlier export, is replaced.
    may_replace: whether an earlier export is.

  Raises:
    InputError: something else has its place, or it cannot be written; nothing
      is left behind then, and what was there is there still.
  """
  _check_may_replace(out, NAMES if may_replace else ())
  out = out.absolute()
  partial = atomic_file.partial_of(out)
  earlier = partial.with_suffix(".earlier")
  try:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    if out.exists():
      out.rename(earlier)
    try:
      partial.rename(out)
    except BaseException:
      if earlier.exists():
        earlier.rename(out)
      raise
    shutil.rmtree(earlier, ignore_errors=True)
  except OSError as error:
    why = error.strerror or error.args[1]
    raise InputError(f"{out}: cannot be written ({why}).") from None
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _check_may_replace(out: pathlib.Path, known: Collection[str]) -> None:
  """Refuses a folder with anything but an export of these files."""
  if out.absolute().name == "torch":
    # tensorboardX looks for it, and where it is not installed Python finds the
    # folder instead, in the directory from which a command runs.
    raise InputError(
      f"{out}: a folder of that name would be taken for PyTorch by what runs "
      "beside it; choose another --out."
    )
  if out.is_symlink() or (out.exists() and not out.is_dir()):
    raise InputError(f"{out}: expected a folder, or nothing yet, got a file.")
  try:
    names = set(os.listdir(out))
  except FileNotFoundError:
    return
  except OSError as error:
    raise InputError(f"{out}: cannot be read ({error.strerror}).") from None
  if names and (CONFIG not in names or names - set(known)):
    earlier = ", or an earlier export" if known else ""
    raise InputError(
      f"{out}: expected a folder that holds nothing{earlier}, got one with "
      f"{min(names - set(known) or names)}; choose another --out."
    )


def write_config(folder: pathlib.Path, step: int, run: dict[str, Any]) -> None:
  """Writes `config.json` for the other files of the folder, which are there."""
  files = {
    name: manifest.describe_file(folder / name)
    for name in (WEIGHTS, IDENTIFIERS)
    if (folder / name).exists()
  }
  value = {_FORMAT_KEY: _FORMAT, "step": step, "files": files, "run": run}
  atomic_file.write_json(folder / CONFIG, value)


def describe(folder: pathlib.Path) -> Description:
  """Reads and checks `config.json`; no other file is read yet.

  Raises:
    InputError: it is missing, or says what makes no sense; names the key.
  """
  path = folder / CONFIG
  value = _read_json(folder, CONFIG)
  number = value.get(_FORMAT_KEY) if isinstance(value, dict) else None
  if number != _FORMAT or type(number) is not int:
    newer = type(number) is int and number > _FORMAT
    raise InputError(
      f"{path}: expected {_FORMAT_KEY} {_FORMAT}, got {number!r:.40}; "
      + ("update hrm_jax." if newer else "it is no model of hrm_jax.")
    )
  value = cast("dict[str, Any]", value)
  step: Any = value.get("step")
  files: Any = value.get("files")
  run: Any = value.get("run")
  if type(step) is not int or step < 0:
    raise InputError(
      f"{path}: key 'step': expected a whole number from 0 on, got "
      f"{step!r:.40}."
    )
  for key, item in (("files", files), ("run", run)):
    if not isinstance(item, dict):
      raise InputError(
        f"{path}: key '{key}': expected a JSON object, got {item!r:.40}."
      )
  _check_files(path, files)
  for key in ("config", "dataset"):
    if not isinstance(run.get(key), dict):
      raise InputError(
        f"{path}: key 'run.{key}': expected a JSON object, got "
        f"{run.get(key)!r:.40}."
      )
  evaluation = run.setdefault("evaluation", None)
  if evaluation is not None and not isinstance(evaluation, dict):
    raise InputError(
      f"{path}: key 'run.evaluation': expected a JSON object or null, got "
      f"{evaluation!r:.40}."
    )
  config = _config(path, run["config"])
  return Description(
    folder,
    step,
    {**run, "config": config.to_dict()},
    config,
    metadata_from_json(run["dataset"], f"{path}: run.dataset"),
    files,
  )


def _check_files(path: pathlib.Path, files: Mapping[str, Any]) -> None:
  if WEIGHTS not in files:
    raise InputError(f"{path}: key 'files': '{WEIGHTS}' is missing.")
  for name, item in files.items():
    known = name in (WEIGHTS, IDENTIFIERS)
    if not known or not isinstance(item, dict):
      raise InputError(
        f"{path}: key 'files': expected size and digest of {WEIGHTS} and "
        f"{IDENTIFIERS}, got {name!r:.40}: {item!r:.40}."
      )


def _config(
  path: pathlib.Path, given: dict[str, Any]
) -> ml_collections.ConfigDict:
  leaves = by_dotted_key(given)
  for name in sorted(leaves.keys() - KEYS.keys()):
    raise InputError(
      f"{path}: config.{name:.60}: unknown key; perhaps a newer hrm_jax wrote "
      "it: update hrm_jax."
    )
  for name in sorted(KEYS.keys() - leaves.keys()):
    if name.startswith(_SECTIONS) and not KEYS[name].later:
      raise InputError(f"{path}: config.{name}: missing.")
  config = base()
  for name, value in leaves.items():
    try:
      check_value(name, value)
    except InputError as error:
      raise InputError(f"{path}: {error}") from None
  with config.ignore_type():
    config.update_from_flattened_dict(leaves)
  return config


def check_files(description: Description) -> None:
  """Reads every file that will be used, and compares it with its digest.

  Raises:
    InputError: one is missing, or is another file than was exported.
  """
  for name, expected in description.files.items():
    path = checked(description.path, name)
    try:
      got = manifest.describe_file(path)
    except OSError as error:
      raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if got["bytes"] != expected.get("bytes"):
      raise InputError(
        f"{path}: expected {expected.get('bytes')!r:.40} bytes, got "
        f"{got['bytes']}; {_way_out(path)}."
      )
    if got != expected:
      raise InputError(
        f"{path}: its digest differs from that in {CONFIG}: it is damaged, or "
        f"of another export; {_way_out(path)}."
      )


def _way_out(path: pathlib.Path) -> str:
  cached = _of_cache(path.parent)
  # The client never looks again at what it has kept.
  return f"delete {cached} and try again" if cached else "copy the folder again"


def read_identifiers(description: Description) -> list[str] | None:
  """The names of the table's rows; None if the folder does not tell.

  Raises:
    InputError: the file is not a list of as many names.
  """
  if IDENTIFIERS not in description.files:
    return None
  return identifiers.checked_names(
    _read_json(description.path, IDENTIFIERS),
    description.metadata.num_puzzle_identifiers,
    where=description.path / IDENTIFIERS,
  )


def checked(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The path of a file of a folder, which may not lead elsewhere.

  The Hub's cache keeps files as links to `blobs` beside its snapshots; any
  other link out of the folder could make us read what is nobody's model.

  Raises:
    InputError: it is missing, no regular file, or leads out of the folder.
  """
  path = folder / name
  inside = [pathlib.Path(os.path.realpath(folder))]
  if cached := _of_cache(folder):
    inside.append(cached / "blobs")
  real = pathlib.Path(os.path.realpath(path))
  if path.is_symlink() and not any(
    real.is_relative_to(each) for each in inside
  ):
    raise InputError(
      f"{path}: a link that leads out of its folder is not followed."
    )
  if not real.is_file():
    what = "no regular file" if os.path.lexists(real) else "no such file"
    raise InputError(f"{path}: {what}.")
  return path


def _of_cache(folder: pathlib.Path) -> pathlib.Path | None:
  """What the Hub's cache has of a repository, if the folder is one of it."""
  root = pathlib.Path(os.path.realpath(folder))
  return root.parent.parent if root.parent.name == "snapshots" else None


def _read_json(folder: pathlib.Path, name: str) -> Any:
  path = checked(folder, name)
  most = _MOST_BYTES[name]
  try:
    if path.stat().st_size > most:
      raise InputError(
        f"{path}: expected at most {most:,} bytes, got {path.stat().st_size:,}."
      )
    return json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  except (ValueError, RecursionError) as error:
    raise InputError(f"{path}: not valid JSON ({error!s:.80}).") from None

"""The reference's `all_config.yaml`, and our configuration: both ways.

The reference writes the file beside its checkpoints. Most of its keys are ours
under the same name; those of `arch` are `config.model`.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections
import yaml

from hrm_jax.config import (
  KEYS,
  base,
  by_dotted_key,
  check_config,
  check_value,
)
from hrm_jax.console import InputError, one_line, printable

FILE_NAME = "all_config.yaml"

# The classes whose weights these are; TRM is code of its own, which grew out of
# the other one and has its keys.
_ARCH = "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"
_TRM_ARCH = "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1"
_LOSS = "losses@ACTLossHead"

# Its keys with ours, and the value where the reference has one for a key that
# the file lacks. Without a value, the key must be there.
_MUST = object()
_KEYS = {
  "arch.H_cycles": ("model.H_cycles", _MUST),
  "arch.L_cycles": ("model.L_cycles", _MUST),
  "arch.H_layers": ("model.H_layers", _MUST),
  "arch.L_layers": ("model.L_layers", _MUST),
  "arch.hidden_size": ("model.hidden_size", _MUST),
  "arch.num_heads": ("model.num_heads", _MUST),
  "arch.expansion": ("model.expansion", _MUST),
  "arch.puzzle_emb_ndim": ("model.puzzle_emb_ndim", 0),
  "arch.pos_encodings": ("model.pos_encodings", _MUST),
  "arch.rms_norm_eps": ("model.rms_norm_eps", 1e-5),
  "arch.rope_theta": ("model.rope_theta", 10000.0),
  "arch.forward_dtype": ("model.forward_dtype", "bfloat16"),
  "arch.halt_max_steps": ("model.halt_max_steps", _MUST),
  "arch.halt_exploration_prob": ("model.halt_exploration_prob", _MUST),
  "arch.loss.loss_type": ("loss.loss_type", _MUST),
  "data_path": ("data.path", _MUST),
  "seed": ("seed", 0),
  "global_batch_size": ("global_batch_size", _MUST),
  "epochs": ("epochs", _MUST),
  "eval_interval": ("eval_interval", None),
  "lr": ("lr", _MUST),
  "lr_min_ratio": ("lr_min_ratio", _MUST),
  "lr_warmup_steps": ("lr_warmup_steps", _MUST),
  "beta1": ("beta1", _MUST),
  "beta2": ("beta2", _MUST),
  "weight_decay": ("weight_decay", _MUST),
  "puzzle_emb_lr": ("puzzle_emb_lr", _MUST),
  "puzzle_emb_weight_decay": ("puzzle_emb_weight_decay", _MUST),
  "checkpoint_every_eval": ("checkpoint_every_eval", False),
}
# Those of TRM besides. It has no slow module, whatever its file says of it.
_NO_H_LAYERS = "arch.H_layers"
_TRM_KEYS = {
  **{key: value for key, value in _KEYS.items() if key != _NO_H_LAYERS},
  "arch.mlp_t": ("model.mlp_t", False),
  "arch.puzzle_emb_len": ("model.puzzle_emb_len", 16),
  "ema": ("ema", False),
  "ema_rate": ("ema_rate", 0.999),
}
# What is code in TRM, and a setting here.
_TRM_FIXED = {
  "model.shared_level": True,
  "model.gradient_scope": "last_cycle",
}
# Whether q_continue learns nothing.
_TRM_NO_TARGET = "arch.no_ACT_continue"
# TRM may read several data sets; its file has a list of them.
_TRM_DATA = "data_paths"

# Ours that the reference has no word for, but that make another run of it.
_OURS = (
  "model.q_target",
  "model.halt_early",
  "model.H_only",
  "model.shared_level",
  "model.gradient_scope",
  "model.mlp_t",
  "model.puzzle_emb_len",
  "loss.q_weight",
  "ema",
)

_MOST_BYTES = 2**20


class Read(NamedTuple):
  """What a file says.

  Attributes:
    config: all keys of `hrm_jax.config`, checked.
    unused: the file's keys that mean nothing here, in order.
  """

  config: ml_collections.ConfigDict
  unused: list[str]


def read(path: pathlib.Path) -> Read:
  """Reads a file of the reference.

  Raises:
    InputError: it is missing, a key is missing or makes no sense; names it.
      Or it belongs to another network.
  """
  given = dict(_leaves(_mapping(path)))
  is_trm = given.get("arch.name") == _TRM_ARCH
  for key, expected in _classes(is_trm).items():
    _check_class(path, key, given.pop(key, None), expected)
  config = base()
  if is_trm:
    config.update_from_flattened_dict(_TRM_FIXED)
    _read_trm(path, given, config)
  for key, (ours, default) in (_TRM_KEYS if is_trm else _KEYS).items():
    value = given.pop(key, default)
    if value is _MUST:
      raise InputError(f"{path}: key '{key}' is missing.")
    value = _as_our_kind(ours, value)
    try:
      if value is None and default is not None:
        raise InputError(f"{key}: expected a value, got nothing.")
      check_value(ours, value)
    except InputError as error:
      what = str(error).partition(": ")[2]
      raise InputError(f"{path}: key '{key}': {what}") from None
    with config.ignore_type():
      config.update_from_flattened_dict({ours: value})
  try:
    check_config(config)
  except InputError as error:
    raise InputError(f"{path}: {error}") from None
  return Read(config, sorted(given))


def _classes(is_trm: bool) -> dict[str, str]:
  """The keys that say which classes these are, and what they must say."""
  arch = _TRM_ARCH if is_trm else _ARCH
  return {"arch.name": arch, "arch.loss.name": _LOSS}


def _read_trm(
  path: pathlib.Path,
  given: dict[str, Any],
  config: ml_collections.ConfigDict,
) -> None:
  """Reads what TRM says in another form than HRM; takes it out of `given`."""
  given.pop(_NO_H_LAYERS, None)
  no_target = given.pop(_TRM_NO_TARGET, True)
  if not isinstance(no_target, bool):
    raise InputError(
      f"{path}: key '{_TRM_NO_TARGET}': expected True or False, got another "
      "value."
    )
  config.model.q_target = "none" if no_target else "bootstrap"
  paths = given.get(_TRM_DATA)
  if isinstance(paths, list) and len(paths) == 1:
    given["data_path"] = paths[0]
    del given[_TRM_DATA]


def is_trm(config: ml_collections.ConfigDict) -> bool:
  """Whether the code of TRM has this network."""
  ours = by_dotted_key(config.to_dict())
  return all(ours[key] == value for key, value in _TRM_FIXED.items())


def needed() -> list[str]:
  """The keys that a file must have."""
  must = [key for key, (_, default) in _KEYS.items() if default is _MUST]
  return sorted([*must, *_classes(is_trm=False)])


def to_text(config: ml_collections.ConfigDict, data_path: str) -> str:
  """The file for a run of ours; `read` gives its configuration again.

  Args:
    config: of the run.
    data_path: where the reference finds the run's data set.
  """
  ours = by_dotted_key(config.to_dict())
  tree: dict[str, Any] = {"arch": {"loss": {}}}
  as_trm = is_trm(config)
  keys = _TRM_KEYS if as_trm else _KEYS
  flat = {key: ours[name] for key, (name, _) in keys.items()}
  flat |= _classes(as_trm)
  if as_trm:
    flat |= {
      _NO_H_LAYERS: 0,
      _TRM_NO_TARGET: config.model.q_target == "none",
      _TRM_DATA: [data_path],
    }
  # The reference has a number where None is our word for the usual one.
  if flat["arch.puzzle_emb_ndim"] is None:
    flat["arch.puzzle_emb_ndim"] = config.model.hidden_size
  flat |= {
    "data_path": data_path,
    "eval_interval": config.eval_interval or None,
    "eval_save_outputs": [],
    "checkpoint_path": None,
    "project_name": "hrm_jax",
    "run_name": None,
  }
  if as_trm:
    del flat["data_path"]  # Which stands in a list, above.
  for key, value in flat.items():
    *sections, last = key.split(".")
    section = tree
    for name in sections:
      section = section[name]
    section[last] = value
  return yaml.safe_dump(tree)


def without_words(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Our keys, not at their default, that the reference could not follow."""
  ours = by_dotted_key(config.to_dict())
  words = {"model.q_target", *_TRM_FIXED} if is_trm(config) else set()
  if words:
    words |= {name for name, _ in _TRM_KEYS.values()}
  return {
    f"config.{key}": ours[key]
    for key in _OURS
    if key not in words and ours[key] != KEYS[key].default
  }


def _mapping(path: pathlib.Path) -> dict[Any, Any]:
  try:
    with path.open("rb") as file:
      data = file.read(_MOST_BYTES + 1)
  except FileNotFoundError:
    raise InputError(
      f"{path}: no such file. It says what the tensors do not, such as how "
      "many heads there are: fetch it from where the checkpoint came from, "
      "name it with --config, or write one with the keys "
      f"{', '.join(needed())}."
    ) from None
  except OSError as error:
    raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
  if len(data) > _MOST_BYTES:
    raise InputError(f"{path}: expected at most {_MOST_BYTES:,} bytes.")
  try:
    value = yaml.safe_load(data)
  # Besides its own errors PyYAML raises those of dates and numbers.
  except (
    yaml.YAMLError,
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
  ) as error:
    raise InputError(f"{path}: not valid YAML ({one_line(error)}).") from None
  if not isinstance(value, dict):
    raise InputError(f"{path}: expected keys and values.")
  return value


def _leaves(value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
  """The keys under their names joined by dots; only `arch` is looked into.

  Anything else stays whole: what a file repeats by reference would have to be
  written out.
  """
  for key, item in value.items():
    name = printable(f"{key:.100}" if isinstance(key, str) else repr(type(key)))
    if name in ("arch", "arch.loss") and isinstance(item, dict):
      inner = {
        f"{name}.{sub}" if isinstance(sub, str) else sub: each
        for sub, each in item.items()
      }
      yield from _leaves(inner)
    else:
      yield name, item


def _check_class(
  path: pathlib.Path, key: str, value: Any, expected: str
) -> None:
  if value == expected:
    return
  got = f"'{printable(value[:100])}'" if isinstance(value, str) else "nothing"
  raise InputError(f"{path}: key '{key}': expected {expected}, got {got}.")


def _as_our_kind(name: str, value: Any) -> Any:
  """Numbers as the reference would read them: YAML takes 1e-4 for a text."""
  kind = KEYS[name].allowed.kind
  if kind in (int, float) and isinstance(value, str):
    try:
      value = float(value)
    except ValueError:
      return value[:100]
  if kind is int and isinstance(value, float) and value.is_integer():
    return int(value)
  if kind is float and type(value) is int and abs(value) < 2**53:
    return float(value)
  return value

"""All keys together: their defaults, and whether given values are allowed."""

from collections.abc import Mapping
from typing import Any, cast

import ml_collections
from ml_collections import config_dict

from hrm_jax.config.data_keys import DATA_KEYS
from hrm_jax.config.model_keys import MODEL_KEYS
from hrm_jax.config.run_keys import RUN_KEYS
from hrm_jax.console import InputError

KEYS = {**DATA_KEYS, **MODEL_KEYS, **RUN_KEYS}


def base() -> ml_collections.ConfigDict:
  """All keys with their defaults."""
  config = ml_collections.ConfigDict()
  for name, key in KEYS.items():
    *path, last = name.split(".")
    section = cast("Any", config)
    for part in path:
      if part not in section:
        section[part] = ml_collections.ConfigDict()
      section = section[part]
    if key.default is None:
      section[last] = config_dict.placeholder(key.allowed.kind)
    else:
      section[last] = key.default
  return config


def by_dotted_key(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """The leaves of nested mappings, under their keys joined by dots."""
  # Flax has such a function, and loads JAX with it: reading data needs none.
  leaves = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      leaves |= by_dotted_key(value, f"{prefix}{key}.")
    else:
      leaves[prefix + key] = value
  return leaves


def with_later_keys(given: Mapping[str, Any]) -> dict[str, Any]:
  """The configuration of an earlier run, with the keys that came since.

  Args:
    given: nested, as a run has recorded it.
  """
  result = {
    name: dict(value) if isinstance(value, Mapping) else value
    for name, value in given.items()
  }
  for name, key in KEYS.items():
    if key.later:
      section, _, last = name.rpartition(".")
      place = result.setdefault(section, {}) if section else result
      place.setdefault(last, key.default)
  return result


def choose(
  variant: str, variants: Mapping[str, ml_collections.ConfigDict], file: str
) -> ml_collections.ConfigDict:
  """Picks a variant by its word.

  Raises:
    InputError: lists the known words.
  """
  if variant not in variants:
    raise InputError(
      f"--config={file}:{variant}: unknown variant; known are "
      f"{', '.join(variants)}."
    )
  return variants[variant]


def check_keys(config: ml_collections.ConfigDict) -> None:
  """Checks that each key is there, and no other.

  Raises:
    InputError: names the key.
  """
  given = by_dotted_key(config.to_dict())
  for name in sorted(given.keys() - KEYS.keys()):
    raise InputError(f"config.{name}: unknown key.")
  for name in sorted(KEYS.keys() - given.keys()):
    raise InputError(
      f"config.{name}: missing; begin with hrm_jax.config.base()."
    )


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses what makes no sense with any data, before any work is done.

  Raises:
    InputError: names the key.
  """
  check_keys(config)
  values = by_dotted_key(config.to_dict())
  for name, value in values.items():
    check_value(name, value)
  check_schedule(config.global_batch_size, config.epochs, config.eval_interval)


def check_value(name: str, value: Any) -> None:
  """Checks the value of one key, whatever the others are.

  Raises:
    InputError: names the key, what was expected and what came.
  """
  allowed = KEYS[name].allowed
  if value is None and allowed.or_none:
    return
  if not (_has_kind(value, allowed.kind) and allowed.holds(value)):
    shown = f"'{value}'" if isinstance(value, str) else value
    raise InputError(
      f"config.{name}: expected {allowed.expected}, got {shown}."
    )


def _has_kind(value: Any, kind: type) -> bool:
  if isinstance(value, bool):
    return kind is bool
  return isinstance(value, int | float if kind is float else kind)


def check_schedule(
  global_batch_size: int, epochs: int, eval_interval: int | None
) -> None:
  """Checks what `TrainData` is told, whatever the data set.

  Raises:
    InputError: a number below 1, or `epochs` is not a multiple of
      `eval_interval`.
  """
  eval_interval = eval_interval or epochs
  for name, value in (
    ("global_batch_size", global_batch_size),
    ("epochs", epochs),
    ("eval_interval", eval_interval),
  ):
    if value < 1:
      raise InputError(f"config.{name}: expected at least 1, got {value}.")
  if epochs % eval_interval:
    raise InputError(
      "config.epochs: expected a multiple of "
      f"config.eval_interval={eval_interval}, got "
      f"{epochs}; nearest: {epochs // eval_interval * eval_interval} and "
      f"{-(-epochs // eval_interval) * eval_interval}."
    )

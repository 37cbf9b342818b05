"""Flags of the commands that take a configuration.

`--config=FILE:VARIANT` picks one, `--config.KEY=VALUE` overrides a key.
"""

import re
import sys
import traceback
from collections.abc import Callable

import ml_collections
from absl import app, flags

from hrm_jax import config as common
from hrm_jax import console
from hrm_jax.console import InputError


def run(
  main: Callable[[list[str]], None], doc: str, config: flags.FlagHolder
) -> None:
  """Reads the flags and calls `main` with the arguments left over.

  Args:
    main: called with argv, without the flags.
    doc: what --help says, before the flags.
    config: from `config_flags.DEFINE_config_file`.
  """

  def main_after_absl(argv: list[str]) -> None:
    console.set_up_logging()  # Again: absl's own set-up undid some of it.
    main(argv)

  app.run(main_after_absl, flags_parser=lambda argv: parse(argv, doc, config))


def parse(argv: list[str], doc: str, config: flags.FlagHolder) -> list[str]:
  """Reads the flags; mistakes in them become an InputError."""
  if {"--help", "-h"} & set(argv):
    print(f"{doc}\n{flags.FLAGS.main_module_help()}")
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)
    # A file that failed to load says so only when something is asked of it.
    getattr(config.value, "to_dict", None)
  except flags.Error as error:
    raise InputError(_without_traceback(str(error))) from None
  except OSError as error:
    # Its last line says what the system said, the others who was asked.
    said = str(error.__cause__ or error).splitlines()[-1].strip()
    raise InputError(f"--config: {said}") from None
  except InputError:
    raise  # Of the file's own.
  except Exception as error:
    # ml_collections answers an override of a key that is not there with a
    # KeyError inside, that suggests the one that was meant.
    cause = error.args[0] if error.args else error
    if isinstance(cause, KeyError):
      raise InputError(f"--config: unknown key {cause.args[0]}") from None
    said = f"--config: {console.one_line(error)}"
    *_, last = traceback.extract_tb(error.__traceback__)
    # Not where Python or a library notices.
    if not re.search("site-packages|^<", last.filename):
      said += f" ({last.filename}, line {last.lineno})"
    raise InputError(said) from None
  _check_keys(config.value)
  return rest


def _without_traceback(message: str) -> str:
  """ml_collections puts one into some messages: what it says, and where."""
  if "Traceback" not in message:
    return message
  *_, (path, line) = re.findall(r'File "(.*)", line (\d+)', message)
  *_, last = message.strip().splitlines()
  return f"--config: {last} ({path}, line {line})"


def _check_keys(config: ml_collections.ConfigDict) -> None:
  """Each key that there is, and no other."""
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError(
      "--config: expected get_config of the file to return a ConfigDict, got "
      f"{type(config).__name__}."
    )
  known, given = (
    set(common.by_dotted_key(c.to_dict())) for c in (common.base(), config)
  )
  for key in sorted(given - known):
    raise InputError(f"--config: config.{key}: unknown key.")
  for key in sorted(known - given):
    raise InputError(
      f"--config: config.{key}: missing; begin with configs.common.base()."
    )

"""Flags of the commands that take a configuration.

`--config=FILE:VARIANT` picks one, `--config.KEY=VALUE` overrides a key.
"""

import sys
from collections.abc import Callable

from absl import app, flags

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
    config.value.to_dict()  # A file that failed to load says so only here.
  except flags.Error as error:
    raise InputError(str(error)) from None
  except OSError as error:
    # Its last line says what the system said, the others who was asked.
    said = str(error.__cause__ or error).splitlines()[-1].strip()
    raise InputError(f"--config: {said}") from None
  except AttributeError as error:
    # ml_collections answers an override of a key that is not there so, with
    # a KeyError inside that suggests the one that was meant.
    cause = error.args[0] if error.args else error
    if not isinstance(cause, KeyError):
      raise
    raise InputError(f"--config: unknown key {cause.args[0]}") from None
  return rest

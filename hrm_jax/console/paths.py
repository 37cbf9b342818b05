"""Paths as people write them."""

import argparse
import pathlib

from hrm_jax.console.errors import InputError


def path(text: str) -> pathlib.Path:
  """A path from the command line, with `~` as the home of whoever runs this.

  For argparse: `type=console.path`. A shell expands `--workdir ~/x`, but not
  `--workdir=~/x`.

  Raises:
    argparse.ArgumentTypeError: it is empty, or there is no such home.
  """
  if not text:
    raise argparse.ArgumentTypeError("expected a path, got nothing")
  try:
    return expand_home(text)
  except InputError as error:
    raise argparse.ArgumentTypeError(str(error)) from None


def expand_home(text: str) -> pathlib.Path:
  """The path, with `~` or `~NAME` at its beginning replaced by that home.

  Raises:
    InputError: nobody knows that home.
  """
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError:
    home = pathlib.Path(text).parts[0]
    raise InputError(
      f"'{text}': expected a path, but the home directory {home} is not known "
      "here; write it in full"
    ) from None

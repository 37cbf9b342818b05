"""Where huggingface_hub keeps what it has fetched."""

import pathlib

from hrm_jax.console import InputError


def check_has_a_place() -> None:
  """Refuses a cache below `~` where nobody knows that home.

  Else the client makes a directory of the name `~` where the command runs.

  Raises:
    InputError: neither the environment nor the system names a place.
  """
  # Only here, because it takes half a second to import.
  from huggingface_hub import constants

  if pathlib.Path(constants.HF_HUB_CACHE).parts[0] == "~":
    raise InputError(
      "the Hub's files need a place to be kept, and the home directory is not "
      "known here; set HOME, or HF_HOME, to a directory that can be written."
    )

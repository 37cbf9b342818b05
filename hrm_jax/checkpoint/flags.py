"""The flags that say which weights a command reads, in one place.

`--workdir` and `--step` name a checkpoint of a run, `--model` what was
exported from one. Nothing here needs JAX.
"""

import argparse
import re
from typing import NamedTuple

from hrm_jax import console
from hrm_jax.checkpoint import choice

HUB = "hf://"
FORMS = "FOLDER or hf://ORG/NAME@REVISION"

# What may become of a puzzle table that does not fit a data set.
KEEP, RESET, MAP = "keep", "reset", "map"

# One word of a repository's name, and its revision: a branch, tag or commit.
_WORD = r"[A-Za-z0-9][\w.-]*"
_REPOSITORY = re.compile(rf"({_WORD}/{_WORD})(?:@([\w./-]+))?", re.ASCII)


class Repository(NamedTuple):
  """A repository of the Hub at a revision; None: its main branch."""

  name: str
  revision: str | None


def add_run(parser: argparse.ArgumentParser, *, instead: str) -> None:
  """Adds `--workdir`, `--step`, and the flag that is given instead of them.

  Exactly one of `--workdir` and `instead` must be given.

  Args:
    parser: of the command.
    instead: "model", or "predictions" for who reads those alone.
  """
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument(
    "--workdir", type=console.path, metavar="DIR", help="the run's directory"
  )
  if instead == "model":
    source.add_argument(
      "--model",
      type=model_argument,
      metavar="MODEL",
      help=f"an exported model instead: {FORMS}",
    )
  else:
    source.add_argument(
      "--predictions",
      type=console.path,
      metavar="DIR",
      help="what evaluate --save-predictions=DIR wrote, instead",
    )
  parser.add_argument(
    "--step",
    type=choice.step_argument,
    metavar="N",
    help="which checkpoint of the run, or 'best'; default: the newest",
  )
  if instead == "model":
    add_raw_weights(parser)


def add_raw_weights(parser: argparse.ArgumentParser) -> None:
  """Adds `--raw-weights`."""
  parser.add_argument(
    "--raw-weights",
    action="store_true",
    help="of a run with config.ema: the weights that it trains, not their "
    "average",
  )


def check_run(args: argparse.Namespace) -> None:
  """Refuses `--step` and `--raw-weights` where there is no run they are of.

  Raises:
    InputError: says so.
  """
  if args.workdir is None and args.step is not None:
    raise console.InputError(
      f"--step={args.step}: only a --workdir has steps; leave it out."
    )
  if args.workdir is None and getattr(args, "raw_weights", False):
    raise console.InputError(
      "--raw-weights: only a --workdir has other weights than those to use; "
      "leave it out."
    )


def model_argument(text: str) -> str:
  """The value of a flag that names a model; a folder's `~` is expanded.

  Raises:
    argparse.ArgumentTypeError: it is none of `FORMS`.
  """
  if not text.startswith(HUB):
    return str(console.path(text))
  repository_argument(text)
  return text


def repository_argument(text: str) -> Repository:
  """The repository in "ORG/NAME@REVISION"; "@REVISION" may be missing.

  Raises:
    argparse.ArgumentTypeError: it names none.
  """
  text = text.removeprefix(HUB)
  match = _REPOSITORY.fullmatch(text)
  # Both become parts of paths in the cache.
  if not match or not all(part.strip(".") for part in re.split("[/@]", text)):
    raise argparse.ArgumentTypeError(
      f"expected ORG/NAME or ORG/NAME@REVISION, got '{text}'"
    )
  return Repository(match[1], match[2])


def table_argument(text: str, *, names_known: bool = False) -> str:
  """The value of `--table`: "keep", "reset" or "map=FILE".

  Args:
    text: what was given.
    names_known: whether a model may name its rows, so that "map" alone will do.

  Raises:
    argparse.ArgumentTypeError: it is none of these.
  """
  rule, equals, file = text.partition("=")
  if rule in (KEEP, RESET) and not equals:
    return text
  if rule == MAP and (file if equals else names_known):
    return text
  forms = (
    "keep, reset, map or map=FILE"
    if names_known
    else ("keep, reset or map=identifiers.json")
  )
  raise argparse.ArgumentTypeError(f"expected {forms}, got '{text}'")

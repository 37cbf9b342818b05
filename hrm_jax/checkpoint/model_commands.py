"""The subcommands that turn a run into a model and move it over the Hub."""

import argparse
from collections.abc import Callable
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import choice, flags

EXAMPLES = """  python -m hrm_jax.checkpoint export --workdir=runs/a --out=model
  python -m hrm_jax.checkpoint push ORG/NAME --model=model
  python -m hrm_jax.checkpoint pull ORG/NAME --revision=main --out=model"""

Command = Callable[[str, str], argparse.ArgumentParser]


def add(command: Command) -> None:
  """Adds the subcommands.

  Args:
    command: makes the parser of a subcommand from its name and what it does.
  """
  parser = command("export", "write a checkpoint as a folder for others")
  parser.add_argument(
    "--workdir",
    type=console.path,
    required=True,
    metavar="DIR",
    help="the run's directory",
  )
  parser.add_argument(
    "--step",
    type=choice.step_argument,
    metavar="N",
    help="which checkpoint, or 'best'; default: the newest",
  )
  parser.add_argument(
    "--out",
    type=console.path,
    required=True,
    metavar="FOLDER",
    help="the folder: empty, not there yet, or an earlier export",
  )
  parser.add_argument(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set, for the identifiers' names; default: the run's",
  )
  parser.add_argument(
    "--license",
    metavar="ID",
    help="of the weights, such as apache-2.0; default: the card says that "
    "none was stated",
  )
  parser.set_defaults(call=_export)

  parser = command("push", "upload an exported folder to the Hub")
  _add_repository(parser)
  parser.add_argument(
    "--model",
    type=console.path,
    required=True,
    metavar="FOLDER",
    help="an exported folder",
  )
  parser.add_argument(
    "--public",
    action="store_true",
    help="a repository that is made is open to all; default: private",
  )
  parser.set_defaults(call=_push)

  parser = command("pull", "fetch a model from the Hub into a folder")
  _add_repository(parser)
  parser.add_argument(
    "--out",
    type=console.path,
    required=True,
    metavar="FOLDER",
    help="the folder: empty, not there yet, or an earlier export",
  )
  parser.set_defaults(call=_pull)


def _add_repository(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "repository",
    type=flags.repository_argument,
    metavar="ORG/NAME",
    help="of the Hub",
  )
  parser.add_argument(
    "--revision",
    metavar="NAME",
    help="branch, tag or commit; default: the main branch",
  )


def _repository(args: argparse.Namespace) -> flags.Repository:
  found = args.repository
  if args.revision is None:
    return found
  if found.revision is not None:
    raise console.InputError(
      f"--revision={args.revision}: expected one revision, got another one in "
      f"{found.name}@{found.revision}."
    )
  try:
    return flags.repository_argument(f"{found.name}@{args.revision}")
  except argparse.ArgumentTypeError:
    raise console.InputError(
      f"--revision={args.revision}: expected a branch, tag or commit."
    ) from None


def _export(args: argparse.Namespace) -> dict[str, Any]:
  # Only here: the other subcommands need no JAX.
  from hrm_jax.checkpoint.export import export

  return export(
    args.workdir, args.step, args.out, data=args.data, licence=args.license
  )


def _push(args: argparse.Namespace) -> dict[str, Any]:
  from hrm_jax.checkpoint import hub

  return hub.push(args.model, _repository(args), public=args.public)


def _pull(args: argparse.Namespace) -> dict[str, Any]:
  from hrm_jax.checkpoint import hub

  return hub.pull(_repository(args), args.out)

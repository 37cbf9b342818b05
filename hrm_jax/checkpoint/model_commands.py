"""The subcommands between runs, exported models, the reference and the Hub."""

import argparse
from collections.abc import Callable
from typing import Any

from hrm_jax import console
from hrm_jax.checkpoint import choice, flags

EXAMPLES = """  python -m hrm_jax.checkpoint import step_26040 --workdir=runs/a
  python -m hrm_jax.checkpoint export --workdir=runs/a --out=pt --format=torch
  python -m hrm_jax.checkpoint export --workdir=runs/a --out=model
  python -m hrm_jax.checkpoint push ORG/NAME --model=model
  python -m hrm_jax.checkpoint pull ORG/NAME --revision=main --out=model"""

Command = Callable[[str, str], argparse.ArgumentParser]


def add(command: Command) -> None:
  """Adds the subcommands.

  Args:
    command: makes the parser of a subcommand from its name and what it does.
  """
  _add_import(command("import", "make a run of a checkpoint of the reference"))
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
  flags.add_raw_weights(parser)
  _add_out(parser)
  parser.add_argument(
    "--format",
    choices=("safetensors", "torch"),
    default="safetensors",
    help="safetensors: for --model and the Hub; torch: as the PyTorch "
    "reference reads it; default: safetensors",
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
  parser.add_argument(
    "--dtype",
    choices=("float32", "bfloat16"),
    help="of the weights in a safetensors file; bfloat16 rounds them, for half "
    "the bytes; default: float32",
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
  _add_out(parser)
  parser.set_defaults(call=_pull)


def _add_import(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    "file",
    type=console.path,
    metavar="FILE",
    help="what the reference saved, such as step_26040; it is read without "
    "PyTorch, and nothing in it is run",
  )
  add(
    "--workdir",
    type=console.path,
    required=True,
    metavar="DIR",
    help="where the run shall lie; there may be none yet",
  )
  add(
    "--config",
    type=console.path,
    metavar="FILE",
    help="its configuration; default: all_config.yaml beside FILE",
  )
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set it was trained on; default: what its configuration says",
  )
  add(
    "--seq-len",
    type=int,
    metavar="N",
    help="cells of a puzzle, where there is no data set: 81 for 9x9 Sudoku, "
    "900 for 30x30 mazes and ARC",
  )
  add(
    "--step",
    type=int,
    metavar="N",
    help="updates it has seen; default: as its name step_N says, else 0",
  )
  add(
    "--table",
    type=flags.table_argument,
    metavar="HOW",
    help="what becomes of puzzle embeddings that are not those of the data "
    "set: keep, reset, or map=identifiers.json, the names of FILE's rows",
  )
  parser.set_defaults(call=_import)


def _add_out(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--out",
    type=console.path,
    required=True,
    metavar="FOLDER",
    help="the folder: empty, not there yet, or an earlier export",
  )


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


def _import(args: argparse.Namespace) -> dict[str, Any]:
  console.check_least("--seq-len", args.seq_len, 1)
  console.check_least("--step", args.step, 0)
  # Only here, and below: the other subcommands need no JAX.
  from hrm_jax.checkpoint import torch_commands

  return torch_commands.import_file(args)


def _export(args: argparse.Namespace) -> dict[str, Any]:
  if args.format == "torch":
    for flag in ("data", "license", "dtype"):
      if getattr(args, flag) is not None:
        raise console.InputError(
          f"--{flag}: means nothing with --format=torch; leave it out."
        )
    from hrm_jax.checkpoint import torch_commands

    return torch_commands.export(
      args.workdir, args.step, args.out, raw_weights=args.raw_weights
    )
  from hrm_jax.checkpoint.export import export

  return export(
    args.workdir,
    args.step,
    args.out,
    data=args.data,
    licence=args.license,
    raw_weights=args.raw_weights,
    dtype=args.dtype or "float32",
  )


def _push(args: argparse.Namespace) -> dict[str, Any]:
  from hrm_jax.checkpoint import hub

  return hub.push(args.model, _repository(args), public=args.public)


def _pull(args: argparse.Namespace) -> dict[str, Any]:
  from hrm_jax.checkpoint import hub

  return hub.pull(_repository(args), args.out)

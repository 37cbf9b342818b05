"""Shows what a trained network thinks, in a browser.

  python -m hrm_jax.view --workdir=runs/sudoku-mini --out=report.html

One HTML file that needs nothing else; with --serve the same page at an address
of this machine, and a box to type puzzles into. The last line of stdout is one
JSON object.
"""

import argparse
import functools
import pathlib
import socket
from typing import Any, NamedTuple

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import atomic_file, flags, run_record
from hrm_jax.checkpoint.load import Trained
from hrm_jax.checkpoint.published import find_data, load_from
from hrm_jax.console import InputError, RunError, log
from hrm_jax.data import identifiers, puzzle_kind, ratings
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.puzzle_text import PuzzleText
from hrm_jax.data.question import Question
from hrm_jax.data.split import open_split
from hrm_jax.machines import compilation_cache, out_of_memory, platform
from hrm_jax.solve import sources, table_rows
from hrm_jax.solve.inference import with_segments
from hrm_jax.view import page, report
from hrm_jax.view.live import Live
from hrm_jax.view.recording import Recording, of_nothing, record
from hrm_jax.view.server import Server

_EXAMPLE = """examples:
  python -m hrm_jax.view --workdir=runs/sudoku-mini --out=report.html
  python -m hrm_jax.view --workdir=runs/sudoku-mini --serve"""

# What 1,000 puzzles should stay below, and what a browser still likes.
_LARGE = 20e6


class Made(NamedTuple):
  """The page, what the command says of it, and what answers its box, if any."""

  html: str
  result: dict[str, Any]
  live: Live | None


def write(args: argparse.Namespace) -> dict[str, Any]:
  """Writes the report.

  Returns:
    `out`, `bytes`, `puzzles`, `step`, `segments`, and the scores of
    `report.scores` after the last segment (`full`) and where each puzzle halts
    by itself (`act`).

  Raises:
    InputError: there is no such checkpoint or data.
    RunError: the report cannot be written.
  """
  made = make(args)
  try:
    atomic_file.write_text(args.out, made.html)
  except OSError as error:
    raise RunError(
      f"{args.out}: cannot be written ({error.strerror})"
    ) from None
  size = len(made.html.encode("utf-8"))
  if size > _LARGE:
    log.warning(
      f"warning: {args.out} has {size / 1e6:,.1f} MB, slow for a browser; "
      "--limit takes fewer puzzles"
    )
  return {"out": str(args.out), "bytes": size, **made.result}


def serve(args: argparse.Namespace) -> None:
  """Serves the page until it is interrupted; prints its address as JSON.

  Raises:
    InputError: the address is taken, or there is no such checkpoint or data.
  """
  # It listens first: a port that is taken is told before anything is loaded.
  with Server(host=args.host, port=args.port) as server:
    made = make(args)
    server.show(made.html, made.live)
    if not _is_loopback(args.host):
      log.warning(
        f"warning: --host={args.host}: whoever reaches this machine and knows "
        "the address can ask; the connection is not encrypted"
      )
    log.info(f"open {server.url}   (Ctrl-C ends it)")
    console.print_json({"url": server.url})
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      log.info("ended")


def make(args: argparse.Namespace) -> Made:
  """Lets the network think about the puzzles, and builds the page."""
  what_helps: list[str] = []  # Known once the batches are.
  with out_of_memory.told("viewing", lambda: what_helps):
    return _make(args, what_helps)


def _make(args: argparse.Namespace, what_helps: list[str]) -> Made:
  trained = load_from(args)
  trained = trained._replace(model=with_segments(trained.model, args.segments))
  root = _find_data(args, trained)
  if root is None:
    text = sources.text_of(args, trained)
    recording = of_nothing(trained)
    shown = report.payload(
      recording, text.board, trained.metadata.vocab_size, sets={"typed": 0}
    )
  else:
    recording, board, shown = _recorded(args, trained, root, what_helps)
    text = PuzzleText(trained.metadata, board)
  shown["about"] = {
    "model": _name(args),
    "step": trained.step,
    "data": root and root.resolve().name,
    "split": args.split,
    "halt": trained.config.eval.halt,
  }
  live = None
  if args.serve:
    rows_of = functools.partial(_rows_of, args, trained)
    live = Live(trained, text, rows_of)
    shown["live"] = {"forms": live.forms}
  title = f"{_name(args)}, step {trained.step:,}"
  html = page.build(shown, title=title, connects=live is not None)
  return Made(html, _result(recording, trained.step), live)


def _find_data(
  args: argparse.Namespace, trained: Trained
) -> pathlib.Path | None:
  """The data set; None: it is not here, and the page has its box without it."""
  try:
    return find_data(args, trained)
  except InputError as error:
    if not args.serve:
      raise
    log.info(f"the page shows no puzzles but those that you type: {error}")
    return None


def _recorded(
  args: argparse.Namespace,
  trained: Trained,
  root: pathlib.Path,
  what_helps: list[str],
) -> tuple[Recording, Board, dict[str, Any]]:
  """What the network thinks of a data set, and how the page is told it."""
  split = open_split(root, args.split)
  run_record.check_fits_data(trained.run, split.metadata, str(split.path))
  batch_size = args.batch_size or trained.config.global_batch_size
  data = EvaluationData(split, batch_size=batch_size, limit=args.limit)
  data = data.fitted(1)
  what_helps += out_of_memory.smaller("--batch-size", data.batch_size, 1)
  kind = puzzle_kind.kind_of(root, [split])
  build = puzzle_kind.read_build(root)
  board = puzzle_kind.board_of(kind, build, split.metadata)
  log.info(
    f"step {trained.step}: {data.num_examples:,} puzzles of {split.path}"
  )
  recording = record(trained, data)
  shown = report.payload(
    recording,
    board,
    split.metadata.vocab_size,
    sets=data.examples_by_set,
    rows_in_set=np.concatenate(list(data.rows_by_set.values())).tolist(),
    names=identifiers.names_in(root),
    blank=split.metadata.blank_identifier_id,
  )
  shown["measures"] += _ratings(data)
  return recording, board, shown


def _ratings(data: EvaluationData) -> list[dict[str, Any]]:
  """How hard the puzzles are by their source, if it rates all sets."""
  found = []
  for each in data.split.sets:
    rated = ratings.read(data.split, each)
    if rated is None:
      return []
    found.append(rated[data.rows_by_set[each.name]])
  return [{"label": "rating", "values": np.concatenate(found).tolist()}]


def _rows_of(
  args: argparse.Namespace, trained: Trained, questions: list[Question]
) -> np.ndarray:
  """[n] rows of the puzzle table that typed puzzles are asked with."""
  return table_rows.of_questions(args, trained, questions)[0]


def _result(recording: Recording, step: int) -> dict[str, Any]:
  puzzles, segments = recording.q_halt.shape
  last = np.full(puzzles, segments)
  return {
    "puzzles": puzzles,
    "step": step,
    "segments": segments,
    "full": report.scores(recording, last),
    "act": report.scores(recording, recording.halts_after),
  }


def _check(args: argparse.Namespace) -> None:
  """Refuses what cannot work before anything is loaded."""
  flags.check_run(args)
  console.check_least("--segments", args.segments, 1, below=10_001)
  console.check_least("--limit", args.limit, 0)
  console.check_least("--batch-size", args.batch_size, 1)
  console.check_least("--port", args.port, 0, below=65_536)
  if args.serve == (args.out is not None):
    raise InputError("expected one of --out=FILE and --serve; see --help.")
  if args.out is None:
    return
  if args.out.is_dir():
    raise InputError(f"--out={args.out}: expected a file, got a directory.")
  if not args.out.absolute().parent.is_dir():
    raise InputError(
      f"--out={args.out}: {args.out.parent}: no such directory; make it first."
    )


def _name(args: argparse.Namespace) -> str:
  """The name of the model: no path, for whoever the page is given to."""
  if args.model is not None and args.model.startswith(flags.HUB):
    return args.model
  path = args.workdir if args.model is None else pathlib.Path(args.model)
  return path.resolve().name


def _is_loopback(host: str) -> bool:
  try:
    found = socket.getaddrinfo(host, None)
  except OSError:
    return False
  addresses = [str(entry[4][0]) for entry in found]
  return all(a == "::1" or a.startswith("127.") for a in addresses)


def _parser() -> console.ArgumentParser:
  parser = console.ArgumentParser(
    prog="python -m hrm_jax.view",
    description="Shows in a browser what a network thinks of each puzzle of a "
    "data set, segment by segment.",
    epilog=_EXAMPLE,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  flags.add_run(parser, instead="model")
  add(
    "--data",
    type=console.path,
    metavar="DIR",
    help="the data set; default: the run's",
  )
  add(
    "--split",
    default="test",
    metavar="NAME",
    help="which part of the data: train or test; default: test",
  )
  add(
    "--out",
    type=console.path,
    metavar="FILE",
    help="write one HTML file, which needs no network",
  )
  add(
    "--serve",
    action="store_true",
    help="serve the page instead, with a box to type puzzles into",
  )
  add(
    "--identifier",
    metavar="NAME",
    help="with --serve: the task that the network is asked for, a name in the "
    "data set's identifiers.json, or '<blank>' for none; default: the puzzle's "
    "own",
  )
  add(
    "--limit",
    type=int,
    default=1000,
    metavar="N",
    help="examples of each set, a fixed sample of it; 0: all; default: "
    "%(default)s",
  )
  add(
    "--segments",
    type=int,
    metavar="N",
    help="segments that every puzzle gets; default: the config's "
    "model.halt_max_steps",
  )
  add(
    "--batch-size",
    type=int,
    metavar="N",
    help="puzzles at a time; default: the config's",
  )
  add(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="with --serve: where to listen; default: this machine alone",
  )
  add(
    "--port",
    type=int,
    default=0,
    metavar="N",
    help="with --serve: 0 takes a free one; default: %(default)s",
  )
  return parser


def main() -> None:
  """The command line."""
  args = _parser().parse_args()
  platform.check()
  compilation_cache.use(compilation_cache.of_user())
  _check(args)
  if args.serve:
    serve(args)
  else:
    console.print_json(write(args))


if __name__ == "__main__":
  console.run(main)

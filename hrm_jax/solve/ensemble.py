"""More thinking at test time: which attempts at a puzzle are made.

An attempt is one way to answer a puzzle: with the weights of one checkpoint,
through one of K symmetric views, from initial states with or without noise. All
combinations are tried. The first attempt is the plain one: the checkpoint that
was asked for, the puzzle as it is, no noise. So a single answer is part of
every ensemble, and what the others add can be told.

Here are the flags, and the numbering of the attempts. `attempts` makes them,
`voting` chooses among them.
"""

import argparse
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hrm_jax import console
from hrm_jax.checkpoint import saved_steps
from hrm_jax.checkpoint.load import Trained
from hrm_jax.checkpoint.published import load_from
from hrm_jax.console import InputError
from hrm_jax.machines import cluster


class Choice(NamedTuple):
  """The value of `--checkpoints`: so many of the newest, or of the best."""

  by: str  # "last" or "best"
  count: int


class Noise(NamedTuple):
  """Noise on the initial states.

  Attributes:
    scale: its standard deviation; that of the states is 1.
    samples: attempts at each view; the first has no noise.
    seed: of it, and of the views.
  """

  scale: float = 0.0
  samples: int = 1
  seed: int = 0


class Ensemble(NamedTuple):
  """What `add_flags` asks for.

  Attributes:
    votes: views of each puzzle, drawn from the seed of the noise.
    noise: on the initial states.
    checkpoints: whose weights answer; None: those of one alone.
    verify: whether an answer that obeys the rules wins over others.
  """

  votes: int
  noise: Noise
  checkpoints: Choice | None
  verify: bool


def _choice(text: str) -> Choice:
  match = re.fullmatch(r"(last|best):([1-9]\d{0,8})", text)
  if match is None:
    raise argparse.ArgumentTypeError(
      f"expected last:N or best:N, N at least 1, got '{text}'"
    )
  return Choice(match[1], int(match[2]))


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags for more than one attempt at a puzzle."""
  add = parser.add_argument_group(
    "several attempts at each puzzle, whose most frequent answer is taken"
  ).add_argument
  add(
    "--votes",
    type=int,
    default=1,
    metavar="K",
    help="look at each puzzle through K symmetric views, the first the puzzle "
    "as it is; default: 1",
  )
  add(
    "--samples",
    type=int,
    default=1,
    metavar="K",
    help="start from K initial states, the first without --noise; default: 1",
  )
  add(
    "--noise",
    type=float,
    default=0.0,
    metavar="S",
    help="standard deviation of Gaussian noise on the initial states of the "
    "other --samples, whose own is 1",
  )
  add(
    "--checkpoints",
    type=_choice,
    metavar="last:N|best:N",
    help="ask the N newest checkpoints of the run that were kept, or the N "
    "best by exact accuracy: best:N",
  )
  add(
    "--verify",
    action="store_true",
    help="an answer that obeys the rules of its puzzle (Sudoku, maze) wins "
    "over one that does not",
  )
  add(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="seed of views and noise; default: 0",
  )


def from_flags(args: argparse.Namespace) -> Ensemble | None:
  """What the flags ask for; None: a single attempt.

  Raises:
    InputError: a value is out of range, or would have no effect.
  """
  console.check_least("--votes", args.votes, 1, 2**16)
  console.check_least("--samples", args.samples, 1, 2**16)
  console.check_least("--seed", args.seed, 0, 2**32)
  # The states are of the order of 1; float32 and bfloat16 hold 1e38.
  if not 0 <= args.noise <= 1e6:
    raise InputError(
      f"--noise: expected a number from 0 to 1e6, got {args.noise}."
    )
  if args.samples > 1 and not args.noise:
    raise InputError(
      f"--samples={args.samples}: expected --noise=S above 0 too, without "
      "which all samples are the same."
    )
  if args.noise and args.samples == 1:
    raise InputError(
      f"--noise={args.noise}: expected --samples=2 or more too, as the first "
      "has no noise."
    )
  if args.checkpoints is not None:
    if args.workdir is None:
      raise InputError("--checkpoints: only a --workdir has checkpoints.")
    if args.step is not None:
      raise InputError(
        f"--checkpoints: expected without --step, got --step={args.step}."
      )
  several = args.checkpoints is not None and args.checkpoints.count > 1
  if args.votes == args.samples == 1 and not several:
    if args.verify:
      raise InputError(
        "--verify: expected --votes, --samples or --checkpoints above 1 too, "
        "as it chooses among several answers."
      )
    if args.checkpoints is None:
      return None
  return Ensemble(
    args.votes,
    Noise(args.noise, args.samples, args.seed),
    args.checkpoints,
    args.verify,
  )


def find_steps(args: argparse.Namespace, choice: Choice) -> list[int]:
  """The checkpoints of a run that are asked, the newest or the best first.

  All processes must call it, and get what the first one finds.

  Raises:
    InputError: there are not so many.
  """
  found = []
  if cluster.is_first():
    directory = saved_steps.directory_of(args.workdir)
    if choice.by == "last":
      found = saved_steps.complete_steps(directory)[::-1]
      which = "that are whole"
    else:
      scores = saved_steps.scores(directory)
      known = [(s, step) for step, s in scores.items() if s is not None]
      found = [step for _, step in sorted(known, reverse=True)]
      which = "that are whole and were evaluated in training"
    if len(found) < choice.count:
      have = ", ".join(map(str, sorted(found))) or "none"
      raise InputError(
        f"--checkpoints={choice.by}:{choice.count}: expected at most "
        f"{len(found)}, as {directory} has {have} {which}."
      )
  text = " ".join(map(str, found[: choice.count]))
  return [int(step) for step in cluster.text_from_first(text).split()]


def networks(
  args: argparse.Namespace,
  tried: Ensemble | None,
  *,
  on_all_devices: bool = False,
) -> Iterator[Trained]:
  """The networks that are asked, the plain one first; each is read when due.

  Args:
    args: the command line, see `published.load_from`.
    tried: what it asks for; None: a single attempt.
    on_all_devices: see `load.load`.

  Raises:
    InputError: one is not there, or is damaged.
  """
  steps = [args.step]
  if tried is not None and tried.checkpoints is not None:
    steps = find_steps(args, tried.checkpoints)
  for step in steps:
    asked = argparse.Namespace(**{**vars(args), "step": step})
    yield load_from(asked, on_all_devices=on_all_devices)


def subsets(
  checkpoints: int, votes: int, samples: int
) -> dict[str, np.ndarray]:
  """The numbers of the attempts that each ingredient alone would have made.

  Attempts are numbered by checkpoint, then view, then sample.

  Returns:
    By ingredient the numbers, increasing: "single", each of "votes", "samples"
    and "checkpoints" that there are several of, and "combined", all of them.
  """
  number = np.arange(checkpoints * votes * samples)
  number = number.reshape(checkpoints, votes, samples)
  alone = {
    "votes": number[0, :, 0],
    "samples": number[0, 0, :],
    "checkpoints": number[:, 0, 0],
  }
  return {
    "single": number[0, 0, :1],
    **{name: which for name, which in alone.items() if len(which) > 1},
    "combined": number.ravel(),
  }

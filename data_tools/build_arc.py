"""Builds a data set of ARC tasks from directories of JSON files.

example:
  python -m data_tools.build_arc --output-dir data/arc-aug-1000 \\
    --dataset-dirs ARC-AGI/data ConceptARC/corpus

Each directory holds folders of task files, such as `training` and
`evaluation`, or the competition's `*_challenges.json` with `*_solutions.json`
(challenges alone: for a submission). The test inputs of `evaluation` become
the test split, all other examples the train split. A file with a bare list of
pairs, as RE-ARC has, is a task without a test: all its pairs train, and join
the training task of that name; below `evaluation` its last pair is the test.
Differs from the reference
(HRM dataset/build_arc_dataset.py): seeded, checked, streamed to disk; and
test_puzzles.json holds the test pairs for the scorer, hrm_jax.arc_vote.
"""

import argparse
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_tools import arc_augment, arc_tasks
from hrm_jax import console
from hrm_jax.console import InputError, log
from hrm_jax.data import arc, writer
from hrm_jax.data.arc_task import Pair, Task

# Examples painted at once: their boards stay in the processor's cache.
_EXAMPLES_AT_ONCE = 512


def build(
  output_dir: str | os.PathLike,
  *,
  dataset_dirs: Sequence[str | os.PathLike],
  num_aug: int = 1000,
  seed: int = 0,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Builds the data set; the arguments are the command's flags.

  Returns:
    The contents of its build.json.

  Raises:
    InputError: an argument or a file is not as it should be; nothing is left
      behind.
  """
  for flag, value in (("--num-aug", num_aug), ("--seed", seed)):
    if value < 0:
      raise InputError(f"{flag}: expected at least 0, got {value}.")
  with writer.DatasetWriter(
    output_dir,
    seq_len=arc.CELLS,
    vocab_size=arc.VOCAB_SIZE,
    overwrite=overwrite,
  ) as dataset:
    tasks, sources = arc_tasks.read_tasks(dataset_dirs)
    arc_tasks.warn_of_answers_in_training(tasks)
    rng = np.random.default_rng(seed)
    # Names in the order of their numbers; a task of two collections has one.
    numbers = {"<blank>": writer.BLANK_IDENTIFIER_ID}
    short = 0
    with console.Progress("writing", len(tasks), unit="tasks") as bar:
      for task in tasks:
        variants = arc_augment.draw(
          task.name, [*task.train, *task.test], num_aug, seed
        )
        short += len(variants.transforms) <= num_aug
        identifiers = np.array(
          [
            numbers.setdefault(identifier, len(numbers))
            for identifier in variants.identifiers(task.name)
          ]
        )
        train = task.train if task.evaluated else [*task.train, *task.test]
        _write_group(dataset, "train", identifiers, variants, train, rng)
        if task.evaluated:
          _write_group(dataset, "test", identifiers, variants, task.test, None)
        bar.advance()
    if short:
      log.info(f"{short} tasks have fewer than {num_aug} distinct variants")
    return dataset.finish(
      identifiers=list(numbers),
      build={
        "builder": "build_arc",
        "puzzle": "arc",
        "seed": seed,
        "source": sources,
        "arguments": {"num_aug": num_aug},
      },
      beside={"test_puzzles.json": _test_puzzles(tasks)},
    )


def _write_group(
  dataset: writer.DatasetWriter,
  split: str,
  identifiers: np.ndarray,
  variants: arc_augment.Variants,
  pairs: Sequence[Pair],
  rng: np.random.Generator | None,
) -> None:
  """Writes a task and its variants; `rng` moves the examples about."""
  count = len(identifiers)
  step = max(1, _EXAMPLES_AT_ONCE // len(pairs))
  for start in range(0, count, step):
    part = arc_augment.Variants(
      *(values[start : start + step] for values in variants)
    )
    offsets = None
    if rng is not None:
      offsets = arc_augment.draw_offsets(rng, part, pairs)
    dataset.add_examples(split, *arc_augment.boards(part, pairs, offsets))
  dataset.add_puzzles(
    split,
    identifiers=identifiers,
    examples_per_puzzle=np.full(count, len(pairs)),
    puzzles_per_group=np.array([count]),
  )


def _test_puzzles(tasks: Sequence[Task]) -> dict[str, list]:
  """The test pairs of each evaluated task, in its own order."""
  puzzles = {}
  for task in tasks:
    if not task.evaluated:
      continue
    pairs = [
      {"input": i.tolist(), "output": None if o is None else o.tolist()}
      for i, o in task.test
    ]
    # The same task may stand here twice, once without its answers.
    if task.name not in puzzles or pairs[0]["output"] is not None:
      puzzles[task.name] = pairs
  return puzzles


def main() -> None:
  """Reads the flags, builds, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.build_arc",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--output-dir",
    type=console.path,
    required=True,
    help="directory to create",
  )
  add(
    "--dataset-dirs",
    type=console.path,
    nargs="+",
    required=True,
    metavar="DIR",
    help="directories that hold folders of task files",
  )
  add(
    "--num-aug",
    type=int,
    default=1000,
    help="variants to add to each task (default: %(default)s)",
  )
  add(
    "--seed",
    type=int,
    default=0,
    help="seed of all random choices (default: 0)",
  )
  add("--overwrite", action="store_true", help="replace an existing data set")
  flags = vars(parser.parse_args())
  built = build(**flags)
  console.print_json({"path": str(flags["output_dir"]), **built["counts"]})


if __name__ == "__main__":
  console.run(main)

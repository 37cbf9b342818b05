"""The curves of a run as TensorBoard shows them, but for its speed."""

import pathlib

from tests import runs

# Name -> (step, value), in the order of writing.
Curves = dict[str, list[tuple[int, float]]]


def read(workdir: pathlib.Path) -> Curves:
  """What TensorBoard shows of a run, by name."""
  curves: Curves = {}
  for name, step, value in runs.read_scalars(workdir, as_shown=True):
    if not name.startswith("perf/"):
      curves.setdefault(name, []).append((step, value))
  return curves


def each_step_once(curves: Curves, last_step: int) -> bool:
  """Whether the loss of each update stands there once, and in order."""
  steps = [step for step, _ in curves["train/lm_loss"]]
  return steps == list(range(1, last_step + 1))

"""From sums, which merge across rows, batches and devices, to means.

The names are the reference's: `train/accuracy`, `train/lm_loss`, ...; ours
are `eval/<set>/<metric>` and `perf/<quantity>`.
"""

import pathlib
import time
from collections.abc import Mapping

import numpy as np
import tensorboardX

# Sums over halted rows; the losses are sums over all rows.
ROW_METRICS = ("accuracy", "exact_accuracy", "q_halt_accuracy", "steps")


def train_means(
  sums: Mapping[str, np.ndarray], global_batch_size: int
) -> dict[str, float]:
  """One update's metrics as they are logged, without the `train/` prefix.

  Row metrics are divided by the rows that halted, losses by the global batch
  size; the rest (`count`, norms) stays. Differs from the reference in logging
  the count itself: it logs count / count.
  """
  count = max(int(sums["count"]), 1)
  means = {}
  for name, value in sums.items():
    if name.endswith("loss"):
      means[name] = float(value) / global_batch_size
    elif name in ROW_METRICS:
      means[name] = float(value) / count
    else:
      means[name] = float(value)
  return means


def eval_means(sums: Mapping[str, np.ndarray]) -> dict[str, float]:
  """A whole set's metrics: everything but `count` divided by it.

  The losses too, as in the reference.
  """
  count = int(sums["count"])
  means = {k: float(v) / max(count, 1) for k, v in sums.items()}
  return {**means, "count": count}


class Writer:
  """Writes scalars for TensorBoard.

  Args:
    directory: of the event files.
    first_step: a resumed run continues here; what an earlier run wrote at
      this step or later is hidden.
  """

  def __init__(self, directory: pathlib.Path, first_step: int):
    # A suffix of its own: two writers opened within one second would
    # otherwise share a file name.
    self._writer = tensorboardX.SummaryWriter(
      str(directory),
      purge_step=first_step or None,
      filename_suffix=f".{first_step}.{time.time_ns()}",
    )
    self._writer.add_custom_scalars(_DASHBOARD)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Writes each named value at `step`."""
    for name, value in values.items():
      self._writer.add_scalar(name, value, step)

  def text(self, name: str, text: str) -> None:
    """Writes a piece of Markdown."""
    self._writer.add_text(name, text)

  def close(self) -> None:
    """Flushes and closes the event file."""
    self._writer.close()


_DASHBOARD = {
  "learning": {
    "loss": ["Multiline", ["train/lm_loss"]],
    "halting losses": [
      "Multiline",
      ["train/q_halt_loss", "train/q_continue_loss"],
    ],
    "exact accuracy": [
      "Multiline",
      ["train/exact_accuracy", "eval/all/exact_accuracy"],
    ],
    "segments per puzzle": ["Multiline", ["train/steps", "eval/all/steps"]],
  },
  "optimisation": {
    "norms": ["Multiline", ["train/grad_norm", "train/update_norm"]],
    "learning rate": ["Multiline", ["train/lr"]],
  },
  "speed": {
    "update": ["Multiline", ["perf/step_seconds"]],
    "share of time waiting for data": ["Multiline", ["perf/data_wait"]],
  },
}

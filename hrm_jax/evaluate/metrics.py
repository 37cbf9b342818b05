"""Turns metric sums into the means that are logged; pure.

Sums, made by `model.losses` and `scoring`, merge across rows, batches and
devices; means do not. The clock and the log of a run are `train.meter`.

The names are the reference's: `train/accuracy`, `train/lm_loss`, ...; ours
are `eval/<set>/<metric>` and `perf/<quantity>`.
"""

from collections.abc import Mapping

import numpy as np

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

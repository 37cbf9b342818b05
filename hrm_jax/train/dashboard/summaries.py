"""What TensorBoard shows of a run around its numbers: charts, words, a table.

docs/tensorboard.md lists all that a run writes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

# protobuf makes its classes at import, where no checker sees them.
# pyright: reportAttributeAccessIssue=false
from tensorboardX import summary
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary

from hrm_jax.train.dashboard import picture, png

# The charts of "Custom Scalars", by category. Each is a list of regular
# expressions, which are tried at the beginning of a tag: `eval/` has the names
# of the data's sets in between.
LAYOUT = {
  "Accuracy": {
    "puzzles that are right": [
      "train/exact_accuracy",
      "eval/.+/exact_accuracy",
    ],
    "cells that are right": ["train/accuracy", "eval/.+/accuracy"],
    "puzzles that are right after each segment": ["eval/accuracy_by_segment/"],
  },
  "Halting": {
    "segments per puzzle": ["train/steps", "eval/.+/steps"],
    "halting value agrees with being right": [
      "train/q_halt_accuracy",
      "eval/.+/q_halt_accuracy",
    ],
    "rows that halted in the update": ["train/count"],
  },
  "Losses": {
    "of the answer": ["train/lm_loss", "eval/.+/lm_loss"],
    "of the halting value": ["train/q_halt_loss", "eval/.+/q_halt_loss"],
    "of the value of going on": ["train/q_continue_loss"],
  },
  "Optimiser": {
    "learning rate": ["train/lr"],
    "norm of the gradient": ["train/grad_norm"],
    "norm of the weights": ["train/param_norm"],
    "puzzle embeddings": ["train/puzzle_emb_"],
  },
  "Performance": {
    "seconds per update": ["perf/step_seconds"],
    "examples per second": ["perf/examples_per_s"],
    "share of the fastest matrix product (MFU)": ["perf/mfu"],
    "share of time waiting for data": ["perf/data_wait"],
  },
}

# Columns of the table under "HParams", for each set of the test split.
SCORES = ("exact_accuracy", "accuracy", "steps", "lm_loss")


def layout() -> Summary:
  """The charts of "Custom Scalars"."""
  return summary.custom_scalars(
    {
      category: {title: ["Multiline", tags] for title, tags in charts.items()}
      for category, charts in LAYOUT.items()
    }
  )


def halting(result: Mapping[str, Any]) -> Summary:
  """When puzzles halt and how sure they are of it, as histograms.

  Args:
    result: what `Evaluator` returns.
  """
  by_segments = result["puzzles_by_segments"]
  by_chance = result["puzzles_by_halt_probability"]
  # Segments are whole numbers: each is the middle of its bar.
  return Summary(
    value=[
      _histogram(
        "eval/segments",
        by_segments,
        np.arange(len(by_segments) + 1) + 0.5,
      ),
      _histogram(
        "eval/halt_probability",
        by_chance,
        np.linspace(0, 1, len(by_chance) + 1),
      ),
    ]
  )


def _histogram(
  tag: str, counts: Sequence[int], edges: np.ndarray
) -> Summary.Value:
  """A histogram of n counts between n + 1 edges."""
  middles = (edges[1:] + edges[:-1]) / 2
  # TensorBoard takes the empty bars at the ends away, and draws the outermost
  # of the others out to the least and the largest value.
  filled = np.flatnonzero(counts)
  first, last = filled[[0, -1]] if len(filled) else (0, len(counts) - 1)
  return Summary.Value(
    tag=tag,
    histo=HistogramProto(
      min=edges[first],
      max=edges[last + 1],
      num=sum(counts),
      sum=np.dot(counts, middles),
      sum_squares=np.dot(counts, middles**2),
      bucket_limit=edges[1:],
      bucket=counts,
    ),
  )


def image(tag: str, draw: Callable[[], np.ndarray]) -> Summary:
  """A picture.

  Args:
    tag: its name.
    draw: returns [height, width] places in `picture.PALETTE`.
  """
  pixels = draw()
  shown = Summary.Image(
    height=pixels.shape[0],
    width=pixels.shape[1],
    colorspace=3,  # RGB
    encoded_image_string=png.encode(pixels, picture.PALETTE),
  )
  return Summary(value=[Summary.Value(tag=tag, image=shown)])


def table(name: str, rows: Mapping[str, Any]) -> Summary:
  """A table of keys and values under "Text"."""

  def cell(value: Any) -> str:
    # What has a meaning in a table, or in a piece of code.
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")

  lines = ["| key | value |", "|---|---|"]
  for key, value in rows.items():
    code = f"`{cell(value)}`" if cell(value) else ""
    lines.append(f"| {cell(key)} | {code} |")
  return summary.text(name, "\n".join(lines))


def hparams(config: Mapping[str, Any], sets: Iterable[str]) -> Summary:
  """A row of the table under "HParams": keys, and scores by their tags.

  The scores are the newest values of these tags, so that the row is right in
  the middle of a run too.

  Args:
    config: by dotted key.
    sets: the names of the test split's sets.
  """
  # The table knows no None and no lists.
  plain = {
    key: value if isinstance(value, bool | int | float) else str(value)
    for key, value in config.items()
  }
  scores = [f"eval/{name}/{score}" for name in sets for score in SCORES]
  columns, row, _ = summary.hparams(plain, dict.fromkeys(scores))
  return Summary(value=[*columns.value, *row.value])


def end_of_hparams() -> Summary:
  """Marks the row of the table as that of a run that has come to its end."""
  return summary.hparams({}, {})[2]

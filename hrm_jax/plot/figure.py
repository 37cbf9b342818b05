"""Draws a chart with matplotlib, as wide as a column of a paper.

Lines differ in colour, stroke and marker, so that they can be told apart in
grey too. The same numbers give the same bytes with the same matplotlib.
"""

import io
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hrm_jax.plot.charts import Chart

# The colours of Okabe and Ito, for most kinds of colour blindness, in an order
# in which neighbours differ in lightness too.
_COLOURS = ("#0072B2", "#E69F00", "#000000", "#009E73", "#CC79A7", "#D55E00")
_STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

FORMATS = ("png", "svg")
# Inches: a column of most two-column styles. Of the file, dots per inch.
_SIZE = (3.35, 2.6)
_DPI = 300

# An axis is logarithmic where its largest value is so many times its smallest:
# below, its ticks would be crowded.
_LOG_FROM = 50

_STYLE: dict[Any, Any] = {
  "font.family": "sans-serif",
  "font.sans-serif": ["DejaVu Sans"],  # It comes with matplotlib.
  "font.size": 8,
  "axes.titlesize": 8,
  "axes.labelsize": 8,
  "legend.fontsize": 7,
  "xtick.labelsize": 7,
  "ytick.labelsize": 7,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.grid": True,
  "axes.axisbelow": True,
  "grid.color": "0.88",
  "grid.linewidth": 0.5,
  "axes.linewidth": 0.6,
  "lines.linewidth": 1.2,
  "lines.markersize": 3.5,
  # Names of parts within an SVG: from the content instead of at random.
  "svg.hashsalt": "hrm_jax",
}


def draw(chart: Chart) -> Figure:
  """The figure of a chart; a band shows the spread of a line's runs."""
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    for number, line in enumerate(chart.lines):
      colour = _COLOURS[number % len(_COLOURS)]
      label = _as_text(line.label)
      if line.runs > 1:
        label += f" (mean and range of {line.runs})"
        axes.fill_between(
          line.x, line.lowest, line.highest, color=colour, alpha=0.2, lw=0
        )
      axes.plot(
        line.x,
        line.mean,
        label=label,
        color=colour,
        linestyle=_STROKES[number % len(_STROKES)],
        marker=_MARKERS[number % len(_MARKERS)],
        # At most some twenty: more would hide the line.
        markevery=max(1, -(-len(line.x) // 20)),
        clip_on=False,
      )
    axes.set_title(chart.title)
    axes.set_xlabel(chart.x.label)
    axes.set_ylabel(chart.y.label)
    x = [each for line in chart.lines for each in line.x]
    if chart.x.may_be_log and max(x) >= _LOG_FROM * min(x) > 0:
      axes.set_xscale("log")
    elif chart.x.from_zero:
      axes.set_xlim(left=0)
    if chart.x.may_be_log and axes.get_xscale() == "linear":
      axes.ticklabel_format(axis="x", scilimits=(0, 0), useMathText=True)
    if chart.x.is_whole:
      axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, handlelength=3)
  return figure


def to_bytes(figure: Figure, form: str) -> bytes:
  """The file of a figure, in one of FORMATS."""
  file = io.BytesIO()
  # Neither the date nor the version: the same figure is the same file.
  nothing = {"Date": None, "Creator": None} if form == "svg" else {}
  with matplotlib.rc_context(_STYLE):
    figure.savefig(
      file,
      format=form,
      dpi=_DPI,
      metadata=nothing if form == "svg" else {"Software": None},
    )
  return file.getvalue()


def _as_text(label: str) -> str:
  """A label that matplotlib shows as it is: no formula, and not hidden."""
  label = label.replace("$", r"\$")
  return f" {label}" if label.startswith("_") else label

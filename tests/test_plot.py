"""Figures of runs: what they show, and what is refused."""

import copy
import csv
import importlib.util
import json

import numpy as np
import pytest

from hrm_jax.checkpoint import atomic_file, store
from hrm_jax.config import KEYS
from hrm_jax.data.split import open_split
from hrm_jax.model import flops
from hrm_jax.model.build import make_model
from hrm_jax.plot import __main__ as plot
from hrm_jax.plot import by_rating, charts, figure, run
from hrm_jax.plot.charts import Axis, Chart, Group
from hrm_jax.plot.lines import Line, common_name, over_runs
from hrm_jax.plot.run import LeftOutError
from tests.commands import Commands, files_of
from tests.tiny import tiny_config


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def tiny(tiny_run):
  return run.read(tiny_run)


def log_of(path, values, metric="exact_accuracy"):
  """A log of another program: from a step to a metric."""
  lines = [
    {"step": step, "train_s": 1.5, "eval": {"all": {metric: value}}}
    for step, value in values.items()
  ]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def rows_of(path):
  """A CSV: header, and its points by line."""
  header, *rows = csv.reader(path.read_text().splitlines())
  points = {}
  for label, *numbers in rows:
    points.setdefault(label, []).append([float(n) for n in numbers])
  return header, {label: np.array(each) for label, each in points.items()}


# --- what a run tells


def test_every_evaluation_of_a_run_is_read(tiny, tiny_run):
  last = store.read_run(tiny_run, 10)["evaluation"]
  for metric in ("exact_accuracy", "accuracy", "lm_loss"):
    curve = tiny.curves[metric]
    assert sorted(curve) == [5, 10]
    assert curve[10] == last["sets"]["all"][metric]
  assert tiny.by_segment == last["exact_accuracy_by_segment"]


def test_evaluations_of_deleted_checkpoints_stand_in_the_event_files(tiny_run):
  found = run.Curves()
  run._add_events(found, tiny_run / "tensorboard")
  kept = run.read(tiny_run).curves
  assert found["accuracy"] == pytest.approx(kept["accuracy"])
  assert found["accuracy"] != {}


def test_compute_is_that_of_whole_batches(tiny, tiny_run):
  config = tiny_config()
  metadata = open_split(tiny_run / "data", "train").metadata
  model = make_model(config.model, metadata)
  (line,) = charts.by_compute([Group("a", [tiny], [tiny.curves])]).lines
  assert line.x == (
    5 * 16 * flops.per_update(model),
    10 * 16 * flops.per_update(model),
  )


def test_the_mean_over_the_sets_is_what_best_goes_by():
  curves = run.Curves()
  run.add(curves, 5, {"a": {"m": 0.5, "only": 1.0}, "b": {"m": 0.25}})
  run.add(curves, 6, {"a": {"m": float("nan")}})
  assert curves == {"m": {5: 0.375}, "only": {5: 1.0}}


# --- lines


def test_a_line_has_the_mean_and_the_range_of_its_runs():
  line = over_runs("a", [{1: 1.0, 2: 5.0}, {2: 1.0, 3: 7.0}, {2: 3.0, 1: 2.0}])
  assert line == Line("a", (2,), (3.0,), (1.0,), (5.0,), 3)
  assert over_runs("a", [{1: 1.0}, {2: 1.0}]) is None


@pytest.mark.parametrize(
  ("names", "name"),
  [
    (["mini-0", "mini-1"], "mini"),
    (["mini-seed-10", "mini-seed-11"], "mini"),
    (["1k_s", "1k_s"], "1k_s"),
    (["mini-3"], "mini-3"),
    (["one", "two"], "one"),
  ],
)
def test_runs_of_one_line_are_called_what_their_names_share(names, name):
  assert common_name(names) == name


def changed(found, workdir, **keys):
  """The run as if it lay elsewhere and had other keys."""
  record = copy.deepcopy(found.record)
  record["config"].update(keys)
  return found._replace(workdir=workdir, record=record)


def test_runs_that_differ_in_their_seed_alone_are_one_line(
  tiny, tmp_path, monkeypatch
):
  found = {
    tmp_path / "a-0": changed(tiny, tmp_path / "a-0"),
    tmp_path / "a-1": changed(tiny, tmp_path / "a-1", seed=1, log_every=7),
    tmp_path / "x/a": changed(tiny, tmp_path / "x/a", lr=1.0, epochs=7),
    tmp_path / "b": changed(tiny, tmp_path / "b", lr=3.0, epochs=7),
  }
  monkeypatch.setattr(run, "read", found.get)
  groups = plot._groups([*found, tmp_path / "b"], [])
  assert [(g.label, len(g.curves)) for g in groups] == [
    ("a, epochs=4, lr=0.001", 2),
    ("a, epochs=7, lr=1.0", 1),
    ("b", 1),
  ]


def test_what_makes_no_other_line_is_a_key():
  assert set(run.OF_ONE_RUN) <= set(KEYS)


def test_pictures_make_no_other_line(tiny):
  record = copy.deepcopy(tiny.record)
  record["config"]["eval"]["pictures"] = 99
  assert run.alike(tiny._replace(record=record)) == run.alike(tiny)


def test_other_data_make_another_line(tiny, tmp_path):
  other = changed(tiny, tmp_path)
  other.record["digests"] = {"train": "x", "test": "y"}
  assert run.alike(other) == run.alike(tiny)  # It has generated its own.
  here, there = copy.deepcopy(tiny.record), copy.deepcopy(other.record)
  for record in (here, there):
    record["config"]["data"]["path"] = "data/set"
  made = [run.alike(tiny._replace(record=r)) for r in (here, there)]
  assert made[0] != made[1]


# --- figures


def test_the_csv_is_what_is_drawn(tiny_run, tmp_path, command, monkeypatch):
  drawn = []
  draw = figure.draw
  monkeypatch.setattr(
    figure, "draw", lambda chart: drawn.append(draw(chart)) or drawn[-1]
  )
  logs = [
    log_of(tmp_path / "0.jsonl", {5: 0.25, 10: 0.5, 12: 0.75}),
    log_of(tmp_path / "1.jsonl", {5: 0.75, 10: 1.0}),
  ]
  out = tmp_path / "deep/figures"
  made = command(
    plot,
    *("--workdir", tiny_run),
    *(f"--beside=other={path}" for path in logs),
    f"--out={out}",
  )
  assert list(made["figures"]) == [
    "learning-exact_accuracy",
    "learning-accuracy",
    "learning-lm_loss",
    "accuracy-by-segments",
    "accuracy-by-compute",
  ]
  assert made["lines"] == {tiny_run.name: 1, "other": 2}
  files = {name for each in made["figures"].values() for name in each}
  assert {path.name for path in out.iterdir()} == files
  for name, seen in zip(made["figures"], drawn, strict=True):
    (axes,) = seen.axes
    header, points = rows_of(out / f"{name}.csv")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(axes.lines) == len(points) == len(labels)
    bands = iter(axes.collections)
    for line, (label, rows), shown in zip(
      axes.lines, points.items(), labels, strict=True
    ):
      assert shown.startswith(label)
      np.testing.assert_array_equal(line.get_xydata(), rows[:, :2])
      assert header[-1] == "runs"
      if rows[0, -1] > 1:
        (band,) = next(bands).get_paths()
        edges = {tuple(vertex) for vertex in band.vertices}
        assert {tuple(row) for row in rows[:, [0, 2]]} <= edges
        assert {tuple(row) for row in rows[:, [0, 3]]} <= edges
    assert all([axes.get_xlabel(), axes.get_ylabel(), axes.get_title()])
  _, points = rows_of(out / "learning-exact_accuracy.csv")
  assert points["other"].tolist() == [[5, 50, 25, 75, 2], [10, 75, 50, 100, 2]]
  share = store.read_run(tiny_run, 10)["evaluation"]["sets"]["all"]
  assert points[tiny_run.name][1, 1] == 100 * share["exact_accuracy"]
  for name in ("accuracy-by-rating", "segments-by-rating"):
    assert "holds no ratings" in made["left_out"][name]


def test_what_is_not_in_a_line_is_told(lines):
  groups = [
    Group("a", [], [{"accuracy": {1: 0.5, 2: 0.5}}, {"accuracy": {2: 0.5}}]),
    Group("b", [], [{"lm_loss": {1: 0.5}}]),
  ]
  (line,) = charts.learning(groups, "accuracy").lines
  assert (line.label, line.x) == ("a", (2,))
  assert lines == [
    "Cells right in held-out puzzles: a: without 1 point that not all its runs "
    "have",
    "Cells right in held-out puzzles: without b: no point that all its runs "
    "have",
  ]


def test_a_line_that_cannot_be_told_is_named(tiny, lines):
  other = Group("reference", [], [{"exact_accuracy": {5: 0.5}}])
  chart = charts.by_segments([Group("a", [tiny], []), other])
  assert [line.label for line in chart.lines] == ["a"]
  assert lines == [
    "Held-out puzzles solved, by segments: without reference: only runs of "
    "hrm_jax tell it"
  ]


def chart_of(count):
  lines = [
    Line(f"line {i}", (1, 2), (i, 2 * i), (i, i), (i, 3 * i), 2)
    for i in range(count)
  ]
  return Chart("title", Axis("x", "X"), Axis("y", "Y (%)"), lines)


def test_lines_can_be_told_apart_without_colour():
  (axes,) = figure.draw(chart_of(20)).axes
  looks = {(str(l._dash_pattern), l.get_marker()) for l in axes.lines}
  assert len(looks) == 20


@pytest.mark.parametrize("form", figure.FORMATS)
def test_the_same_numbers_are_the_same_file(form):
  once, again = (
    figure.to_bytes(figure.draw(chart_of(2)), form) for _ in range(2)
  )
  assert once == again
  assert b"dc:date" not in once


@pytest.mark.parametrize(("most", "scale"), [(40, "linear"), (60, "log")])
def test_an_axis_is_logarithmic_where_it_is_long(most, scale):
  line = Line("a", (1, most), (1, 2), (1, 2), (1, 2), 1)
  chart = Chart("t", Axis("x", "X", may_be_log=True), Axis("y", "Y"), [line])
  assert figure.draw(chart).axes[0].get_xscale() == scale


# --- by rating


@pytest.fixture
def rated(tiny, tmp_path):
  """The tiny run with rated data and predictions for all but one puzzle.

  Every second answer is right. A rating is the number of the puzzle, and it
  took a third as many segments.
  """
  found = tiny._replace(workdir=tmp_path)
  source = tiny.workdir / "data"
  (tmp_path / "data").symlink_to(source)
  labels = np.load(source / "test/all__labels.npy").astype(np.int32)[1:]
  rows = np.arange(1, 27)
  predictions = labels.copy()
  predictions[::2, 0] += 1
  labels[-1] = -100
  columns = {
    "rows": rows,
    "labels": labels,
    "predictions": predictions,
    "segments": (rows // 3).astype(np.int32),
  }
  save(tmp_path / "predictions/5/test", columns)
  return found, columns


def save(directory, columns, part="all"):
  directory.mkdir(parents=True, exist_ok=True)
  for name, values in columns.items():
    np.save(directory / f"{part}__{name}.npy", values)


@pytest.fixture
def with_ratings(monkeypatch):
  monkeypatch.setattr(
    by_rating.ratings, "read", lambda split, each: np.arange(27.0)
  )


def test_accuracy_and_segments_follow_the_rating(rated, with_ratings):
  found, _ = rated
  groups = [Group("a", [found], [found.curves])]
  (line,) = charts.accuracy_by_rating(groups).lines
  assert len(line.x) == 8
  # Puzzles 1 to 25 are judged, the even ones are right; three in the first bin.
  assert line.x[0] == np.mean([1, 2, 3])
  assert line.mean[0] == pytest.approx(100 / 3)
  (line,) = charts.segments_by_rating(groups).lines
  assert line.mean[0] == pytest.approx(np.mean([0, 0, 1]))


def test_parts_of_several_processes_are_one_set(rated, with_ratings):
  found, columns = rated
  whole = by_rating.read(found)
  for path in (found.workdir / "predictions/5/test").iterdir():
    path.unlink()
  for i, some in enumerate((slice(0, 9), slice(9, None))):
    part = {name: values[some] for name, values in columns.items()}
    save(found.workdir / "predictions/5/test", part, f"all.{i}of2")
  parts = by_rating.read(found)
  for one, other in zip(whole, parts, strict=True):
    np.testing.assert_array_equal(one, other)


def test_all_runs_share_the_bins():
  many = np.arange(16.0)
  runs = [by_rating.Rated(r, r > 0, r) for r in (many, many[:4])]
  curves = by_rating.binned(runs, [r.ratings for r in runs])
  assert set(curves[1]) < set(curves[0])
  equal = by_rating.Rated(np.zeros(5), np.ones(5), np.ones(5))
  assert by_rating.binned([equal], [equal.solved]) == [{0.0: 1.0}]


def test_where_every_puzzle_got_as_many_segments_there_is_nothing_to_see(
  rated, with_ratings
):
  found, columns = rated
  columns["segments"][:] = 4
  save(found.workdir / "predictions/7/test", columns)
  with pytest.raises(LeftOutError, match="every puzzle was given 4 segments"):
    charts.segments_by_rating([Group("a", [found], [])])


def test_a_run_without_predictions_is_told_and_left_out(
  rated, tiny, with_ratings, lines
):
  found, _ = rated
  chart = charts.accuracy_by_rating(
    [Group("a", [found], []), Group("b", [tiny], []), Group("c", [], [])]
  )
  assert [line.label for line in chart.lines] == ["a"]
  (line,) = lines
  assert "--halt=act --save-predictions" in line
  with pytest.raises(LeftOutError, match="--save-predictions"):
    charts.accuracy_by_rating([Group("b", [tiny], [])])


@pytest.mark.parametrize(
  ("name", "change", "said"),
  [
    (
      "segments",
      lambda v: v[:-1],
      r"segments\.npy: expected integers of shape \(26,\) as all__rows",
    ),
    ("predictions", lambda v: v[:, :3], r"expected .* \(26, 16\) .*\(26, 3\);"),
    ("segments", lambda v: v / 2, r"segments\.npy: .* got float64 of shape"),
    ("rows", lambda v: v[None], r"rows\.npy: expected integers of shape \(26,"),
    ("rows", lambda v: v + 1, r"rows\.npy: expected places among the 27 exam"),
    ("labels", None, r"all__labels\.npy: no such file; evaluate anew"),
  ],
)
def test_damaged_predictions_are_named(rated, with_ratings, name, change, said):
  found, columns = rated
  path = found.workdir / f"predictions/5/test/all__{name}.npy"
  path.unlink()
  if change is not None:
    np.save(path, change(columns[name]))
  with pytest.raises(by_rating.InputError, match=said):
    by_rating.read(found)


# --- what is refused

BAD = {
  "no.jsonl": (None, "cannot be read (No such file or directory)"),
  "empty.jsonl": ("\n", "expected evaluations, got none"),
  "words.jsonl": ("hello\n", "line 1: expected a JSON object with the keys"),
  "list.jsonl": ("[1]\n", "line 1: expected a JSON object with the keys 'st"),
  "sets.jsonl": ('{"step": 1, "eval": 3}\n', "line 1: key 'eval': expected"),
  "flat.jsonl": ('{"step": 1, "eval": {"a": 1}}\n', "line 1: key 'eval': exp"),
  "none.jsonl": ('{"step": 1, "eval": {}}\n', "line 1: key 'eval': expected"),
  "step.jsonl": (
    '\n{"step": 1.5, "eval": {"a": {}}}\n',
    "line 2: step: expected a whole number, got 1.5",
  ),
  "nan.jsonl": (
    '{"step": 1, "eval": {"a": {"m": NaN}}}\n',
    "line 1: m: expected a number, got nan",
  ),
  "bool.jsonl": (
    '{"step": true, "eval": {"a": {"m": 1}}}\n',
    "line 1: step: expected a number, got True",
  ),
  "again.jsonl": (
    '{"step": 1, "eval": {"a": {"m": 1}}}\n' * 2,
    "line 2: expected each step once, got 1 as in line 1",
  ),
  "header.csv": ("a,b\n1,2\n", "line 1: expected different columns, 'step'"),
  "alone.csv": ("step\n1\n", "line 1: expected different columns, 'step' and"),
  "twice.csv": ("step,a,a\n1,2,3\n", "line 1: expected different columns, 's"),
  "short.csv": ("step,a\n1,2\n\n3\n", "line 4: expected 2 fields as in line 1"),
  "huge.jsonl": (
    '{"step": 1, "eval": {"a": {"m": 1' + "0" * 400 + "}}}\n",
    "line 1: m: expected a number, got 1000",
  ),
  "percent.jsonl": (
    '{"step": 1, "eval": {"a": {"exact_accuracy": 50}}}\n',
    "line 1: exact_accuracy: expected a share from 0 to 1, got 50",
  ),
  "quote.csv": ('step,a\n1,"0.\n', "line 2: not valid CSV (unexpected end"),
  "field.csv": (
    "step,a\n1," + "1" * 200_000 + "\n",
    "line 2: not valid CSV (field l",
  ),
  "word.csv": ("step,a\n1,x\n", "line 2: a: expected a number, got 'x'"),
  "rows.csv": ("step,a\n", "expected evaluations, got none"),
  "bytes.csv": (b"\xff\xfe", "expected text in UTF-8, got other bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_log_that_is_not_one_gets_one_line(tmp_path, command, name):
  content, said = BAD[name]
  path = tmp_path / name
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    path.write_text(content)
  error = command.error(plot, f"--beside=a={path}", f"--out={tmp_path / 'out'}")
  assert error.startswith(f"{path}: {said}")
  assert not (tmp_path / "out").exists()


def test_what_evaluate_prints_is_read(tmp_path):
  path = tmp_path / "ours.jsonl"
  line = {"sets": {"a": {"m": 0.5}, "b": {"m": 1}}, "step": 5, "halt": "act"}
  path.write_text(json.dumps(line))
  assert plot.beside.read(path) == {"m": {5: 0.75}}


def test_a_table_is_read_as_a_log_is(tmp_path):
  path = tmp_path / "curve.csv"
  path.write_text("step,exact_accuracy,lm_loss\n5,0.5,2e-1\n10,1,0\n")
  assert plot.beside.read(path) == {
    "exact_accuracy": {5: 0.5, 10: 1.0},
    "lm_loss": {5: 0.2, 10: 0.0},
  }


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    ([], "expected --workdir or --beside"),
    (["--beside=curve.jsonl"], "expected NAME=FILE, got 'curve.jsonl'"),
    (["--beside=a=b", "--only=learning"], "argument --only: invalid choice"),
    (["--workdir=nowhere"], "nowhere/checkpoints: no checkpoint there"),
  ],
)
def test_bad_flags_get_one_line(tmp_path, command, flags, said):
  error = command.error(plot, *flags, f"--out={tmp_path / 'out'}")
  assert said in error


def test_the_name_of_another_program_is_its_own(tiny_run, tmp_path, command):
  path = log_of(tmp_path / "a.jsonl", {5: 0.5})
  error = command.error(
    plot,
    f"--workdir={tiny_run}",
    f"--beside={tiny_run.name}={path}",
    f"--out={tmp_path / 'out'}",
  )
  assert "expected a name of its own" in error


def test_a_figure_that_nothing_can_be_drawn_for_is_an_error(tmp_path, command):
  path = log_of(tmp_path / "a.jsonl", {5: 0.5}, "accuracy")
  flags = [f"--beside=a={path}", f"--out={tmp_path / 'out'}", "--only"]
  error = command.error(plot, *flags, "learning-lm_loss", "accuracy-by-compute")
  assert error == (
    "no figure can be drawn: learning-lm_loss: no evaluation tells 'lm_loss'; "
    "accuracy-by-compute: only the FLOPs of runs of hrm_jax are known"
  )
  made = command(plot, *flags, "learning-accuracy")
  assert list(made["figures"]) == ["learning-accuracy"]


def test_without_matplotlib_one_line_says_how_to_get_it(
  tmp_path, command, monkeypatch
):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  error = command.error(plot, "--beside=a=b", f"--out={tmp_path}")
  assert error.endswith("not installed: pip install 'hrm_jax[plot]'")


def test_a_full_disk_leaves_the_old_figures(tmp_path, command, monkeypatch):
  path = log_of(tmp_path / "a.jsonl", {5: 0.5})
  out = tmp_path / "out"
  flags = [f"--beside=a={path}", f"--out={out}"]
  command(plot, *flags)
  before = files_of(out)

  def fail(path, content):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(atomic_file, "write_bytes", fail)
  log_of(path, {5: 0.75})
  with pytest.raises(SystemExit) as exit_info:
    command._run(plot, flags)
  assert exit_info.value.code == 1
  assert files_of(out) == before


def test_a_file_is_no_place_for_figures(tmp_path, command):
  path = log_of(tmp_path / "a.jsonl", {5: 0.5})
  error = command.error(plot, f"--beside=a={path}", f"--out={path}")
  assert error == f"--out={path}: expected a directory, got a file."


def test_a_folder_is_no_figure_to_replace(tmp_path, command):
  path = log_of(tmp_path / "a.jsonl", {5: 0.5})
  taken = tmp_path / "out" / "learning-exact_accuracy.svg"
  taken.mkdir(parents=True)
  error = command.error(plot, f"--beside=a={path}", f"--out={taken.parent}")
  assert error.startswith(f"{taken}: expected a file, which a figure may repl")
  assert list(taken.parent.iterdir()) == [taken]


@pytest.mark.parametrize("label", ["a$b_{$", "_a"])
def test_a_name_is_neither_a_formula_nor_hidden(label):
  line = over_runs(label, [{1: 0.5, 2: 0.7}])
  chart = chart_of(1)._replace(lines=[line])
  drawn = figure.draw(chart)
  (shown,) = drawn.axes[0].get_lines()
  assert shown.get_label().replace("\\", "").strip() == label
  assert not shown.get_label().startswith("_")
  assert figure.to_bytes(drawn, "svg")


def test_a_name_that_cannot_be_printed_is_refused(command, tmp_path):
  error = command.error(plot, "--beside", "a\x01=b", f"--out={tmp_path / 'o'}")
  assert "expected a name that can be printed before '='" in error

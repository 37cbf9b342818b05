"""The report: its numbers, what it holds, and what cannot get out of it."""

import argparse
import base64
import configparser
import fnmatch
import hashlib
import pathlib
import re
import shutil
import zlib

import numpy as np
import pytest

from hrm_jax.data import drawing, maze, puzzle_kind
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.puzzle import IGNORE_LABEL_ID
from hrm_jax.data.puzzle_kind import Board
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.model import losses
from hrm_jax.solve import ensemble, inference
from hrm_jax.view import __main__ as view
from hrm_jax.view import page, report
from hrm_jax.view.recording import Recorder, Recording
from tests import viewed
from tests.commands import Commands

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


@pytest.fixture(scope="module")
def prepared(tiny_run, tmp_path_factory):
  return viewed.prepare(tiny_run, tmp_path_factory.mktemp("viewed") / "data")


@pytest.fixture(scope="module")
def network(tiny_run):
  """The network that changes its mind."""
  return viewed.load_restless(argparse.Namespace(workdir=tiny_run))


@pytest.fixture(scope="module")
def recorder(network):
  return Recorder(network)


@pytest.fixture
def restless(monkeypatch, prepared):
  """The flags of both commands for the network that changes its mind."""
  for module in (ensemble, view):
    monkeypatch.setattr(module, "load_from", viewed.load_restless)
  return prepared.flags


def noise(puzzles, segments, cells, tokens, *, change=1.0):
  """A recording in which a share of the cells changes with every segment."""
  rng = np.random.default_rng(0)
  shape = (puzzles, segments, cells)
  answers = rng.integers(1, tokens, shape, np.int32)
  kept = rng.random(shape, np.float32) >= change
  for segment in range(1, segments):
    before = answers[:, segment - 1]
    answers[:, segment] = np.where(
      kept[:, segment], before, answers[:, segment]
    )
  return Recording(
    inputs=answers[:, 0],
    labels=answers[:, -1],
    puzzle_identifiers=np.zeros(puzzles, np.int32),
    answers=answers,
    confidence=rng.integers(0, 101, shape, np.uint8),
    q_halt=rng.normal(size=(puzzles, segments)).astype(np.float32),
    q_continue=rng.normal(size=(puzzles, segments)).astype(np.float32),
  )


def board(kind, side):
  return Board(kind, (side, side), None)


def unpacked(text, dtype):
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def test_the_report_says_what_evaluate_says(restless, tmp_path, command):
  made = command(view, *restless, f"--out={tmp_path / 'report.html'}")
  assert (made["puzzles"], made["segments"]) == (27, viewed.SEGMENTS)
  for halt in ("full", "act"):
    want = command(evaluate, *restless, f"--halt={halt}")["sets"]["all"]
    for name, value in made[halt].items():
      np.testing.assert_allclose(value, want[name], rtol=1e-6, err_msg=name)
    assert 0 < made[halt]["exact_accuracy"] < 1
  assert 1 < made["act"]["steps"] < viewed.SEGMENTS
  assert made["act"]["exact_accuracy"] != made["full"]["exact_accuracy"]


def test_the_page_holds_what_was_recorded(
  restless, prepared, tmp_path, command
):
  out = tmp_path / "report.html"
  made = command(view, *restless, f"--out={out}")
  text = out.read_text(encoding="utf-8")
  assert made["bytes"] == out.stat().st_size
  held, want = viewed.page_data(text), prepared.recording
  answers = unpacked(held["answers"], "u1").reshape(want.answers.shape)
  np.testing.assert_array_equal(answers, want.answers)
  sure = unpacked(held["confidence"], "u1").reshape(want.confidence.shape)
  level = np.array(report.LEVELS)[sure]
  assert np.abs(level - want.confidence).max() <= 3
  assert len(np.unique(sure)) > 5
  np.testing.assert_allclose(held["q_halt"], want.q_halt, atol=2e-4)
  assert held["halts_after"] == want.halts_after.tolist()
  assert set(held["names"]) == {"", viewed.EVIL}


def test_the_limit_takes_the_puzzles_that_evaluate_takes(
  tiny_run, restless, tmp_path, command
):
  out = tmp_path / "report.html"
  made = command(view, *restless, "--limit=4", f"--out={out}")
  assert made["puzzles"] == 4
  split = open_split(tiny_run / "data", "test")
  rows = EvaluationData(split, batch_size=4, limit=4).rows_by_set["all"]
  shown = viewed.page_data(out.read_text(encoding="utf-8"))
  assert shown["rows_in_set"] == rows.tolist() != [0, 1, 2, 3]
  want = command(evaluate, *restless, "--limit=4", "--halt=full")
  got, expected = made["full"]["accuracy"], want["sets"]["all"]["accuracy"]
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_without_its_data_set_a_model_is_served_with_the_box_alone(
  exported, tmp_path, monkeypatch, command
):
  said = []
  monkeypatch.setattr(view.log, "info", said.append)
  args = view._parser().parse_args([f"--model={exported}", "--serve"])
  made = view.make(args)
  assert made.live is not None
  held = viewed.page_data(made.html)
  assert held["live"]["forms"] == made.live.forms
  assert (held["sets"], held["about"]["data"]) == ([], None)
  assert (held["kind"], held["rows"], held["segments"]) == ("sudoku", 4, 3)
  (line,) = said
  assert line.startswith("the page shows no puzzles but those that you type: ")
  # A file has no box, so it needs puzzles.
  got = command.error(view, f"--model={exported}", f"--out={tmp_path / 'x'}")
  assert line.endswith(got)


@pytest.mark.parametrize("kind", puzzle_kind.KINDS)
def test_no_puzzles_make_a_payload(kind):
  found = Recording(*(column[:0] for column in noise(1, 3, 4, 6)))
  made = report.payload(found, board(kind, 2), 12, sets={"typed": 0})
  assert made["sets"] == made["halts_after"] == made["q_halt"] == []
  assert made["segments"] == 3
  assert len(unpacked(made["answers"], "u1")) == 0


def test_ratings_are_a_measure_where_all_sets_have_them(tiny_run, tmp_path):
  shutil.copytree(tiny_run / "data", tmp_path / "data")
  split = open_split(tmp_path / "data", "test")
  data = EvaluationData(split, batch_size=8, limit=4)
  assert view._ratings(data) == []
  np.save(tmp_path / "data/test/all__ratings.npy", np.arange(27) / 2)
  (measure,) = view._ratings(data)
  assert measure["values"] == (data.rows_by_set["all"] / 2).tolist()


@pytest.fixture(scope="module")
def batch(tiny_run):
  """Four puzzles, which are their own labels."""
  inputs = np.load(tiny_run / "data/test/all__inputs.npy")[:4].astype(np.int32)
  return {
    "inputs": inputs,
    "labels": inputs,
    "puzzle_identifiers": np.array([0, 1, 0, 1], np.int32),
  }


def test_confidence_is_the_probability_of_the_answer(network, recorder, batch):
  found = recorder.finish(batch, recorder.start(batch), 4)
  output = inference.solve(
    network.model, network.weights, batch, halt="full"
  ).output
  scores = np.exp(losses.log_stablemax_scores(output.logits))
  want = 100 * scores.max(-1) / scores.sum(-1)
  assert np.abs(found.confidence[:, -1] - want).max() <= 0.51


def test_segment_by_segment_the_numbers_are_those_of_one_program(
  network, recorder, batch
):
  want = recorder.finish(batch, recorder.start(batch), 4)
  assert (want.answers[:, 0] != want.answers[:, 2]).any()
  for count in (4, 3):
    parts = list(recorder.by_segment(batch, count))
    assert len(parts) == network.model.halt_max_steps == 3
    for name in ("answers", "confidence", "q_halt", "q_continue"):
      got = np.concatenate([getattr(part, name) for part in parts], axis=1)
      np.testing.assert_array_equal(got, getattr(want, name)[:count])
  # One program for the first segment and the last, and for all requests.
  assert recorder._think_on._cache_size() == 1


def test_a_puzzle_halts_where_halting_is_first_worth_more():
  found = noise(3, 4, 4, 5)._replace(
    q_halt=np.float32([[0, 2, 0, 2], [0, 0, 0, 0], [1, 0, 0, 0]]),
    q_continue=np.float32([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]),
  )
  assert found.halts_after.tolist() == [2, 4, 1]  # A tie thinks on.


def test_levels_are_finest_where_the_network_is_nearly_sure():
  percent = np.arange(101, dtype=np.uint8)
  levels = np.array(report.LEVELS)[report.nearest_level(percent)]
  error = np.abs(levels - percent)
  assert (error[90:].max(), error[80:].max(), error.max()) == (0, 1, 2)


def test_cells_that_are_not_asked_for_and_wide_tokens_are_kept_apart():
  found = noise(2, 2, 4, 300)
  found.labels[0, 1] = IGNORE_LABEL_ID
  made = report.payload(found, board("grid", 2), 300, sets={"a": 1, "b": 1})
  labels = unpacked(made["labels"], "<u2").reshape(2, 4)
  assert labels[0, 1] == 0
  np.testing.assert_array_equal(labels[1], found.labels[1] + 1)
  assert (made["sets"], made["rows_in_set"]) == ([0, 1], [0, 0])


def test_what_is_not_finite_is_null():
  found = noise(1, 2, 4, 5)
  found.q_halt[0, 1] = np.nan
  made = report.payload(found, board("grid", 2), 5, sets={"all": 1})
  assert made["q_halt"][0][1] is None
  assert "NaN" not in page.as_script_data(made)


def test_any_shortest_path_of_a_maze_is_known():
  question = maze.parse("S \n G".replace("\n", ""))
  ways = [maze.parse(text) for text in ("So G", "S oG", "S  G")]
  answers = np.stack(ways).astype(np.int32)[None]
  found = noise(1, 3, 4, 6)._replace(
    inputs=question.astype(np.int32)[None],
    labels=answers[:, 0],
    answers=answers,
  )
  made = report.payload(found, board("maze", 2), 6, sets={"all": 1})
  assert made["shortest"] == [[True, True, False]]


@pytest.mark.parametrize(
  ("kind", "charset", "symbols"),
  [
    ("sudoku", None, "?·12"),
    ("arc", None, " ▪01"),
    ("maze", None, "?# S"),
    ("grid", "abc", " abc"),
    ("grid", None, " 012"),
  ],
)
def test_every_token_has_a_symbol(kind, charset, symbols):
  made = drawing.symbols_of(Board(kind, (9, 9), charset), 80)
  assert "".join(made[:4]) == symbols
  assert len(made) == 80
  assert all(made)


@pytest.mark.parametrize(
  ("kind", "side", "change"), [("sudoku", 9, 1.0), ("maze", 30, 0.2)]
)
def test_a_thousand_puzzles_stay_below_20_mb(kind, side, change):
  # Noise: no network's confidence is as hard to compress.
  found = noise(1000, 16, side * side, 6, change=change)
  if kind == "maze":  # Their judge would search noise for paths.
    kind = "grid"
  made = report.payload(found, board(kind, side), 11, sets={"all": 1000})
  size = len(page.build({"about": {}, **made}, title="large").encode())
  assert size < 20e6
  assert size > 1e6  # It is all there.


def test_what_data_says_stays_data():
  evil = "</script><script>alert(1)</script><!--\u2028&"
  text = page.as_script_data({"names": [evil]})
  assert not set("<>&\u2028") & set(text)
  assert viewed.page_data(page.build({"x": evil}, title=evil)) == {"x": evil}
  html = page.build({}, title=evil)
  assert html.count("<script") == 2
  assert "{{" not in html


def test_only_this_script_and_this_style_may_run():
  html = page.build({}, title="t")
  policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
  for opening in ('<script type="module">', "<style>"):
    content = viewed.block_of(html, opening)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest())
    assert f"'sha256-{digest.decode()}'" in policy
  assert "default-src 'none'" in policy
  assert "unsafe" not in policy
  assert "connect-src 'none'" in policy
  served = page.build({}, title="t", connects=True)
  assert "connect-src 'self'" in served


def test_the_modules_fit_into_one_script():
  script = page.bundle("main")
  assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
  names = re.findall(
    r"^(?:async )?(?:function|const|class|let) (\w+)", script, re.MULTILINE
  )
  assert len(names) == len(set(names))
  # The readers come before their users, and nothing is left out.
  for file in page.FOLDER.glob("*.js"):
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first in script, file.name
  # Names are text: nothing that reads HTML is used.
  assert not re.search(
    r"innerHTML|outerHTML|insertAdjacent|document\.write", script
  )


def test_an_installation_holds_what_the_page_is_built_of():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  patterns = setup["options.package_data"]["hrm_jax.view"].split()
  package = ROOT / "hrm_jax" / "view"
  files = [
    str(path.relative_to(package))
    for path in package.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
  ]
  assert "browser/page.html" in files
  for file in files:
    assert any(fnmatch.fnmatch(file, pattern) for pattern in patterns), file


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "expected one of --out=FILE and --serve; see --help."),
    (["--serve", "--out=x.html"], "expected one of --out=FILE and --serve"),
    (["--out={tmp}"], "--out={tmp}: expected a file, got a directory."),
    (["--out={tmp}/no/x.html"], "--out={tmp}/no/x.html: {tmp}/no: no such"),
    (["--serve", "--limit=-1"], "--limit: expected at least 0, got -1."),
    (["--serve", "--port=65536"], "--port: expected less than 65,536"),
    (["--serve", "--segments=0"], "--segments: expected at least 1, got 0."),
    (["--serve", "--batch-size=0"], "--batch-size: expected at least 1"),
    (["--serve", "--data={tmp}/no"], "{tmp}/no/test/dataset.json: "),
    (["--serve", "--host=192.0.2.1"], "--host=192.0.2.1 --port=0: cannot"),
  ],
)
def test_a_mistake_ends_with_one_line(
  tiny_run, tmp_path, command, flags, message
):
  flags = [flag.replace("{tmp}", str(tmp_path)) for flag in flags]
  got = command.error(view, f"--workdir={tiny_run}", *flags)
  assert got.startswith(message.replace("{tmp}", str(tmp_path)))


def test_a_report_that_cannot_be_written_leaves_the_old_one(
  tiny_run, tmp_path, monkeypatch, capsys
):
  out = tmp_path / "report.html"
  out.write_text("old")

  def full(path, text):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(view.atomic_file, "write_text", full)
  command = Commands(monkeypatch, capsys)
  with pytest.raises(SystemExit) as ended:
    command._run(view, (f"--workdir={tiny_run}", f"--out={out}"))
  assert ended.value.code == 1
  assert "report.html: cannot be written (No space" in capsys.readouterr().err
  assert out.read_text() == "old"

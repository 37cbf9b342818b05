"""What TensorBoard is given to show, read back from a run's event files."""

import json
import pathlib
import re
import types

import numpy as np
import pytest
from tensorboardX.proto import layout_pb2, plugin_hparams_pb2

from hrm_jax.checkpoint.load import load
from hrm_jax.config import KEYS
from hrm_jax.data import puzzle_kind
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.train import samples
from hrm_jax.train.dashboard import picture, summaries
from hrm_jax.view import recording
from tests import pngs
from tests.runs import read_scalars, read_summaries
from tests.toys import mesh_of


@pytest.fixture(scope="module")
def shown(tiny_run):
  """Tag to value, the newest of each, of a run from start to end."""
  return {value.tag: value for _, value in read_summaries(tiny_run)}


def evaluation(workdir, step):
  """What a checkpoint has recorded."""
  record = workdir / "checkpoints" / str(step) / "run" / "metadata"
  return json.loads(record.read_text())["evaluation"]


def text(value):
  return value.tensor.string_val[0].decode()


def test_every_tag_of_the_layout_has_a_curve(shown):
  value = shown["custom_scalars__config__"]
  layout = layout_pb2.Layout.FromString(value.tensor.string_val[0])
  titles = [category.title for category in layout.category]
  assert titles == ["Accuracy", "Halting", "Losses", "Optimiser", "Performance"]
  curves = [tag for tag, v in shown.items() if v.HasField("simple_value")]
  for category in layout.category:
    assert category.chart
    for chart in category.chart:
      assert chart.multiline.tag
      for pattern in chart.multiline.tag:
        # As TensorBoard does it.
        assert any(re.match(pattern, tag) for tag in curves), pattern


def test_accuracy_by_segment_is_that_of_the_evaluations(tiny_run):
  got = {}
  for tag, step, value in read_scalars(tiny_run):
    if tag.startswith("eval/accuracy_by_segment/"):
      got.setdefault(step, []).append((tag[-2:], value))
  for step in (5, 10):
    want = evaluation(tiny_run, step)["exact_accuracy_by_segment"]
    assert [number for number, _ in got[step]] == ["01", "02", "03"]
    assert [share for _, share in got[step]] == pytest.approx(want)


def test_configuration_and_environment_are_tables(shown, tiny_run):
  config = text(shown["config/text_summary"])
  for key in KEYS:
    assert re.search(rf"^\| {re.escape(key)} \| (`.+`)? \|$", config, re.M), key
  assert "| global_batch_size | `16` |" in config
  environment = text(shown["environment/text_summary"])
  for key, version in json.loads(
    (tiny_run / "versions.json").read_text()
  ).items():
    assert f"| {key} | `{version}` |" in environment
  assert "| attention | `xla` |" in environment
  assert "| devices | `8 x cpu` |" in environment


def test_what_a_table_holds_cannot_leave_its_cell():
  made = summaries.table("name", {"a|b": "`x` | y\n| z |"})
  (value,) = made.value
  assert text(value).splitlines()[2:] == ["| a\\|b | `'x' \\| y \\| z \\|` |"]


def test_hparams_hold_the_keys_and_the_final_scores(shown, tiny_run):
  def content(name):
    data = shown[f"_hparams_/{name}"].metadata.plugin_data
    assert data.plugin_name == "hparams"
    return plugin_hparams_pb2.HParamsPluginData.FromString(data.content)

  row = content("session_start_info").session_start_info.hparams
  assert set(row) == set(KEYS)
  assert row["lr"].number_value == 1e-3
  assert row["data.generate"].bool_value is True
  assert row["eval.halt"].string_value == "full"
  assert row["max_to_keep"].string_value == "None"
  columns = content("experiment").experiment
  assert {info.name for info in columns.hparam_infos} == set(KEYS)
  # 1: the run has ended well.
  assert content("session_end_info").session_end_info.status == 1

  final = evaluation(tiny_run, 10)["sets"]["all"]
  scores = [info.name.tag for info in columns.metric_infos]
  assert scores == [f"eval/all/{score}" for score in summaries.SCORES]
  for tag in scores:
    want = final[tag.removeprefix("eval/all/")]
    assert shown[tag].simple_value == pytest.approx(want)


def test_histograms_hold_the_counts_of_the_evaluation(shown, tiny_run):
  want = evaluation(tiny_run, 10)
  segments = shown["eval/segments"].histo
  assert list(segments.bucket) == want["puzzles_by_segments"]
  assert list(segments.bucket_limit) == [1.5, 2.5, 3.5]
  assert segments.num == 27
  # At the middle of each bar stands a whole number.
  mean = np.dot([1, 2, 3], want["puzzles_by_segments"]) / 27
  assert segments.sum / segments.num == pytest.approx(mean)
  chances = shown["eval/halt_probability"].histo
  assert list(chances.bucket) == want["puzzles_by_halt_probability"]
  assert chances.num == 27


def test_a_histogram_ends_with_the_last_bar_that_holds_something():
  # Else TensorBoard draws that bar out to the end.
  result = {
    "puzzles_by_segments": [0, 3, 0, 5, 0],
    "puzzles_by_halt_probability": [0, 0, 0, 0],
  }
  segments, chances = (v.histo for v in summaries.halting(result).value)
  assert (segments.min, segments.max, segments.num) == (1.5, 4.5, 8)
  assert (segments.sum, segments.sum_squares) == (26, 3 * 4 + 5 * 16)
  assert (chances.min, chances.max, chances.num) == (0, 1, 0)


def test_pictures_show_what_the_checkpoint_answers(shown, tiny_run):
  trained = load(tiny_run)
  data = EvaluationData(open_split(tiny_run / "data", "test"), batch_size=27)
  seen = recording.record(trained, data)
  board = puzzle_kind.Board(puzzle_kind.SUDOKU, (4, 4), None)
  tags = [tag for tag, value in shown.items() if value.HasField("image")]
  assert tags == ["eval/puzzle_01", "eval/puzzle_02"]
  for tag, place in zip(tags, (0, 13), strict=True):  # Spread over 27.
    image = shown[tag].image
    want = picture.draw(
      board,
      6,
      inputs=seen.inputs[place],
      labels=seen.labels[place],
      answers=seen.answers[place],
      halt_probability=1 / (1 + np.exp(-seen.q_halt[place])),
    )
    assert (image.height, image.width) == want.shape
    got = pngs.decode(image.encoded_image_string)
    np.testing.assert_array_equal(got, np.array(picture.PALETTE)[want])


def test_a_kind_that_is_not_known_is_drawn_as_a_grid(tiny_run):
  split = open_split(tiny_run / "data", "test")
  setup = types.SimpleNamespace(mesh=mesh_of(1))
  found = samples.make_samples(setup, split, None, 3)
  assert found._board == puzzle_kind.Board(puzzle_kind.GRID, (4, 4), None)
  assert samples.make_samples(setup, split, None, 0) is None


def test_the_page_of_the_docs_lists_every_tag_and_no_other(shown):
  page = pathlib.Path(__file__).parent.parent / "docs" / "tensorboard.md"
  rows = re.findall(r"^\| (`.+?) \| [A-Z]", page.read_text(), re.MULTILINE)
  listed = [tag for row in rows for tag in re.findall(r"`(.+?)`", row)]
  assert len(listed) == len(set(listed))
  patterns = [
    re.escape(tag).replace("SET", "all").replace("NN", r"\d\d")
    for tag in listed
  ]
  for tag in shown:
    assert [p for p in patterns if re.fullmatch(p, tag)], tag
  for pattern in patterns:
    assert [tag for tag in shown if re.fullmatch(pattern, tag)], pattern

"""What TensorBoard is given to show, read back from a run's event files."""

import json
import re

import pytest
from tensorboardX.proto import layout_pb2, plugin_hparams_pb2

from hrm_jax.config import KEYS
from hrm_jax.train import dashboard
from tests.runs import read_scalars, read_summaries


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
    assert re.search(rf"^\| {re.escape(key)} \| `.*` \|$", config, re.M), key
  assert "| global_batch_size | `16` |" in config
  environment = text(shown["environment/text_summary"])
  for key, version in json.loads(
    (tiny_run / "versions.json").read_text()
  ).items():
    assert f"| {key} | `{version}` |" in environment
  assert "| attention | `xla` |" in environment
  assert "| devices | `8 x cpu` |" in environment


def test_what_a_table_holds_cannot_leave_its_cell():
  made = dashboard.table("name", {"a|b": "`x` | y\n| z |"})
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
  assert scores == [f"eval/all/{score}" for score in dashboard.SCORES]
  for tag in scores:
    want = final[tag.removeprefix("eval/all/")]
    assert shown[tag].simple_value == pytest.approx(want)

"""launch/reproduce.sh: what its calls leave, its row, and one rehearsal."""

import json
import math
import pathlib
import signal
import sys

import pytest

from hrm_jax.checkpoint import manifest, model_folder
from launch import reproduced
from tests.launch_scripts import (
  PREEMPTED,
  QUICKLY_COMPILED,
  fake_program,
  run,
  started,
)
from tests.sudoku_tables import to_csv
from tests.test_build_maze import make_rows
from tests.tiny import tiny_config

# --- what is known of a run


def trained(step, *, evaluated=None, ended="preempted", seconds=60.0):
  return {
    "step": step,
    "total_steps": 100,
    "ended": ended,
    "evaluation": None if evaluated is None else {"step": evaluated},
    "devices": "1 x H100",
    "seconds": seconds,
  }


def test_calls_that_bring_a_run_on_are_told_from_those_that_do_not(tmp_path):
  told = [
    reproduced.add_call(tmp_path, result)
    for result in (
      trained(0),
      trained(40),
      trained(40),  # An evaluation that was given up.
      trained(40, evaluated=40),
      trained(100, evaluated=100, ended="finished"),
      trained(100, evaluated=100, ended="finished"),
    )
  ]
  assert told == ["still", "advanced", "still", "advanced", "advanced", "still"]
  calls = reproduced.read_calls(tmp_path)
  assert [call["step"] for call in calls] == [0, 40, 40, 100]
  # What was given up took its time; looking for the end did not train.
  assert [call["seconds"] for call in calls] == [60, 120, 60, 60]


@pytest.mark.parametrize(
  ("share", "count", "text"),
  [
    (0.5, 10_000, "50.00 +- 0.50 %"),
    (0.1, 900, "10.00 +- 1.00 %"),
    (1.0, 8, "100.00 +- 0.00 %"),
  ],
)
def test_a_share_has_its_standard_error(share, count, text):
  assert reproduced.percent(share, count) == text
  error = reproduced.standard_error(share, count)
  assert error == pytest.approx(math.sqrt(share * (1 - share) / count))


def scored(share, count=1000, **more):
  return {"sets": {"all": {"exact_accuracy": share, "count": count, **more}}}


def test_accuracies_agree_to_a_tenth_of_a_point():
  assert reproduced.agree(scored(0.5), scored(0.501))
  assert not reproduced.agree(scored(0.5), scored(0.4985))


def write_json(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f"{json.dumps(value)}\n")


@pytest.fixture
def workdir(tmp_path):
  """A run that was cut short, scored and exported as its 10th update."""
  work = tmp_path / "work"
  model = work / "model"
  model.mkdir(parents=True)
  (model / model_folder.WEIGHTS).write_bytes(b"weights")
  dataset = {
    **dict.fromkeys(("pad_id", "ignore_label_id", "blank_identifier_id"), 0),
    **{"vocab_size": 6, "seq_len": 16, "num_puzzle_identifiers": 1},
    **{"total_groups": 40, "mean_puzzle_examples": 1.0, "sets": ["all"]},
  }
  described = {
    "config": json.loads(tiny_config().to_json_best_effort()),
    "dataset": dataset,
    "versions": {"jax": "0.10.2", "flax": None},
    "git_commit": "0123456789abcdef",
    "evaluation": {"step": 10},
  }
  model_folder.write_config(model, 10, described)
  reproduced.add_call(work, trained(40, evaluated=10))
  reproduced.add_call(work, trained(60, evaluated=10))
  write_json(work / "reproduce" / "evaluation-10.json", scored(0.25, 1200))
  build = {
    "puzzle": "sudoku",
    "seed": 0,
    "source": {"repo": "org/set", "revision": "0123456789", "sha256": {}},
    "counts": {"train": {"groups": 1000}, "test": {"examples": 1200}},
  }
  write_json(work / "data" / "build.json", build)
  return work


def cells(line):
  return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_row_says_what_was_done_and_how_well_it_went(workdir):
  line = reproduced.row(workdir, task="sudoku-1k", command="bash x a|b")
  date, task, data, updates, score, devices, versions, weights, command = cells(
    line
  )
  assert len(date) == 10
  assert (task, command) == ("`sudoku-1k`", r"`bash x a\|b`")
  assert data == "org/set at 0123456; 1,000 groups, 1,200 test puzzles; seed 0"
  assert updates == "**60 of 100, cut short**; best after 10"
  assert score == "25.00 +- 1.25 % of 1,200"
  assert devices == "1 x H100; 2 min in 2 calls"
  assert versions == "jax 0.10.2, commit 012345678"
  digest = manifest.describe_file(workdir / "model" / model_folder.WEIGHTS)
  assert weights.startswith("float32, ")
  assert f"SHA-256 `{digest['sha256']}`" in weights


def test_the_row_of_a_finished_run_says_no_more_than_that(workdir):
  # The batches have run out a little before update 100.
  reproduced.add_call(workdir, trained(98, evaluated=10, ended="finished"))
  line = reproduced.row(workdir, task="sudoku-1k", command="x")
  assert cells(line)[3] == "all 98; best after 10"


def test_mazes_and_rounded_weights_and_votes_say_so(workdir):
  kept = workdir / "reproduce"
  write_json(kept / "evaluation-10.json", scored(0.25, 1200, path_accuracy=0.5))
  write_json(kept / "rounded-10.json", scored(0.2505, 1200))
  row = cells(reproduced.row(workdir, task="maze-1k", command="x"))
  assert row[4].endswith("; any shortest path 50.00 +- 1.44 %")
  assert row[7].startswith("bfloat16 (25.05 %), ")
  write_json(kept / "rounded-10.json", scored(0.26, 1200))
  row = cells(reproduced.row(workdir, task="maze-1k", command="x"))
  assert row[7].startswith("float32, ")
  votes = {"pass@1": 0.1, "pass@2": 0.2, "pass@10": 0.3, "scored_tasks": 400}
  write_json(kept / "votes-10.json", votes)
  row = cells(reproduced.row(workdir, task="arc-1", command="x"))
  assert row[4] == (
    "25.00 % of 1,200 images; by votes pass@1 10.00 +- 1.50 %, pass@2 20.00 +- "
    "2.00 % of 400 tasks"
  )


def test_a_page_has_one_row_for_the_same_weights():
  page = "# Results\n\ntext\n"
  one = reproduced.with_row(page, "| 10 of 20 | `aa` |", "aa")
  assert one.startswith(f"{page}\n{reproduced.TITLE}\n\n")
  assert one.endswith("|---|\n| 10 of 20 | `aa` |\n")
  assert reproduced.with_row(one, "| 10 of 20 | `aa` |", "aa") == one
  two = reproduced.with_row(one + "\n## More\n", "| `bb` |", "bb")
  assert two == one + "| `bb` |\n\n## More\n"
  again = reproduced.with_row(two, "| 20 of 20 | `aa` |", "aa")
  assert again == two.replace("10 of 20", "20 of 20")


# --- the script, with a stand-in for what takes long


def stand_in(tmp_path, train):
  """A Python that only notes what the script calls; `train` is in its place."""
  fake_program(
    tmp_path,
    "python",
    f"""\
    case "$*" in
      -c*) ;;
      launch/*) exec "{sys.executable}" "$@" ;;
      *build_sudoku*) mkdir -p "{tmp_path}/run/data" ;;
      *hrm_jax.train*) {train} ;;
      *) exit 9 ;;
    esac
    """,
  )
  return tmp_path / "bin" / "python"


def test_a_run_that_needs_more_calls_asks_for_them_unless_it_stands_still(
  tmp_path,
):
  result = json.dumps(trained(40))
  python = stand_in(tmp_path, f"echo '{result}'; exit 75")
  args = "sudoku-1k", f"--workdir={tmp_path / 'run'}", "--minutes=9"
  code, out, err = run("reproduce.sh", *args, PYTHON=python)
  assert (code, out) == (PREEMPTED, "")
  assert f"goes on: bash launch/reproduce.sh {' '.join(args)}\n" in err
  assert reproduced.read_calls(tmp_path / "run")[0]["step"] == 40
  code, _, err = run("reproduce.sh", *args, PYTHON=python)
  assert code == 2
  assert "expected more --minutes than 9, or a smaller" in err
  # Without a limit it was a signal that ended it.
  assert run("reproduce.sh", *args[:2], PYTHON=python)[0] == PREEMPTED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_what_trains(tmp_path, number):
  name = signal.Signals(number).name.removeprefix("SIG")
  waiting = f"trap 'echo {{}}; exit 75' {name}; echo ready >&2; "
  waiting += "for i in {1..2000}; do sleep 0.1; done"
  python = stand_in(tmp_path, waiting)
  args = "sudoku-1k", f"--workdir={tmp_path / 'run'}"
  with started("reproduce.sh", *args, PYTHON=python) as process:
    for line in process.stderr:
      if line == "ready\n":
        break
    process.send_signal(number)
    process.communicate(timeout=30)
  assert process.returncode == PREEMPTED


def test_the_commands_of_arc_vote_and_keep_float32(tmp_path):
  source = tmp_path / "tasks"
  source.mkdir()
  code, out, _ = run(
    "reproduce.sh",
    *("arc-1", f"--source={source}", "--workdir=/w", "--finish", "--dry-run"),
  )
  assert code == 0
  lines = out.splitlines()
  assert f"--dataset-dirs {source}/ARC-AGI/data {source}/Con" in lines[0]
  assert not any("hrm_jax.train" in line for line in lines)
  assert lines[1].endswith("--step=best --save-predictions")
  assert "hrm_jax.arc_vote --workdir=/w --step=best" in lines[2]
  assert lines[4].endswith("--out=/w/model --dtype=float32")
  assert not any("--model=" in line for line in lines)


@pytest.mark.slow
def test_a_rehearsal_comes_from_tables_to_a_row(tmp_path):
  """Every command is the real one, on mazes of 6x6 cells."""
  source = tmp_path / "tables"
  source.mkdir()
  for split, count in (("train", 8), ("test", 5)):
    rows = make_rows(count, seed=count)
    (source / f"{split}.csv").write_text(to_csv(rows))
  page = tmp_path / "results.md"
  changes = {
    "model.hidden_size": 16,
    "model.num_heads": 2,
    "model.H_layers": 1,
    "model.L_layers": 1,
    "model.halt_max_steps": 2,
    "model.forward_dtype": "float32",
    "global_batch_size": 8,
    "epochs": 4,
    "eval_interval": 2,
    "eval.limit": 4,
  }
  args = [f"--source={source}", f"--workdir={tmp_path / 'run'}"]
  args += [f"--results={page}", "--minutes=60", "--"]
  args += [f"--config.{key}={value}" for key, value in changes.items()]
  with started(
    "reproduce.sh",
    "maze-1k",
    *args,
    PYTHON=sys.executable,
    JAX_PLATFORMS="cpu",
    **QUICKLY_COMPILED,
  ) as process:
    out, err = process.communicate(timeout=600)
  assert process.returncode == 0, err
  result = json.loads(out.splitlines()[-1])
  assert result["puzzles"] == 5  # All of them, and 4 while it trained.
  model = pathlib.Path(result["model"])
  run_record = model_folder.describe(model).run
  assert run_record["evaluation"]["puzzles"] == 4
  assert run_record["config"]["weight_decay"] == 1.0  # As published.
  digest = manifest.describe_file(model / model_folder.WEIGHTS)["sha256"]
  line = page.read_text().splitlines()[-1]
  assert (
    "| `maze-1k` | other tables; 8 groups, 5 test puzzles; seed 0 | all 4; best"
    in line
  )
  assert f"`{digest}`" in line
  assert str(tmp_path) not in page.read_text()

"""Several processes: what joining them takes, and that they are one run.

The processes are real ones on this machine, 4 devices in all.
"""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.data.evaluation_batches import EvaluationData
from hrm_jax.data.split import open_split
from hrm_jax.evaluate import __main__ as evaluate
from hrm_jax.machines import cluster, roll_call
from hrm_jax.solve import inference
from tests import runs
from tests.commands import Commands
from tests.launch_scripts import QUICKLY_COMPILED

ROOT = pathlib.Path(__file__).parent.parent
TWO, FOUR = (2, 2), (4, 1)  # processes, devices of each


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (("a:1", None, None), "--num-processes, --process-id: expected"),
    ((None, 2, 0), "--coordinator: expected"),
    (("nowhere", 2, 0), "--coordinator: expected HOST:PORT, .* got 'nowhere'"),
    (("a:b", 2, 0), "--coordinator: expected HOST:PORT, .* got 'a:b'"),
    (("a:99999", 2, 0), "--coordinator: .* 1 to 65535, got 'a:99999'"),
    (("a:1", 0, 0), "--num-processes: expected at least 1, got 0"),
    (("a:1", 2, 2), r"--process-id: expected 0 to 1 .*, got 2"),
    (("a:1", 2, -1), r"--process-id: expected 0 to 1 .*, got -1"),
  ],
)
def test_numbers_that_make_no_sense_are_refused(given, message):
  with pytest.raises(InputError, match=message):
    cluster.join(*given)


def test_a_cluster_that_jax_does_not_know_is_no_crowd_of_lone_runs(monkeypatch):
  monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
  cluster.join()
  monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "16")
  with pytest.raises(InputError, match="OMPI_COMM_WORLD_SIZE=16, but JAX det"):
    cluster.join()


def test_a_process_alone_is_the_first_and_waits_for_nobody():
  cluster.join()
  assert cluster.is_first()
  cluster.wait_for_all("nothing")
  assert cluster.sum_over_processes({"a": 3}) == {"a": 3}


def test_evaluate_takes_the_three_flags(monkeypatch, capsys, tmp_path):
  commands = Commands(monkeypatch, capsys)
  flags = (f"--workdir={tmp_path}", "--coordinator=a:1", "--process-id=0")
  assert "--num-processes: expected" in commands.error(evaluate, *flags)


class Leaving:
  """Stands in for the roll call; notes what it is told."""

  def __init__(self):
    self.told = []

  def leave(self, exit_code):
    self.told.append(exit_code)

  def wait_for_the_verdict(self):
    self.told.append("waits")


@pytest.mark.parametrize(
  ("error", "told"),
  [
    (InputError("a wrong key"), [2]),
    (KeyboardInterrupt(), [130]),
    (SystemExit(143), [143]),
    (ZeroDivisionError(), [1]),
    (jax.errors.JaxRuntimeError("INTERNAL: out of luck"), [1]),
    (jax.errors.JaxRuntimeError("Gloo: closed by peer"), ["waits", 1]),
    (ValueError("UNKNOWN: Gloo all-reduce failed"), ["waits", 1]),
    (ValueError("a wrong shape"), [1]),
  ],
  ids=repr,
)
def test_the_others_are_told_of_an_error(monkeypatch, error, told):
  leaving = Leaving()
  monkeypatch.setattr(cluster, "_roll_call", leaving)
  with pytest.raises(type(error)), cluster.shared_fate():
    raise error
  assert leaving.told == told


def test_a_signal_while_it_looks_for_the_lost_one_ends_it_at_once(monkeypatch):
  # Not by JAX's way out, which would wait for the lost one.
  class Interrupted(Leaving):
    def wait_for_the_verdict(self):
      raise SystemExit(143)

  def exit_at_once(exit_code):
    raise ZeroDivisionError(exit_code)  # No process after this.

  monkeypatch.setattr(cluster, "_roll_call", Interrupted())
  monkeypatch.setattr(roll_call, "exit_at_once", exit_at_once)
  lost = jax.errors.JaxRuntimeError("Gloo: closed by peer")
  with pytest.raises(ZeroDivisionError, match="143"), cluster.shared_fate():
    raise lost


def test_where_nothing_fails_the_others_are_told_nothing(monkeypatch):
  monkeypatch.setattr(cluster, "_roll_call", None)
  with pytest.raises(ZeroDivisionError), cluster.shared_fate():
    raise ZeroDivisionError  # Alone, there is nobody to tell.
  leaving = Leaving()
  monkeypatch.setattr(cluster, "_roll_call", leaving)
  with cluster.shared_fate():
    pass
  assert leaving.told == []


def launch(layout, *arguments):
  """Runs a command in several processes; returns its last line's JSON."""
  done = finished(layout, *arguments)
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


def finished(layout, *arguments, kind="-m"):
  """What a command leaves that ran in several processes.

  Or a program, with `kind` -c.
  """
  processes, devices = layout
  script = ["bash", "launch/local_multiprocess.sh", f"--processes={processes}"]
  return subprocess.run(
    [*script, f"--devices={devices}", "--", kind, *map(str, arguments)],
    cwd=ROOT,
    env={
      **os.environ,
      "PYTHON": sys.executable,
      "PYTHONPATH": str(ROOT),
      **QUICKLY_COMPILED,
    },
    capture_output=True,
    text=True,
    check=False,
    timeout=400,
  )


def train(layout, workdir):
  flags = ["--config=tests/tiny.py", "--config.mesh.table=2"]
  flags += ["--config.eval.pictures=3"]  # Over four devices.
  result = launch(layout, "hrm_jax.train", *flags, f"--workdir={workdir}")
  assert result["step"] == 10
  return [
    (step, value)
    for name, step, value in runs.read_scalars(workdir)
    if name == "train/lm_loss"
  ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
  """A run of one process with all devices, and its losses."""
  workdir = tmp_path_factory.mktemp("alone")
  return workdir, train((1, 4), workdir)


@pytest.fixture(scope="module")
def half_solved(alone):
  """That run's data, but every other puzzle is what the network answers."""
  workdir, _ = alone
  data = workdir / "half-solved"
  shutil.copytree(workdir / "data", data)
  trained = load(workdir)
  split = open_split(data, "test")
  batch = EvaluationData(split, batch_size=27).batch(0).batch
  run = jax.jit(functools.partial(inference.solve, trained.model, halt="full"))
  answers = np.argmax(run(trained.weights, batch).output.logits, -1)
  path = data / "test" / "all__labels.npy"
  labels = np.load(path)
  labels[::2] = answers[::2]
  np.save(path, labels)
  return data


def evaluate_saving(layout, workdir, data, halt):
  """Evaluates; returns the result and the saved predictions by place."""
  flags = [f"--workdir={workdir}", f"--data={data}", f"--halt={halt}"]
  result = launch(layout, "hrm_jax.evaluate", *flags, "--save-predictions")
  folder = workdir / "predictions" / "10" / "test"
  saved = []
  for path in sorted(folder.glob("*__rows.npy")):
    name = path.name.removesuffix("__rows.npy")
    answers = np.load(folder / f"{name}__predictions.npy")
    saved += zip(np.load(path).tolist(), answers.tolist(), strict=True)
  return result, saved


def pictures(workdir):
  """The pictures of the newest evaluation, after a look at how many are there.

  Each was written once, by one process.
  """
  found = [
    ((step, value.tag), value.image.encoded_image_string)
    for step, value in runs.read_summaries(workdir)
    if value.HasField("image")
  ]
  names = [f"eval/puzzle_{number:02}" for number in (1, 2, 3)]
  places = [(step, name) for step in (5, 10) for name in names]
  assert [place for place, _ in found] == places
  return [image for _, image in found[-3:]]


@pytest.mark.slow
def test_processes_train_as_one_does(alone, tmp_path):
  losses = train(TWO, tmp_path)
  assert [step for step, _ in losses] == list(range(1, 11))
  np.testing.assert_allclose(losses, alone[1], rtol=1e-4)
  assert pictures(tmp_path) == pictures(alone[0])


@pytest.mark.slow
def test_processes_evaluate_as_one_does(alone, half_solved):
  arguments = alone[0], half_solved, "act"
  want, want_saved = evaluate_saving((1, 4), *arguments)
  got, saved = evaluate_saving(FOUR, *arguments)
  (want_set,), (got_set,) = want["sets"].values(), got["sets"].values()
  # 27 puzzles in batches of 16: the last rows of some processes are padding.
  assert got_set["count"] == want_set["count"] == 27
  assert 0.3 < want_set["exact_accuracy"] < 0.8
  for name in ("accuracy", "exact_accuracy", "q_halt_accuracy", "steps"):
    np.testing.assert_allclose(got_set[name], want_set[name], rtol=1e-6)
  for name in ("lm_loss", "q_halt_loss"):
    np.testing.assert_allclose(got_set[name], want_set[name], rtol=1e-5)
  by_segment = "exact_accuracy_by_segment"
  assert got[by_segment] == want[by_segment]
  # Each example was answered once, by one of the processes, in the same way.
  assert sorted(row for row, _ in saved) == list(range(27))
  assert sorted(saved) == sorted(want_saved)


@pytest.mark.slow
def test_processes_try_and_choose_as_one_does(alone, half_solved):
  flags = [f"--workdir={alone[0]}", f"--data={half_solved}", "--verify"]
  flags += ["--votes=3", "--noise=1", "--samples=2"]
  want, got = (
    launch(layout, "hrm_jax.evaluate", *flags)["sets"]
    for layout in ((1, 4), TWO)
  )
  assert got == want
  assert want["all"]["single"]["count"] == 27
  assert want["all"]["combined"]["lost"] > 0  # The attempts do not all agree.


@pytest.mark.slow
@pytest.mark.parametrize(
  ("peers", "exit_code"),
  # Of two it waits for the other one, where Python hears no signals.
  [(1, 143), (2, -signal.SIGTERM)],
)
def test_a_signal_before_training_ends_the_process(peers, exit_code):
  program = (
    "import signal, socket, sys\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    "from hrm_jax.machines import cluster\n"
    "with socket.create_server(('127.0.0.1', 0)) as free:\n"
    "  port = free.getsockname()[1]\n"
    "print('joining', flush=True)\n"
    f"cluster.join(f'127.0.0.1:{{port}}', {peers}, 0)\n"
    "print('joined', flush=True)\n"
    # One long sleep would miss a signal that comes just before it begins.
    "import time\n"
    "for _ in range(600): time.sleep(0.1)\n"
  )
  with subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
  ) as process:
    assert process.stdout.readline() == "joining\n"
    if peers == 1:
      assert process.stdout.readline() == "joined\n"
    else:
      time.sleep(3)
    process.terminate()
    assert process.wait(20) == exit_code


def test_a_timeout_that_is_none_gets_one_line():
  with pytest.raises(InputError, match="--heartbeat-timeout: expected"):
    cluster.join(heartbeat_timeout=0)


@pytest.mark.slow
def test_what_process_0_could_not_save_is_saved_for_nobody(tmp_path):
  program = (
    "from hrm_jax import console\n"
    "from hrm_jax.checkpoint import manifest\n"
    "from hrm_jax.train import __main__ as train\n"
    "def full_disk(*_):\n"
    "  raise OSError(28, 'No space left on device')\n"
    "manifest.write = full_disk\n"
    "console.run(train.main)\n"
  )
  flags = ("--config=tests/tiny.py", "--config.num_steps=2")
  done = finished((2, 1), program, *flags, f"--workdir={tmp_path}", kind="-c")
  assert done.returncode == 1
  assert done.stderr.count("error: update 2 is not saved; there is no") == 2
  assert json.loads(done.stdout.splitlines()[-1])["saved_step"] is None


@pytest.mark.slow
def test_what_process_0_refuses_ends_all_of_them_alike(tmp_path):
  runs.train_tiny(tmp_path, num_steps=1)
  path = tmp_path / "checkpoints" / "1" / "run" / "metadata"
  path.write_text("")
  flags = ("--config=tests/tiny.py", f"--workdir={tmp_path}")
  done = finished((2, 1), "hrm_jax.train", *flags, "--heartbeat-timeout=20")
  assert done.returncode == 2, done.stderr
  # Their order is theirs.
  assert done.stderr.count("error: ") == 2, done.stderr
  directory = path.parents[2]
  assert f"error: {directory}: none of its checkpoints is" in done.stderr
  # The other one had nothing against it, and waited.
  assert "error: process 0 ended with exit code 2, and said" in done.stderr


@pytest.mark.slow
def test_a_step_that_one_process_misses_is_chosen_again_by_all(
  tmp_path, tiny_run
):
  shutil.copytree(tiny_run / "checkpoints", tmp_path / "checkpoints")
  # The step goes when process 1 has read it, and process 0 has not yet.
  program = (
    "import argparse, pathlib, time\n"
    "from hrm_jax import console\n"
    "from hrm_jax.checkpoint import load\n"
    "from hrm_jax.machines import cluster\n"
    "from tests.toy_checkpoints import replace_step\n"
    f"directory = pathlib.Path({str(tmp_path / 'checkpoints')!r})\n"
    "flag, read = directory.parent / 'flag', load._read_weights\n"
    "def read_weights(path, shapes, **options):\n"
    "  if path.name == '10' and cluster.is_first():\n"
    "    until = time.monotonic() + 30\n"
    "    while not flag.exists() and time.monotonic() < until:\n"
    "      time.sleep(0.1)\n"
    "    replace_step(directory, 10, 11)\n"
    "  weights = read(path, shapes, **options)\n"
    "  if not cluster.is_first():\n"
    "    flag.touch()\n"
    "  return weights\n"
    "load._read_weights = read_weights\n"
    "def main():\n"
    "  parser = argparse.ArgumentParser()\n"
    "  cluster.add_arguments(parser)\n"
    "  cluster.join(**vars(parser.parse_args()))\n"
    "  with cluster.shared_fate():\n"
    "    trained = load.load(directory.parent, on_all_devices=True)\n"
    "  print('step', trained.step, flag.exists())\n"
    "console.run(main)\n"
  )
  done = finished((2, 1), program, kind="-c")
  assert done.returncode == 0, done.stderr
  assert (done.stdout + done.stderr).count("step 11 True") == 2, done.stderr


@pytest.mark.slow
def test_one_that_runs_out_of_memory_says_so_and_the_others_end(tmp_path):
  program = (
    "import jax\n"
    "from hrm_jax import console\n"
    "from hrm_jax.train import __main__ as train, run\n"
    "save = run.Run.save\n"
    "def run_out(self, state, done):\n"
    "  save(self, state, done)\n"
    "  if jax.process_index() == 1:\n"
    "    raise jax.errors.JaxRuntimeError(\n"
    "      'RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.')\n"
    "run.Run.save = run_out\n"
    "console.run(train.main)\n"
  )
  flags = ("--config=tests/tiny.py", "--config.checkpoint_interval=2")
  done = finished(
    (2, 1),
    program,
    *flags,
    f"--workdir={tmp_path}",
    "--heartbeat-timeout=20",
    kind="-c",
  )
  assert done.returncode == 2, done.stderr
  said = "error: out of memory in training: 32.00 GiB asked for at once, "
  assert done.stderr.count(said) == 1
  # The other one waited, and is ended by its launcher or of itself.
  assert "Traceback" not in done.stderr, done.stderr
  # The save that was under way is whole.
  assert load(tmp_path).step == 2

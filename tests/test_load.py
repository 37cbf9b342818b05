"""Reading for inference, also while a run saves and deletes."""

import errno
import gc
import logging
import os
import threading
import types

import pytest

from hrm_jax.checkpoint import choice
from hrm_jax.checkpoint import load as load_module
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from hrm_jax.machines import cluster
from hrm_jax.model import attention
from tests.commands import files_of
from tests.toy_checkpoints import (
  OTHER_FORMATS,
  replace_step,
  resume,
  set_format,
  truncate,
)


def test_a_damaged_newest_step_is_never_loaded(trained, lines):
  truncate(trained / "checkpoints" / "10" / "state" / "_METADATA")
  assert load(trained).step == 5
  assert any("10/state/_METADATA: expected " in line for line in lines)
  with pytest.raises(InputError, match=r"10/state/_METADATA: expected"):
    load(trained, 10)


def test_inference_asks_for_the_attention_of_the_run(trained, monkeypatch):
  asked = []

  def choose(setting, model, rows, *, platform, earlier):
    asked.append((setting, rows, earlier))
    return model.clone(attention="cudnn")

  monkeypatch.setattr(attention, "choose", choose)
  assert load(trained).model.attention == "cudnn"
  assert asked == [("auto", 16, "xla")]


@pytest.mark.parametrize(("number", "said"), OTHER_FORMATS)
def test_another_format_ends_in_one_line_wherever_it_is_read(
  trained, lines, number, said
):
  set_format(trained / "checkpoints" / "10", number)
  before = files_of(trained)
  said = f"checkpoints/10: {said}"
  for step in (None, 10):
    with pytest.raises(InputError, match=said):
      load(trained, step)
  with pytest.raises(InputError, match=said):
    resume(trained)
  set_format(trained / "checkpoints" / "5", number)
  with pytest.raises(InputError, match=said.replace("10", "5")):
    load(trained, "best")
  (trained / "checkpoints" / "5" / "manifest.json").unlink()
  assert lines == []
  assert files_of(trained / "checkpoints" / "10") == {
    name.removeprefix("checkpoints/10/"): content
    for name, content in before.items()
    if name.startswith("checkpoints/10/")
  }


@pytest.mark.parametrize(
  "number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE]
)
def test_what_may_not_be_read_is_neither_passed_over_nor_called_damaged(
  trained, lines, locked, number
):
  before = files_of(trained)
  locked(trained / "checkpoints" / "10" / "state" / "_METADATA", number)
  for read in (resume, load, lambda workdir: load(workdir, 10)):
    with pytest.raises(InputError) as error_info:
      read(trained)
    line = str(error_info.value)
    assert "10/state/_METADATA: cannot be read (" in line
    assert os.strerror(number) in line
    assert "delete" not in line
  assert lines == []
  assert files_of(trained) == before
  assert load(trained, 5).step == 5


def test_a_step_that_is_deleted_while_it_is_read_is_chosen_again(
  trained, lines, monkeypatch
):
  directory = trained / "checkpoints"
  read, newest = load_module._read_weights, [10]

  def delete_first(path, shapes, **options):
    if len(newest) < 4:
      newest.append(replace_step(directory, newest[-1], newest[-1] + 1))
    return read(path, shapes, **options)

  monkeypatch.setattr(load_module, "_read_weights", delete_first)
  assert load(trained).step == 13
  assert lines == []


def test_a_step_that_is_deleted_after_it_was_read_is_not_trusted(
  trained, monkeypatch
):
  read, newest = load_module._read_weights, [10]

  def delete_last(path, shapes, **options):
    weights = read(path, shapes, **options)
    if len(newest) < 2:
      newest.append(replace_step(trained / "checkpoints", 10, 11))
    return weights

  monkeypatch.setattr(load_module, "_read_weights", delete_last)
  assert load(trained).step == 11


def test_a_named_step_that_is_deleted_while_it_is_read_gets_one_line(
  trained, monkeypatch
):
  def delete_first(path, shapes, **options):
    replace_step(trained / "checkpoints", 10, 11)
    raise InputError("something is missing")

  monkeypatch.setattr(load_module, "_read_weights", delete_first)
  said = "10: it was deleted while it was being read, .* one of 5, 11"
  with pytest.raises(InputError, match=said):
    load(trained, 10)


def test_a_step_that_another_process_saw_go_is_chosen_again(
  trained, monkeypatch
):
  saw, asked = [1, 1, 0], []

  def sum_over_processes(mine):
    asked.append(mine)
    return mine + saw[len(asked) - 1]

  monkeypatch.setattr(cluster, "sum_over_processes", sum_over_processes)
  assert load(trained).step == 10
  assert asked == [0, 0, 0]
  del asked[:]
  with pytest.raises(InputError, match="10: it was deleted while it was being"):
    load(trained, 10)


def test_a_run_that_deletes_faster_than_anyone_reads_gets_one_line(
  trained, monkeypatch
):
  newest = [10]

  def delete_first(path, shapes, **options):
    newest.append(
      replace_step(trained / "checkpoints", newest[-1], newest[-1] + 1)
    )
    raise InputError("something is missing")

  monkeypatch.setattr(choice, "TRIES", 3)
  monkeypatch.setattr(load_module, "_read_weights", delete_first)
  with pytest.raises(InputError, match="deletes each checkpoint before it is"):
    load(trained)
  assert newest == [10, 11, 12, 13]


# Reads that were given up complain when they are collected; pytest has taken
# the place of the hook that keeps a command quiet about them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_readers_get_ever_newer_steps_while_a_run_saves(trained, lines):
  directory = trained / "checkpoints"
  over = threading.Event()

  def save_and_delete():
    newest = 10
    while not over.wait(0.02):
      newest = replace_step(directory, newest, newest + 1)

  writer = threading.Thread(target=save_and_delete)
  writer.start()
  try:
    steps = [load(trained).step for _ in range(8)]
  finally:
    over.set()
    writer.join()
  assert steps == sorted(steps)
  assert steps[0] >= 10
  assert steps[-1] > 11
  assert not any("digest" in line for line in lines)
  gc.collect()  # Here, not in the next test.


def test_arrays_read_in_vain_leave_no_tracebacks(monkeypatch, caplog):
  kept = []
  monkeypatch.setattr(load_module.sys, "unraisablehook", kept.append)
  load_module._ignore_reads_given_up.cache_clear()
  load_module._ignore_reads_given_up()
  read = types.SimpleNamespace(cr_code=types.SimpleNamespace(co_filename=""))
  of_orbax = types.SimpleNamespace(
    cr_code=types.SimpleNamespace(co_filename="x/orbax/serialization.py")
  )
  closed = RuntimeError("Event loop is closed")
  for error, where in ((closed, None), (ValueError(), of_orbax)):
    load_module.sys.unraisablehook(
      types.SimpleNamespace(exc_value=error, object=where)
    )
  assert kept == []
  for where in (None, read):
    load_module.sys.unraisablehook(
      types.SimpleNamespace(exc_value=ValueError(), object=where)
    )
  assert len(kept) == 2
  log = logging.getLogger("asyncio")
  log.error("Task exception was never retrieved")
  log.error("something else")
  assert caplog.messages == ["something else"]

"""What a person at the terminal sees."""

import errno
import io
import json
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from hrm_jax import console
from hrm_jax.console import InputError, progress_bar, signals


@pytest.fixture(autouse=True)
def _undo_set_up(monkeypatch):
  """`run` sets logging up for this test's stderr, and catches signals."""
  monkeypatch.setattr(console.log, "handlers", [])
  for name in ("level", "propagate"):
    monkeypatch.setattr(console.log, name, getattr(console.log, name))
  before = {n: signal.getsignal(n) for n in signals.that_end()}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


@pytest.mark.parametrize(
  ("number", "said"),
  [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_000, "1,000 rows")],
)
def test_one_is_counted_in_the_singular(number, said):
  assert console.counted(number, "row") == said


@pytest.fixture
def lines(monkeypatch):
  """The log lines."""
  lines = []
  monkeypatch.setattr(console.log, "info", lines.append)
  return lines


@pytest.fixture
def clock(monkeypatch):
  clock = types.SimpleNamespace(now=0.0)
  clock.monotonic = lambda: clock.now
  monkeypatch.setattr(progress_bar, "time", clock)
  return clock


class Terminal(io.StringIO):
  def isatty(self):
    return True


def failing(error):
  def main():
    raise error

  return main


def test_input_error_becomes_one_line_and_exit_code_2(capsys):
  with pytest.raises(SystemExit) as exit_info:
    console.run(failing(InputError("a.csv: line 3:\n  expected 81 cells.")))
  assert exit_info.value.code == 2
  captured = capsys.readouterr()
  assert captured.err == "error: a.csv: line 3: expected 81 cells.\n"
  assert captured.out == ""


def test_interruption_is_not_a_traceback(capsys):
  with pytest.raises(SystemExit) as exit_info:
    console.run(failing(KeyboardInterrupt()))
  assert exit_info.value.code == 130
  assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGXCPU"])
def test_termination_unwinds(name):
  number, unwound = getattr(signal, name), []

  def main():
    try:
      signal.raise_signal(number)
    finally:
      unwound.append("begun")
      signal.raise_signal(signal.SIGHUP)  # The shell's, after the terminal's.
      unwound.append("done")

  with pytest.raises(SystemExit) as exit_info:
    console.run(main)
  assert exit_info.value.code == 128 + number
  assert unwound == ["begun", "done"]


def test_a_command_under_nohup_outlives_its_terminal():
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    console.run(lambda: signal.raise_signal(signal.SIGHUP))
  finally:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_other_errors_keep_their_traceback():
  with pytest.raises(ZeroDivisionError):
    console.run(failing(ZeroDivisionError()))


def test_log_lines_go_to_stderr_and_the_result_to_the_last_line(capsys):
  def main():
    console.print_json({"step": 3})
    console.log.info("evaluated")

  console.run(main)
  captured = capsys.readouterr()
  assert captured.err.endswith(" evaluated\n")
  assert captured.err.count("\n") == 1
  assert json.loads(captured.out.splitlines()[-1]) == {"step": 3}


def test_result_is_one_line(capsys):
  console.print_json({"text": "a\nb", "nested": {"list": [1, None]}})
  assert capsys.readouterr().out.count("\n") == 1


def test_result_is_json_whatever_the_numbers(capsys):
  inf = float("inf")
  console.print_json({"a": float("nan"), "b": [inf, {"c": (-inf, 1.5)}]})

  def refuse(text):
    raise AssertionError(text)

  assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {
    "a": "nan",
    "b": ["inf", {"c": ["-inf", 1.5]}],
  }


def test_progress_writes_a_plain_line_now_and_then(lines, clock):
  with console.Progress("train", 1000, unit="updates", start=100) as bar:
    for _ in range(100):
      clock.now += 0.25
      bar.advance(4)
      bar.note("loss 1.0")
  # At 10 and 20 seconds, and at the end.
  assert lines == [
    "train: 260/1,000 updates, 16.0 updates/s, ETA 00:46, loss 1.0",
    "train: 420/1,000 updates, 16.0 updates/s, ETA 00:36, loss 1.0",
    "train: 500/1,000 updates, 16.0 updates/s, ETA 00:31, loss 1.0",
  ]


def test_progress_does_not_count_the_first_unit_in_which_programs_compile(
  lines, clock
):
  with console.Progress("train", 11, unit="updates") as bar:
    clock.now += 30
    bar.advance()  # The rate has nothing else to go by.
    clock.now += 20
    bar.advance(5)
  assert lines[:2] == [
    "train: 1/11 updates, 0.0 updates/s, ETA 05:00",
    "train: 6/11 updates, 0.2 updates/s, ETA 00:20",
  ]


def test_a_wrong_flag_is_one_line(capsys):
  parser = console.ArgumentParser(prog="count")
  parser.add_subparsers(dest="command").add_parser("to").add_argument(
    "--number", type=int
  )
  for flags, message in (
    (["--far"], "unrecognized arguments: --far; see --help."),
    (["to", "--number=x"], "argument --number: invalid int value: 'x'"),
  ):
    with pytest.raises(SystemExit) as exit_info:
      console.run(lambda flags=flags: parser.parse_args(flags))
    assert exit_info.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_what_is_missing_is_told_with_what_it_may_be(tmp_path):
  parser = console.ArgumentParser(prog="count")
  commands = parser.add_subparsers(dest="command", required=True)
  for name, argument in (("up", "--workdir"), ("down", "directory")):
    named = {} if name == "up" else {"metavar": "DIR"}
    required = {"required": True} if name == "up" else {}
    commands.add_parser(name).add_argument(argument, **named, **required)
  for flags, missing in (
    ([], "command (one of up, down); see --help."),
    (["up"], "--workdir; see --help."),
    (["up", "x"], "--workdir; see --help."),
    (["up", str(tmp_path)], f"--workdir; write --workdir={tmp_path}; see"),
    (["down"], "DIR; see --help."),
    (["down", "--workdir=x"], "DIR; write x without --workdir=; see --help."),
  ):
    with pytest.raises(InputError) as error:
      parser.parse_args(flags)
    said = f"the following arguments are required: {missing}"
    assert str(error.value).startswith(said)


def test_progress_without_total_or_work_says_no_more_than_it_knows(
  lines, clock
):
  with console.Progress("read", None, unit="rows") as bar:
    clock.now += 2
    bar.advance(3000)
  with console.Progress("read", 10, unit="rows"):
    pass
  assert lines == ["read: 3,000 rows, 1,500.0 rows/s"]


def test_progress_draws_a_bar_on_a_terminal(monkeypatch, lines):
  monkeypatch.setattr("sys.stderr", Terminal())
  with console.Progress("solve", 4, unit="puzzles") as bar:
    bar.note("2 right")
    bar.advance(4)
  drawn = sys.stderr.getvalue()
  assert "4/4" in drawn
  assert "2 right" in drawn
  assert lines == []


def test_a_name_beside_a_bar_cannot_command_the_terminal(
  monkeypatch, lines, clock
):
  monkeypatch.setattr("sys.stderr", Terminal())
  with console.Progress("reading \x1b]0;a\x07", 4, unit="rows") as bar:
    bar.note("\x9b31m\n")
    bar.advance(4)
  drawn = sys.stderr.getvalue()
  assert r"reading \x1b]0;a\x07" in drawn
  assert r"\x9b31m\n" in drawn
  assert not set("\x1b\x07\x9b") & set(drawn)


def test_progress_keeps_quiet_after_an_error(lines):
  def work():
    with console.Progress("train", 4, unit="updates") as bar:
      bar.advance()
      raise InputError("stop")

  with pytest.raises(InputError):
    work()
  assert lines == []


def test_progress_over_items_yields_them_all(lines):
  assert list(console.progress([3, 1, 2], "sort", unit="items")) == [3, 1, 2]
  assert list(console.progress(iter("ab"), "spell", unit="letters")) == [
    "a",
    "b",
  ]
  assert [line.split(",")[0] for line in lines] == [
    "sort: 3/3 items",
    "spell: 2 letters",
  ]


@pytest.mark.parametrize("code", [0, 75])
def test_what_cannot_be_written_does_not_change_the_exit_code(code):
  program = (
    "import sys\n"
    "from hrm_jax import console\n"
    "def main():\n"
    "  console.log.info('on a full disk')\n"
    "  console.print_json({'for': 'nobody'})\n"
    f"  sys.exit({code})\n"
    "console.run(main)\n"
  )
  script = '"$0" -c "$1" 2>/dev/full | true; echo "${PIPESTATUS[0]}"'
  done = subprocess.run(
    ["bash", "-c", script, sys.executable, program],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == f"{code}\n"


def test_a_path_begins_at_home_where_it_says_so(monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))
  parser = console.ArgumentParser()
  parser.add_argument("--workdir", type=console.path)
  for text, expected in (
    ("~/runs/a b", tmp_path / "runs/a b"),
    ("~", tmp_path),
    ("runs/~", pathlib.Path("runs/~")),
    ("/~x", pathlib.Path("/~x")),
  ):
    assert parser.parse_args([f"--workdir={text}"]).workdir == expected
  for text, said in (("~nobody-here/x", "~nobody-here"), ("", "nothing")):
    with pytest.raises(InputError, match=f"--workdir: .*{said}"):
      parser.parse_args([f"--workdir={text}"])


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.EBADF])
def test_a_reader_of_the_result_that_has_gone_changes_nothing(
  monkeypatch, number
):
  class Gone(io.StringIO):
    def write(self, text):
      raise OSError(number, "gone")

  monkeypatch.setattr("sys.stdout", Gone())
  console.print_json({"step": 1})


@pytest.mark.parametrize(
  "closed", ["<&-", ">&-", "2>&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
)
def test_a_stream_that_is_not_there_disturbs_nothing(tmp_path, closed):
  program = (
    "import sys\n"
    "from hrm_jax import console\n"
    "def main():\n"
    "  mine = open(sys.argv[1], 'w')\n"
    "  assert mine.fileno() > 2, mine.fileno()\n"
    "  terminal = sys.stdin.isatty(), sys.stdin.read()\n"
    "  print('said to nobody', file=sys.stderr)\n"
    "  for _ in console.progress('ab', 'count', unit='letters'):\n"
    "    console.log.info('counted')\n"
    "  mine.write(f'{terminal}')\n"
    "  console.print_json({'done': True})\n"
    "  sys.exit(75)\n"
    "console.run(main)\n"
  )
  script = f'"$0" -c "$1" "$2" {closed}'
  if "<" not in closed:
    script += " < /dev/null"
  done = subprocess.run(
    ["bash", "-c", script, sys.executable, program, tmp_path / "file"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 75, done.stderr
  assert (tmp_path / "file").read_text() == "(False, '')"
  said = ">&-" in closed.replace("2>&-", "")
  assert done.stdout == ("" if said else '{"done": true}\n')
  assert ("counted" in done.stderr) == ("2>&-" not in closed)


def test_an_error_is_told_by_its_code_where_no_stream_is():
  program = (
    "from hrm_jax import console\n"
    "def main():\n"
    "  raise console.InputError('for nobody')\n"
    "console.run(main)\n"
  )
  script = '"$0" -c "$1" <&- >&- 2>&-'
  done = subprocess.run(
    ["bash", "-c", script, sys.executable, program], check=False
  )
  assert done.returncode == 2


def test_a_result_that_cannot_be_written_is_one_line_and_exit_code_1():
  program = (
    "from hrm_jax import console\n"
    "console.run(lambda: console.print_json({'step': 1}))\n"
  )
  done = subprocess.run(
    ["bash", "-c", '"$0" -c "$1" >/dev/full', sys.executable, program],
    stderr=subprocess.PIPE,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr == (
    "error: stdout: the result cannot be written (No space left on device)\n"
  )

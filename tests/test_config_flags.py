"""--config and --config.KEY: what is read, what is refused, and how."""

import configparser
import pathlib
import shutil
import subprocess
import sys

import pytest

import hrm_jax
from hrm_jax.benchmark import __main__ as benchmark
from hrm_jax.config import KEYS
from hrm_jax.console import InputError
from hrm_jax.train import __main__ as train
from hrm_jax.train import config_flags

ROOT = pathlib.Path(__file__).parent.parent
MINI = f"--config={ROOT}/configs/sudoku.py:mini"


def parse(*flags, config=MINI):
  return config_flags.parse(
    train.make_parser(), [config, "--workdir=unused", *flags]
  )


def config_of(*flags, config=MINI):
  return parse(*flags, config=config).config


def line_of(*flags, config=MINI):
  with pytest.raises(InputError) as error:
    parse(*flags, config=config)
  assert "\n" not in str(error.value)
  return str(error.value)


# --- keys


@pytest.mark.parametrize(
  ("flags", "key", "value"),
  [
    (["--config.lr=3e-4"], "lr", 3e-4),
    (["--config.lr", "1"], "lr", 1.0),
    (["--config.epochs=64", "--config.epochs=32"], "epochs", 32),
    (["--config.mesh.data", "-1"], "mesh.data", -1),
    (["--config.model.remat"], "model.remat", True),
    (["--config.model.remat", "FALSE"], "model.remat", False),
    (["--config.checkpoint_every_eval=0"], "checkpoint_every_eval", False),
    (["--config.model.unroll=true"], "model.unroll", True),
    (["--config.data.path=a=b c"], "data.path", "a=b c"),
    (["--config.data.build_command", "x --y"], "data.build_command", "x --y"),
    (["--config.data.path="], "data.path", ""),
  ],
)
def test_a_value_is_read_as_its_key_takes_it(flags, key, value):
  read = config_of(*flags)
  for part in key.split("."):
    read = read[part]
  assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
  "name", [name for name, key in KEYS.items() if key.allowed.or_none]
)
@pytest.mark.parametrize(
  "none", [["=None"], ["="], ["=none"], ["", "None"], ["", ""]]
)
def test_what_may_be_none_can_be_set_to_none(tmp_path, name, none):
  path = tmp_path / "mine.py"
  path.write_text(
    "from hrm_jax.config import base\n"
    "def get_config():\n"
    "  config = base()\n"
    "  config.max_to_keep = 3\n"
    "  config.eval_interval = 1000\n"
    "  config.model.puzzle_emb_ndim = 16\n"
    "  config.model.unroll = False\n"
    "  return config\n"
  )
  first, *rest = none
  config = config_of(
    f"--config.{name}{first}", *rest, config=f"--config={path}"
  )
  for part in name.split("."):
    config = config[part]
  assert config is None


def test_what_may_not_be_none_says_so():
  assert line_of("--config.epochs=None") == (
    "config.epochs: expected a whole number, at least 1 and below 2**31, got "
    "'None'."
  )


@pytest.mark.parametrize(
  ("flag", "line"),
  [
    (
      "--config.lr=fast",
      "config.lr: expected a number, at least 0, got 'fast'",
    ),
    ("--config.epochs=1e3", "config.epochs: expected a whole .* got '1e3'."),
    ("--config.lr=-1", "config.lr: expected a number, at least 0, got -1.0"),
    ("--config.lrr=1", "--config.lrr: unknown key; did you mean --config.lr?"),
    (
      "--config.halt_max_step=8",
      "unknown key; did you mean --config.model.halt_max_steps?",
    ),
    ("--config.xyz=8", "--config.xyz: unknown key."),
    ("--config.model.depth=8", "--config.model.depth: unknown key."),
    ("--config.learning_rate=1", "unknown key; did you mean --config.lr?"),
    ("--config.model.lr=1", "unknown key; did you mean --config.lr?"),
    ("--config.model=8", "but a section; it holds model.H_cycles, "),
    ("--config.lr", "--config.lr: expected a value, got nothing."),
    ("--config.=3", "--config.: unknown key."),
  ],
)
def test_a_mistaken_key_or_value_is_one_line(flag, line):
  for part in line.split(" .* "):
    assert part in line_of(flag)


@pytest.mark.parametrize(
  ("theirs", "ours"),
  [
    ("arch.L_cycles", "model.L_cycles"),
    ("arch.halt_exploration_prob", "model.halt_exploration_prob"),
    ("arch.loss.loss_type", "loss.loss_type"),
    ("data_path", "data.path"),
    ("eval_save_outputs", "save_predictions"),
  ],
)
def test_a_key_of_the_reference_is_told_as_ours(theirs, ours):
  said = f"unknown key; the reference's {theirs} is config.{ours} here."
  assert line_of(f"--config.{theirs}=8") == f"--config.{theirs}: {said}"
  assert line_of(f"{theirs}=8") == f"--config.{theirs}: {said}"
  assert line_of(f"+{theirs}=8") == f"--config.{theirs}: {said}"


def test_a_published_command_line_is_told_how_keys_are_written():
  assert line_of("lr=7e-5") == "'lr=7e-5': expected --config.lr=VALUE."
  for unknown in ("arch.no_such_key", "arch", "arch.loss"):
    assert "arch.X is config.model.X here" in line_of(f"--config.{unknown}=16")


def test_other_arguments_that_nobody_knows_are_refused():
  # Nor is a beginning of a flag taken for it.
  for flag in ("--workdirs=x", "--wor=x", "--conf=x", "-x", "mini"):
    assert line_of(flag) == f"unrecognized arguments: {flag}; see --help."


@pytest.mark.parametrize(
  ("flag", "meant"),
  [
    ("--lr=1", "lr"),
    ("--num-steps=1", "num_steps"),
    ("--hidden_size", "model.hidden_size"),
    ("--model.hidden_size=8", "model.hidden_size"),
    ("--data=x", "data.path"),
    ("--conf.lr=1", "lr"),
  ],
)
def test_a_key_given_as_a_flag_is_told_how_keys_are_written(flag, meant):
  expected = f"{flag}: no such flag; did you mean --config.{meant}?"
  assert line_of(flag) == expected


@pytest.mark.parametrize(
  ("given", "meant"),
  [
    ("sudoku:mini", "--config=sudoku.py:mini"),
    ("maze", "--config=maze.py"),
    ("full", "--config=sudoku.py:full"),
    (
      "mini",
      "--config=grid.py:mini or --config=sudoku.py:mini or "
      "--config=trm_sudoku.py:mini",
    ),
  ],
)
def test_a_configuration_without_its_file_is_told_what_it_may_be(given, meant):
  line = line_of(config=f"--config={given}")
  assert line.endswith(f"; did you mean {meant}?")
  assert "did you mean" not in line_of(config="--config=nothing")


def test_a_value_of_the_file_is_checked_before_anything_is_done(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from hrm_jax.config import base\n"
    "def get_config():\n"
    "  config = base()\n"
    "  config.lr_warmup_steps = -5\n"
    "  return config\n"
  )
  line = line_of(config=f"--config={path}")
  assert line.startswith("config.lr_warmup_steps: expected a whole number, at")
  # The command line has the last word.
  config_of("--config.lr_warmup_steps=5", config=f"--config={path}")


def test_the_configuration_is_locked():
  with pytest.raises(AttributeError):
    config_of().lrr = 3


# --- files

BASE = "from hrm_jax.config import base\nconfig = base()\n"


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (BASE + "config.lrr = 3\n", "mine.py: config.lrr: unknown key."),
    (BASE + "del config.model.remat\n", "config.model.remat: missing; begin"),
    ("config = 3\n", "expected get_config of the file to return a ConfigDict"),
    ("# Title\nSome text.\n", "SyntaxError: "),
    ("import nope\n", "ModuleNotFoundError: No module named 'nope'"),
    (BASE + "config.lr += config.model\n", "TypeError: "),
    (BASE + "raise SystemError('x')\n", "mine.py, line 3)"),
    (BASE + "get = 3\n", "line 5)"),
  ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, content, message):
  path = tmp_path / "mine.py"
  path.write_text(content + "def get_config():\n  return config + nothing\n")
  if "get = 3" not in content:
    path.write_text(content + "def get_config():\n  return config\n")
  line = line_of(config=f"--config={path}")
  assert line.startswith(f"--config={path}: ")
  assert message in line


def test_a_file_without_get_config_is_one_line(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("")
  line = line_of(config=f"--config={path}")
  assert "has no attribute 'get_config'" in line
  path.write_text(BASE + "def get_config():\n  return config\n")
  assert "get_config() takes 0 positional" in line_of(
    config=f"--config={path}:a"
  )


@pytest.mark.parametrize("name", ["sudoku.py", "configs/sudoku.py"])
def test_a_shipped_file_is_found_from_anywhere(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  args = parse(config=f"--config={name}:mini")
  assert args.config.model.hidden_size == 128
  assert args.shipped == ROOT / "configs" / "sudoku.py"
  assert "unknown variant; known are 1k" in line_of(config=f"--config={name}:x")
  # Their own file wins.
  own = tmp_path / name
  own.parent.mkdir(exist_ok=True)
  shutil.copy(ROOT / "tests" / "tiny.py", own)
  args = parse(config=f"--config={name}")
  assert (args.config.model.hidden_size, args.shipped) == (16, None)


def test_a_file_that_is_nowhere_is_named_with_those_that_there_are(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for name in ("nothing.py", "other/sudoku.py", "x/sudoku", ".", "", "x:y"):
    line = line_of(config=f"--config={name}")
    assert line.startswith(f"--config={name}: expected FILE or FILE:VARIANT")
    assert line.endswith(
      " those of hrm_jax are arc.py, grid.py, maze.py, sudoku.py, trm_arc.py, "
      "trm_maze.py, trm_sudoku.py."
    )
  said = (
    "the following arguments are required: --config, --workdir; see --help."
  )
  with pytest.raises(InputError, match=said):
    config_flags.parse(train.make_parser(), [])


def test_a_file_begins_at_home_or_has_a_colon_in_its_path(
  tmp_path, monkeypatch
):
  monkeypatch.setenv("HOME", str(tmp_path))
  path = tmp_path / "12:30" / "mine.py"
  path.parent.mkdir()
  shutil.copy(ROOT / "tests" / "tiny.py", path)
  shutil.copy(ROOT / "tests" / "tiny.py", tmp_path)
  for name in ("~/12:30/mine.py", path, "~/tiny.py"):
    assert config_of(config=f"--config={name}").model.hidden_size == 16


# --- commands


def test_benchmark_has_the_shipped_sudoku_unless_told(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  args = config_flags.parse(benchmark.make_parser(), ["data"])
  assert (args.config.global_batch_size, args.shipped) == (384, None)
  with pytest.raises(InputError, match="argument command: invalid choice: 'x'"):
    config_flags.parse(benchmark.make_parser(), ["x"])


@pytest.mark.parametrize("command", [train, benchmark])
def test_help_shows_every_flag_and_an_example(command, capsys):
  parser = command.make_parser()
  with pytest.raises(SystemExit) as exit_info:
    config_flags.parse(parser, ["--help"])
  assert exit_info.value.code == 0
  text = capsys.readouterr().out
  assert "example: python -m hrm_jax." in text
  assert "--config.KEY=VALUE overrides" in text
  for action in parser._actions:
    assert action.help
    assert not action.help.lower().startswith("of ")
    for flag in action.option_strings:
      assert flag in text


@pytest.mark.slow
def test_train_runs_beside_a_configs_package_of_others(tmp_path):
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "__init__.py").write_text("raise ImportError\n")
  command = [sys.executable, "-m", "hrm_jax.train", "--workdir=run"]
  done = subprocess.run(
    [*command, "--config=sudoku.py:mini", "--config.num_steps=-1"],
    cwd=tmp_path,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/tmp"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stderr.startswith("error: config.num_steps: expected a whole")
  assert done.returncode == 2
  assert not (tmp_path / "run").exists()


def test_an_installation_holds_every_package_and_no_name_of_others():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  packages = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for root in ("hrm_jax", "data_tools")
    for path in (ROOT / root).rglob("__init__.py")
  }
  installed = set(setup["options"]["packages"].split())
  assert installed == packages | {"hrm_jax.configs"}
  assert "hrm_jax.configs = configs" in setup["options"]["package_dir"]


def test_an_installation_finds_its_own_configurations(tmp_path, monkeypatch):
  package = tmp_path / "site-packages" / "hrm_jax"
  (package / "configs").mkdir(parents=True)
  (package.parent / "configs").mkdir()  # Somebody else's.
  monkeypatch.setattr(hrm_jax, "__file__", str(package / "__init__.py"))
  assert config_flags.shipped() == package / "configs"

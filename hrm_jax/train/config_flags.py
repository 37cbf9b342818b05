"""The flags of the commands that take a configuration.

`--config=FILE:VARIANT` picks one, `--config.KEY=VALUE` overrides a key. Values
are read by what `hrm_jax.config` says that the key takes, and not by the flags
of ml_collections, which go by the value that happens to be there: None would
be no number, and a mistake would be a page.
"""

import argparse
import contextlib
import difflib
import importlib.machinery
import importlib.util
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import ml_collections

import hrm_jax
from hrm_jax import console
from hrm_jax.config import KEYS, check_config, check_keys, check_value
from hrm_jax.console import InputError

_FLAG = "--config."

# Keys of the reference that are called otherwise here; besides arch.X.
_RENAMED = {"data_path": "data.path", "eval_save_outputs": "save_predictions"}

# What people who know other programs may call a key.
_OTHER_NAMES = {
  "batch_size": "global_batch_size",
  "data": "data.path",
  "learning_rate": "lr",
  "steps": "num_steps",
}

_WORDS = {"true": True, "t": True, "1": True}
_WORDS |= {"false": False, "f": False, "0": False}
_NONE = ("", "none", "null")


def make_parser(
  prog: str, doc: str | None, *, config: str | None = None
) -> console.ArgumentParser:
  """A parser with --config; add the command's own flags to it.

  Args:
    prog: the command.
    doc: what --help says, before the flags.
    config: the configuration if none is given; None: one has to be.
  """
  parser = console.ArgumentParser(
    prog=prog,
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    # A flag that comes later must not make a script's short form ambiguous.
    allow_abbrev=False,
  )
  add = parser.add_argument_group(
    "configuration",
    "--config.KEY=VALUE overrides a key, such as --config.lr=1e-4 or\n"
    "--config.model.hidden_size=256; hrm_jax/config explains them all.",
  ).add_argument
  add(
    "--config",
    metavar="FILE[:VARIANT]",
    default=config,
    required=config is None,
    help="configuration file; sudoku.py, maze.py, arc.py, grid.py and "
    "trm_*.py are found from anywhere"
    + (f" (default: {config})" if config else ""),
  )
  return parser


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
  """Reads the flags.

  Args:
    parser: from `make_parser`.
    argv: the arguments, without the command; default: the process's.

  Returns:
    The flags; `config` is the ConfigDict, locked, and `shipped` its file, if
    it is one that comes with hrm_jax and was found from elsewhere.

  Raises:
    InputError: a flag, the file or a value of a key is wrong.
  """
  argv = list(sys.argv[1:] if argv is None else argv)
  overrides, rest = _split(argv)
  args, unknown = parser.parse_known_args(rest)
  for text in unknown:
    name = text.partition("=")[0].removeprefix("--").replace("-", "_")
    if text.startswith("--") and (key := _full_name(name)):
      raise InputError(f"{text}: no such flag; did you mean {_FLAG}{key}?")
    if "=" in text and not text.startswith("-"):  # As the reference writes it.
      key = text.partition("=")[0].lstrip("+")
      _check_name(key)
      raise InputError(f"'{text}': expected {_FLAG}{key}=VALUE.")
  if unknown:
    parser.error(f"unrecognized arguments: {' '.join(unknown)}")
  file, variant, is_ours = _find(args.config)
  is_news = is_ours and args.config != parser.get_default("config")
  args.shipped = file if is_news else None
  config = load(file, variant)
  for name, text in overrides:
    _override(config, name, text)
  check_config(config)
  config.lock()
  args.config = config
  return args


def _split(argv: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
  """The overrides, (key, value) each, and the other arguments.

  Raises:
    InputError: an unknown key, or one without a value.
  """
  overrides, rest = [], []
  while argv:
    text = argv.pop(0)
    if text == "--":
      return overrides, [*rest, text, *argv]
    if not text.startswith(_FLAG):
      rest.append(text)
      continue
    name, equals, value = text.removeprefix(_FLAG).partition("=")
    _check_name(name)
    if not equals:
      if KEYS[name].allowed.kind is bool:
        # Alone it means yes.
        is_value = argv and argv[0].lower() in (*_WORDS, *_NONE)
        value = argv.pop(0) if is_value else "true"
      elif argv:
        value = argv.pop(0)
      else:
        raise InputError(f"{text}: expected a value, got nothing.")
    overrides.append((name, value))
  return overrides, rest


def _check_name(name: str) -> None:
  if name in KEYS:
    return
  said = f"{_FLAG}{name}: unknown key"
  if here := _here(name):
    raise InputError(f"{said}; the reference's {name} is config.{here} here.")
  if name.split(".")[0] == "arch":
    raise InputError(
      f"{said}; the reference's arch.X is config.model.X here, and arch.loss.X "
      "is config.loss.X."
    )
  inside = [key for key in KEYS if key.startswith(f"{name}.")]
  if inside:
    raise InputError(f"{said}, but a section; it holds {', '.join(inside)}.")
  close = _full_name(name) or _similar(name)
  hint = f"; did you mean {_FLAG}{close}?" if close else "."
  raise InputError(f"{said}{hint}")


def _full_name(name: str) -> str | None:
  """The key that is called so, or ends so, or has this name elsewhere."""
  if name in KEYS:
    return name
  last = name.split(".")[-1]
  return _OTHER_NAMES.get(last) or _by_last_word().get(last)


def _similar(name: str) -> str | None:
  """The key whose last word is most like that of the name, if any is.

  Its section is not compared: sections are alike for all of their keys.
  """
  keys = _by_last_word()
  found = difflib.get_close_matches(name.split(".")[-1], keys, 1, cutoff=0.7)
  return keys[found[0]] if found else None


def _by_last_word() -> dict[str, str]:
  return {key.split(".")[-1]: key for key in KEYS}


def _here(name: str) -> str | None:
  """What a key of the reference is called here; None if it is none."""
  if name in _RENAMED:
    return _RENAMED[name]
  for theirs, ours in (("arch.loss.", "loss."), ("arch.", "model.")):
    key = ours + name.removeprefix(theirs)
    if name.startswith(theirs) and key in KEYS:
      return key
  return None


def _value(name: str, text: str) -> Any:
  """What the text stands for, of the type that the key takes.

  Raises:
    InputError: it stands for nothing that the key takes.
  """
  allowed = KEYS[name].allowed
  if allowed.or_none and text.lower() in _NONE:
    return None
  value: Any = text
  if allowed.kind is bool:
    value = _WORDS.get(text.lower(), text)
  elif allowed.kind is not str:
    try:
      value = allowed.kind(text)
    except ValueError:
      value = text  # Which is no number: the check says so.
  check_value(name, value)
  return value


def _override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
  *sections, last = name.split(".")
  section = cast("Any", config)
  for each in sections:
    section = section[each]
  with section.ignore_type():  # The file's own value may be the wrong one.
    section[last] = _value(name, text)


def load(file: pathlib.Path, variant: str | None) -> ml_collections.ConfigDict:
  """What `get_config` of a file returns, for a variant if there is one.

  Raises:
    InputError: there is no such variant, or the file has a mistake.
  """
  get_config = _run(file, lambda: _module(file).get_config)
  arguments = [] if variant is None else [variant]
  config = _run(file, lambda: get_config(*arguments))
  if not isinstance(config, ml_collections.ConfigDict):
    raise InputError(
      f"--config={file}: expected get_config of the file to return a "
      f"ConfigDict, got {type(config).__name__}."
    )
  try:
    check_keys(config)
  except InputError as error:
    raise InputError(f"--config={file}: {error}") from None
  return config


def shipped() -> pathlib.Path:
  """The directory of the configurations that come with hrm_jax.

  In an installation it lies in the package, in a checkout beside it. It is
  found by place and not by name: others have a `configs`, too.
  """
  package = pathlib.Path(hrm_jax.__file__).parent
  inside = package / "configs"
  return inside if inside.is_dir() else package.parent / "configs"


def _find(text: str) -> tuple[pathlib.Path, str | None, bool]:
  """The file, the variant, and whether it is one of ours, from elsewhere.

  Raises:
    InputError: there is no such file.
  """
  if console.expand_home(text).is_file():  # A colon in a directory, say.
    return console.expand_home(text), None, False
  name, colon, word = text.partition(":")
  variant = word if colon else None
  path = console.expand_home(name)
  if path.is_file():
    return path, variant, False
  ours = {file.name: file for file in sorted(shipped().glob("*.py"))}
  is_plain = path.parent in (pathlib.Path(), pathlib.Path("configs"))
  if is_plain and path.name in ours:
    return ours[path.name], variant, True
  meant = _meant(name, variant, ours)
  hint = f"; did you mean {' or '.join(meant)}?" if meant else "."
  raise InputError(
    f"--config={text}: expected FILE or FILE:VARIANT, got no such file: "
    f"{path}; those of hrm_jax are {', '.join(ours)}{hint}"
  )


def _meant(
  name: str, variant: str | None, ours: Mapping[str, pathlib.Path]
) -> list[str]:
  """What names a shipped file if `.py` is missing, or a variant if its file is.

  Args:
    name: what was given for the file.
    variant: what was given for the variant, if anything.
    ours: the shipped files by name.
  """
  if f"{name}.py" in ours:
    return [f"--config={name}.py" + (f":{variant}" if variant else "")]
  meant = []
  for file_name, file in ours.items():
    with contextlib.suppress(InputError):  # It has no such variant.
      load(file, name)
      meant.append(f"--config={file_name}:{name}")
  return meant


def _module(file: pathlib.Path) -> Any:
  name = "hrm_jax_configuration"
  loader = importlib.machinery.SourceFileLoader(name, str(file))
  spec = importlib.util.spec_from_loader(name, loader)
  assert spec is not None  # There is none only for a loader of None.
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # Where dataclasses look for it.
  loader.exec_module(module)
  return module


def _run(file: pathlib.Path, step: Callable[[], Any]) -> Any:
  """Runs code of a configuration file; its mistakes become one line."""
  try:
    return step()
  except InputError:
    raise  # The file's own.
  except Exception as error:
    said = f"--config={file}: {console.one_line(error)}"
    *_, last = traceback.extract_tb(error.__traceback__)
    # Not where Python, a library or this file notices.
    if not re.search("site-packages|^<", last.filename) and (
      last.filename != __file__
    ):
      said += f" ({last.filename}, line {last.lineno})"
    raise InputError(said) from None

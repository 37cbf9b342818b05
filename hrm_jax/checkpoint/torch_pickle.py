"""The pickle inside torch's files: what it describes, none of it run.

A pickle is a program for a small stack machine, and may call any function by
its name. A state dict needs very little of that: strings, numbers, tuples,
dictionaries, and "this tensor lies in that storage". Only this is understood
here. `pickletools` cuts the program into its instructions; those of the machine
below make a description, call nothing, and refuse every other name.
"""

import pickletools
import struct
import warnings
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from hrm_jax.console import printable

# torch's name of a storage, after "torch ", and what it holds.
DTYPES = {
  "FloatStorage": np.dtype(np.float32),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "HalfStorage": np.dtype(np.float16),
  "DoubleStorage": np.dtype(np.float64),
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_KNOWN = {_DICT, _TENSOR, *(f"torch {name}" for name in DTYPES)}

# A tensor takes about 200 bytes and 80 instructions. An instruction of one byte
# can make an object of a hundred: these bound the memory that a bad file costs.
MOST_BYTES = 2**20
_MOST_INSTRUCTIONS = 100_000


class PickleError(Exception):
  """What is wrong with a pickle, in words that follow its file's name."""


class Storage(NamedTuple):
  """A range of numbers in the file.

  Attributes:
    key: the name of its member, below data/.
    dtype: of its numbers.
    size: how many there are.
  """

  key: str
  dtype: np.dtype
  size: int


class View(NamedTuple):
  """A tensor: some numbers of a storage; all as the file says, unchecked.

  Attributes:
    storage: where its numbers lie.
    offset: of the first one in the storage.
    shape: of the tensor.
    strides: numbers from one element to the next, along each axis.
  """

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Name(NamedTuple):
  """The name of something of Python's that the pickle would use."""

  name: str


def state_dict(data: bytes) -> dict[str, View]:
  """The tensors that a pickle describes, by their names.

  Args:
    data: the whole pickle.

  Raises:
    PickleError: it is damaged, asks for anything else than tensors in a
      dictionary, or holds anything else.
  """
  if len(data) > MOST_BYTES:
    raise PickleError(
      f"expected a pickle of at most {MOST_BYTES:,} bytes, got {len(data):,}"
    )
  with warnings.catch_warnings():
    # pickletools warns of odd backslashes; such names are refused anyway.
    warnings.simplefilter("ignore")
    value = _Machine().run(data)
  if type(value) is not dict:
    raise PickleError(
      f"expected a dictionary of tensors, got {_kind(value)} in its place"
    )
  for name, tensor in value.items():
    if type(name) is not str or type(tensor) is not View:
      raise PickleError(
        "expected a dictionary of tensors alone, got one whose key "
        f"{_shown(name)} has {_kind(tensor)}"
      )
  return value


class _Machine:
  """The stack machine, as far as a state dict needs it."""

  def __init__(self):
    self._stack: list[Any] = []
    self._below: list[list[Any]] = []  # what stood there before each mark
    self._memo: dict[int, Any] = {}

  def run(self, data: bytes) -> Any:
    """Follows the instructions; returns what they leave."""
    at = 0
    try:
      instructions = pickletools.genops(data)
      for i, (instruction, argument, position) in enumerate(instructions):
        at = position or 0
        if i == _MOST_INSTRUCTIONS:
          raise PickleError(
            f"expected a pickle of at most {i:,} instructions, got more"
          )
        if instruction.name == "STOP":
          if len(self._stack) != 1 or self._below or at + 1 != len(data):
            raise PickleError("its pickle does not end where it should")
          return self._stack[0]
        self._do(instruction.name, argument)
    except (ValueError, IndexError, KeyError, struct.error):
      pass  # It says how it failed, not what the file should be.
    raise PickleError(f"its pickle is damaged at byte {at:,}")

  def _do(self, name: str, argument: Any) -> None:
    """One instruction; the names are those of `pickletools`."""
    stack, memo = self._stack, self._memo
    match name:
      case "PROTO" | "FRAME":
        pass
      # --- plain values
      case "NONE":
        stack.append(None)
      case "NEWTRUE" | "NEWFALSE":
        stack.append(name == "NEWTRUE")
      case "BININT" | "BININT1" | "BININT2" | "LONG1":
        stack.append(argument)
      case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
        stack.append(argument)
      case "EMPTY_DICT":
        stack.append({})
      case "EMPTY_TUPLE":
        stack.append(())
      case "TUPLE1" | "TUPLE2" | "TUPLE3":
        items = [stack.pop() for _ in range(int(name[-1]))]
        stack.append(tuple(reversed(items)))
      case "MARK":
        self._below.append(stack)
        self._stack = []
      case "TUPLE":
        self._to_mark().append(tuple(stack))
      # --- what has been said before
      case "BINPUT" | "LONG_BINPUT":
        memo[argument] = stack[-1]
      case "MEMOIZE":
        memo[len(memo)] = stack[-1]
      case "BINGET" | "LONG_BINGET":
        stack.append(memo[argument])
      # --- a dictionary and its items; its attributes are torch's affair
      case "SETITEM":
        value, key = stack.pop(), stack.pop()
        _put(stack[-1], [key, value])
      case "SETITEMS":
        _put(self._to_mark()[-1], stack)
      case "BUILD":
        state, target = stack.pop(), stack[-1]
        if type(state) is not dict or type(target) is not dict:
          raise _refused(f"attributes of {_kind(target)}")
      # --- what would be looked up and called
      case "GLOBAL":
        stack.append(_known(argument))
      case "STACK_GLOBAL":
        function, module = stack.pop(), stack.pop()
        if type(module) is not str or type(function) is not str:
          raise _refused("something whose name is no text")
        stack.append(_known(f"{module} {function}"))
      case "BINPERSID":
        stack.append(_storage(stack.pop()))
      case "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_called(function, arguments))
      case _:
        raise _refused(f"the instruction {name}")

  def _to_mark(self) -> list[Any]:
    """Goes back to what stood there before the last mark."""
    self._stack = self._below.pop()
    return self._stack


def _known(name: str) -> _Name:
  if name not in _KNOWN:
    raise _refused(f"'{printable(name.replace(' ', '.', 1)):.100}'")
  return _Name(name)


def _called(function: Any, arguments: Any) -> Any:
  """What a call would give, for the two that are understood."""
  if type(function) is not _Name or type(arguments) is not tuple:
    raise _refused(f"a call of {_kind(function)}")
  if function.name == _DICT and not arguments:
    return {}
  if function.name == _TENSOR and len(arguments) == 6:
    storage, offset, shape, strides, _, _ = arguments
    if (
      type(storage) is Storage
      and _is_size(offset)
      and _are_sizes(shape)
      and _are_sizes(strides)
      and len(shape) == len(strides)
    ):
      return View(storage, offset, shape, strides)
  raise _refused(f"'{function.name.replace(' ', '.', 1)}' of other arguments")


def _storage(value: Any) -> Storage:
  """Reads ("storage", its type, its key, the device it lay on, its size)."""
  if type(value) is tuple and len(value) == 5 and type(value[0]) is str:
    what, kind, key, device, size = value
    if (
      what == "storage"
      and type(kind) is _Name
      and type(key) is type(device) is str
      and _is_size(size)
    ):
      name = kind.name.removeprefix("torch ")
      if name in DTYPES:
        return Storage(key, DTYPES[name], size)
  raise _refused("an object from elsewhere that is no storage")


# No tensor of a file can have more; Python's own integers have no bound.
_MOST, _MOST_AXES = 2**48, 8


def _is_size(value: Any) -> bool:
  return type(value) is int and 0 <= value < _MOST


def _are_sizes(value: Any) -> bool:
  return (
    type(value) is tuple
    and len(value) <= _MOST_AXES
    and all(map(_is_size, value))
  )


def _put(target: Any, items: list[Any]) -> None:
  """Puts keys and values, in turn, into a dictionary."""
  if type(target) is not dict:
    raise _refused(f"items of {_kind(target)}")
  for key, value in zip(items[::2], items[1::2], strict=True):
    # A key of nested tuples could take the interpreter down when it is hashed.
    if type(key) is not str:
      raise _refused(f"a dictionary with {_kind(key)} as a key")
    if key in target:
      raise PickleError(f"its key {_shown(key)} is there twice")
    target[key] = value


def _refused(what: str) -> PickleError:
  known = ", ".join(str(dtype) for dtype in DTYPES.values())
  return PickleError(
    f"its pickle asks for {what}, which is refused and was not run: expected "
    f"tensors of {known} in a dictionary, and nothing else"
  )


def _kind(value: Any) -> str:
  """What a value is, in a word; the value itself may be huge."""
  words = {
    _Name: "a name of Python's",
    Storage: "a storage",
    View: "a tensor",
    dict: "a dictionary",
    str: "a text",
    int: "a number",
    tuple: "a tuple",
  }
  return words.get(type(value), f"'{type(value).__name__}'")


def _shown(name: Any) -> str:
  if type(name) is str:
    return f"'{printable(name[:100])}'"
  return _kind(name)


# --- writing


def from_views(views: dict[str, View]) -> bytes:
  """The pickle of a state dict, as torch writes it (protocol 2).

  Args:
    views: the tensors by their names; `state_dict` returns the same again.
  """
  parts = [b"\x80\x02", _call(_DICT, b")"), b"("]
  for name, (storage, offset, shape, strides) in views.items():
    kind = next(k for k, dtype in DTYPES.items() if dtype == storage.dtype)
    identity = b"".join(
      (
        b"(",
        _text("storage"),
        _global(f"torch {kind}"),
        _text(storage.key),
        _text("cpu"),
        _number(storage.size),
        b"tQ",
      )
    )
    arguments = (
      identity,
      _number(offset),
      _tuple(shape),
      _tuple(strides),
      b"\x89",  # It asks for no gradient.
      _call(_DICT, b")"),  # Nobody listens to its gradient.
    )
    tensor = _call(_TENSOR, b"(" + b"".join(arguments) + b"t")
    parts += [_text(name), tensor]
  return b"".join((*parts, b"u."))


def _global(name: str) -> bytes:
  return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _call(name: str, arguments: bytes) -> bytes:
  return _global(name) + arguments + b"R"


def _text(text: str) -> bytes:
  raw = text.encode()
  return b"X" + struct.pack("<L", len(raw)) + raw


def _number(value: int) -> bytes:
  if value < 2**31:
    return b"J" + struct.pack("<l", value)
  return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: tuple[int, ...]) -> bytes:
  return b"(" + b"".join(map(_number, values)) + b"t"

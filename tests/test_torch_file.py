"""torch's files are read without PyTorch, and never believed."""

import collections
import io
import itertools
import os
import pickle
import random
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from hrm_jax.checkpoint import torch_file, torch_pickle
from hrm_jax.checkpoint.torch_pickle import PickleError, Storage, View
from hrm_jax.console import InputError
from tests import golden_cases

BF16 = np.dtype(ml_dtypes.bfloat16)
GOLDEN = [
  case.folder / file
  for case in golden_cases.every_case()
  if case.kind == "torch_checkpoint"
  for file in case.manifest["files"]
]


def arrays():
  """One of each dtype, and of each odd shape."""
  rng = np.random.default_rng(0)
  return {
    "model.a": rng.normal(size=(3, 4)).astype(np.float32),
    "b": rng.normal(size=(5,)).astype(BF16),
    "c.d": rng.normal(size=(2, 3, 2)).astype(np.float16),
    "e": rng.normal(size=(7,)),
    "scalar": np.float32(1.5),
    "empty": np.zeros((0, 3), np.float32),
    "ü": np.arange(4, dtype=np.float32).reshape(2, 2).T,
  }


def assert_same(got, want):
  assert list(got) == list(want)
  for name, value in want.items():
    assert got[name].dtype == np.asarray(value).dtype, name
    assert got[name].shape == np.shape(value), name
    assert got[name].tobytes() == np.ascontiguousarray(value).tobytes(), name


def view(shape=(2, 3), strides=(3, 1), offset=0, size=6, key="0", dtype=None):
  storage = Storage(key, dtype or np.dtype(np.float32), size)
  return View(storage, offset, shape, strides)


def make(path, data, members=None, *, compress=zipfile.ZIP_STORED):
  """A zip file with this pickle, and these members beside it."""
  if members is None:
    members = {"data/0": np.arange(6, dtype=np.float32).tobytes()}
  with zipfile.ZipFile(path, "w", compress) as archive:
    archive.writestr("x/data.pkl", data)
    for name, content in members.items():
      archive.writestr(f"x/{name}", content)
  return path


def read_one(path, described, members=None):
  """Writes a file whose tensor "t" is described so, and reads it."""
  make(path, torch_pickle.from_views({"t": described}), members)
  return torch_file.read(path)["t"]


def error_of(path, most=1_000_000):
  """The one line of a file that is refused, without much memory."""
  tracemalloc.start()
  try:
    with pytest.raises(InputError) as error:
      torch_file.read(path)
    assert tracemalloc.get_traced_memory()[1] < most
  finally:
    tracemalloc.stop()
  message = str(error.value)
  assert message.startswith(f"{path}: ")
  assert message.isprintable()
  assert len(message) < 1000
  return message.removeprefix(f"{path}: ")


# ------------------------------------------------------------ what is read


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
  torch_file.write(tmp_path / "step_1", arrays())
  assert_same(torch_file.read(tmp_path / "step_1"), arrays())


@pytest.mark.golden
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_what_torch_wrote_is_described_as_it_was(path):
  case = golden_cases.Case(path.parent.parent)
  want = case.manifest["checkpoint_tensors"][path.parent.name]
  with torch_file.opened(path) as file:
    got = {
      name: {"shape": list(shape), "dtype": f"torch.{dtype}"}
      for name, (shape, dtype) in file.tensors.items()
    }
    assert got == want
    for name, (shape, dtype) in file.tensors.items():
      value = file.array(name)
      assert (value.shape, value.dtype) == (shape, dtype)
      assert np.isfinite(value.astype(np.float32)).all()


def test_a_view_of_a_storage_is_what_its_strides_say(tmp_path):
  numbers = np.arange(6, dtype=np.float32)
  path = tmp_path / "f"
  transposed = read_one(path, view((3, 2), (1, 3)))
  np.testing.assert_array_equal(transposed, numbers.reshape(2, 3).T)
  assert transposed.flags.c_contiguous
  part = read_one(path, view((2,), (2,), offset=1))
  np.testing.assert_array_equal(part, numbers[[1, 3]])


def test_sizes_of_64_bits_are_read(tmp_path, monkeypatch):
  # What zipfile does above 2 GiB; torch does it above 4.
  monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
  path = tmp_path / "step_1"
  torch_file.write(path, arrays())
  content = path.read_bytes()
  assert b"PK\6\6" in content
  assert_same(torch_file.read(path), arrays())
  # The first extra field with a size in it: it is said to be shorter.
  at = content.index(b"\1\0\x18\0", content.index(b"PK\1\2"))
  path.write_bytes(content[: at + 2] + b"\x08\0" + content[at + 4 :])
  assert "a member's 64-bit size is missing" in error_of(path)
  # The end of a file above 4 GiB: the numbers stand in its 64-bit form.
  content = content[:-10] + b"\xff" * 8 + content[-2:]
  path.write_bytes(content)
  assert_same(torch_file.read(path), arrays())
  path.write_bytes(content.replace(b"PK\6\6", b"PK\6\5"))
  assert "its 64-bit end makes no sense" in error_of(path)


def test_the_byte_order_is_the_files(tmp_path):
  for dtype in (np.dtype(np.float32), BF16):
    numbers = np.arange(1, 7).astype(dtype)
    swapped = numbers.view(f"u{dtype.itemsize}").byteswap().tobytes()
    members = {"data/0": swapped, "byteorder": b"big"}
    got = read_one(tmp_path / "f", view(dtype=dtype), members)
    np.testing.assert_array_equal(got.reshape(-1), numbers)
  members["byteorder"] = b"pdp11"
  make(
    tmp_path / "f", torch_pickle.from_views({"t": view(dtype=BF16)}), members
  )
  assert "expected little or big, got b'pdp11'" in error_of(tmp_path / "f")


def test_torch_reads_what_is_written_here(tmp_path):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  torch_file.write(tmp_path / "step_1", arrays())
  for options in ({}, {"mmap": True}):
    read = torch.load(tmp_path / "step_1", weights_only=True, **options)
    assert list(read) == list(arrays())
    for name, value in arrays().items():
      tensor = read[name]
      assert str(tensor.dtype) == f"torch.{np.asarray(value).dtype}"
      assert tuple(tensor.shape) == np.shape(value)
      assert tensor.is_contiguous()
      # Each of these dtypes is exact in float64.
      np.testing.assert_array_equal(
        tensor.double().numpy(), np.asarray(value, np.float64)
      )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_writes_is_read_here(tmp_path, protocol):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  whole = torch.arange(12.0).reshape(3, 4)
  module = torch.nn.Linear(2, 3)
  state = module.state_dict()
  state["transposed"] = whole.T.clone(memory_format=torch.preserve_format).T
  state["part"] = whole[1:, ::2]
  state["rounded"] = torch.ones(3, dtype=torch.bfloat16)
  path = tmp_path / "step_1"
  torch.save(state, path, pickle_protocol=protocol)
  read = torch_file.read(path)
  assert list(read) == list(state)
  for name, tensor in state.items():
    want = tensor.detach().float().numpy()
    np.testing.assert_array_equal(read[name].astype(np.float32), want)


# --------------------------------------------------- what asks for something


class Trap:
  """Something that a pickle would run."""

  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
  ("trap", "named"),
  [
    (Trap(os.system, "touch {path}"), "system"),
    (Trap(eval, "open('{path}', 'w')"), "eval"),
    (Trap(collections.Counter, ()), "collections.Counter"),
    (Trap(pickle.loads, b"x"), "loads"),
  ],
  ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_other_name_is_refused_by_name_and_not_run(
  tmp_path, trap, named, protocol
):
  mark = tmp_path / "mark"
  function, arguments = trap.call
  arguments = [
    a.format(path=mark) if isinstance(a, str) else a for a in arguments
  ]
  for value in (Trap(function, *arguments), {"t": Trap(function, *arguments)}):
    data = pickle.dumps(value, protocol)
    message = error_of(make(tmp_path / "f", data))
    assert "is refused and was not run" in message
    # Protocols 0 and 1 have instructions of their own for a dictionary.
    if protocol >= 2 or not isinstance(value, dict):
      assert named in message
  assert not mark.exists()


@pytest.mark.parametrize(
  ("value", "said"),
  [
    ([1], "the instruction EMPTY_LIST"),
    ({"a": 1}, "one whose key 'a' has a number"),
    ({"a": {"b": 1}}, "one whose key 'a' has a dictionary"),
    ({1: "a"}, "a dictionary with a number as a key"),
    ("a", "expected a dictionary of tensors, got a text in its place"),
    ({"a": 1.5}, "the instruction BINFLOAT"),
    ({"a": 2**2000}, "one whose key 'a' has a number"),
    ({"a": b"x"}, "_codecs.encode"),
  ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, value, said):
  path = make(tmp_path / "f", pickle.dumps(value, 2))
  assert said in error_of(path)


def test_other_storages_and_tensors_are_refused_by_name(tmp_path):
  whole = torch_pickle.from_views({"t": view()})
  for ours, theirs in (
    (b"FloatStorage", b"QUInt8Storage"),
    (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor"),
    (b"OrderedDict", b"defaultdict"),
  ):
    path = make(tmp_path / "f", whole.replace(ours, theirs))
    assert f".{theirs.decode()}'" in error_of(path)


def bombs():
  """Programs that would fill the memory, or take the interpreter down."""
  start = b"\x80\x02"
  deep = b")" + b"\x85" * 190_000
  yield "memo", start + b"Nr" + struct.pack("<L", 2**32 - 1) + b"."
  yield "dictionaries", start + b"}" * 900_000 + b"."
  yield "marks", start + b"(" * 900_000 + b"."
  yield "size", start + b"X" + struct.pack("<L", 2**32 - 1) + b"a."
  yield "size64", start + b"\x8d" + struct.pack("<Q", 2**62) + b"a."
  yield "integer", start + b"\x8b" + struct.pack("<L", 2**31 - 1) + b"1."
  yield "digits", start + b"I" + b"9" * 900_000 + b"\n."
  yield "deep", start + deep + b"."
  yield "deep key", start + b"}" + deep + b"Ns."
  yield "own item", start + b"}q\0X\1\0\0\0ah\0s."


@pytest.mark.parametrize("bomb", list(bombs()), ids=lambda bomb: bomb[0])
def test_no_pickle_fills_the_memory(tmp_path, bomb):
  path = make(tmp_path / "f", bomb[1])
  assert error_of(path, most=40_000_000)


def test_a_pickle_too_large_is_not_read(tmp_path):
  path = make(tmp_path / "f", b"\x80\x02" + b"N" * 2**22)
  assert "'x/data.pkl': expected at most 1,048,576 bytes" in error_of(path)


# ------------------------------------------------- what claims what is not so


@pytest.mark.parametrize(
  ("described", "said"),
  [
    (view((2, 4), (4, 1)), "reach past the 6 numbers"),
    (view((6,), (2,)), "reach past the 6 numbers"),
    (view(offset=1), "reach past the 6 numbers"),
    (view((2**40,), (0,)), "reach past the 6 numbers"),
    (view((2**30, 2**30), (0, 0)), "reach past the 6 numbers"),
    (view((7,), (0,)), "reach past the 6 numbers"),
    (view(size=7), "claims 28 bytes of numbers, but the file has 24"),
    (view(size=2**40), "claims 4,398,046,511,104 bytes"),
    (view(size=5), "claims 20 bytes"),
    (view(dtype=BF16), "claims 12 bytes"),
    (view(key="1"), "member 'x/data/1', which is missing"),
    (view(key="../data.pkl"), "which is missing"),
    (view((0, 2**40), (1, 1)), "expected a shape"),
    (view((2, 3), (3,)), "_rebuild_tensor_v2' of other arguments"),
    (view((2, -3), (3, 1)), "_rebuild_tensor_v2' of other arguments"),
    (view((2, 3), (-3, 1)), "_rebuild_tensor_v2' of other arguments"),
    (view(offset=-1), "_rebuild_tensor_v2' of other arguments"),
    (view((2**60,), (1,)), "_rebuild_tensor_v2' of other arguments"),
    (view((1,) * 40, (1,) * 40), "_rebuild_tensor_v2' of other arguments"),
    (view(size=-6), "an object from elsewhere that is no storage"),
  ],
)
def test_a_tensor_may_not_claim_what_the_file_has_not(
  tmp_path, described, said
):
  data = torch_pickle.from_views({"t": described})
  assert said in error_of(make(tmp_path / "f", data))


def test_two_tensors_may_not_share_their_numbers(tmp_path):
  # Else a small file could ask for much memory.
  data = torch_pickle.from_views({"t": view(), "u": view()})
  message = error_of(make(tmp_path / "f", data))
  assert "tensor 'u': expected numbers of its own, got those of 't'" in message


# ------------------------------------------------------------ damaged files


def whole(path):
  torch_file.write(path, arrays())
  return path.read_bytes()


def test_a_cut_file_is_refused_wherever_it_was_cut(tmp_path):
  path = tmp_path / "f"
  content = whole(path)
  for size in range(0, len(content), 97):
    path.write_bytes(content[:size])
    assert "cut off or damaged" in error_of(path)


def test_one_wrong_byte_of_the_numbers_is_seen(tmp_path):
  path = tmp_path / "f"
  content = bytearray(whole(path))
  at = content.index(np.float32(arrays()["model.a"]).tobytes())
  content[at] ^= 1
  path.write_bytes(content)
  assert "its checksums differ" in error_of(path)


def test_compressed_and_doubled_members_are_refused(tmp_path):
  data = torch_pickle.from_views({"t": view()})
  path = make(tmp_path / "f", data, compress=zipfile.ZIP_DEFLATED)
  assert "got one that is compressed or encrypted" in error_of(path)
  # A gigabyte of zeros in a megabyte.
  zeros = bytes(2**26)
  path = make(
    tmp_path / "f", data, {"data/0": zeros}, compress=zipfile.ZIP_DEFLATED
  )
  assert path.stat().st_size < 2**20
  assert "save it again with torch.save" in error_of(path)
  # One that only says so.
  content = make(path, data).read_bytes()
  method = content.rindex(b"PK\1\2") + 10
  path.write_bytes(content[:method] + b"\x08" + content[method + 1 :])
  assert "compressed or encrypted, 'x/data/0'" in error_of(path)
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("x/data.pkl", data)
    with pytest.warns(UserWarning, match="Duplicate"):
      archive.writestr("x/data.pkl", data)
  assert "member 'x/data.pkl' is there twice" in error_of(path)


def test_members_may_not_overlap(tmp_path):
  data = torch_pickle.from_views({"t": view()})
  path = make(tmp_path / "f", data)
  content = path.read_bytes()
  # The second entry of the directory points to the first member.
  second = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
  at = second + 42
  other = content[:at] + struct.pack("<L", 0) + content[at + 4 :]
  path.write_bytes(other)
  assert "cut off or damaged (its member 'x/data/0')" in error_of(path)
  # One that says that it is larger than it is.
  said = ("two of its members overlap", "its member 'x/data/0'")
  first = content.index(b"PK\1\2")
  for start, why in zip((first + 20, second + 20), said, strict=True):
    sizes = struct.unpack_from("<2L", content, start)
    larger = struct.pack("<2L", *(n + 4 for n in sizes))
    path.write_bytes(content[:start] + larger + content[start + 8 :])
    assert f"cut off or damaged ({why})" in error_of(path)


def test_a_directory_of_too_many_members_is_not_read(tmp_path):
  path = tmp_path / "f"
  with zipfile.ZipFile(path, "w") as archive:
    for i in range(20_001):
      archive.writestr(f"x/{i}", b"")
  message = error_of(path)
  assert message.startswith("expected a directory of at most 20,000 members")


def test_a_zip_file_of_something_else_is_refused(tmp_path):
  path = tmp_path / "f"
  for names in ((), ("a/b",), ("x/data.pkl", "y/data.pkl"), ("data.pkl",)):
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("readme", b"x")
      for name in names:
        archive.writestr(name, b"x")
    count = sum(name.endswith("/data.pkl") for name in names)
    assert f"got a zip file with {count} of them" in error_of(path)


@pytest.mark.parametrize(
  ("content", "said"),
  [
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "of torch before 1.6"),
    (pickle.dumps({"a": 1}, 4), "a bare pickle (or none of torch)"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    (b"\x93NUMPY", "it does not begin as a zip file"),
    (b"", "it does not begin as a zip file"),
  ],
)
def test_a_file_that_is_no_zip_file_is_told_apart(tmp_path, content, said):
  path = tmp_path / "f"
  path.write_bytes(content)
  message = error_of(path)
  assert said in message
  if content.startswith(b"\x80"):
    assert f"torch.load('{path}', map_location='cpu'" in message


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
  assert "cannot be read (No such file" in error_of(tmp_path / "f")
  assert error_of(tmp_path) == "expected a file of torch.save, got no file."
  os.mkfifo(tmp_path / "pipe")
  assert "got no file" in error_of(tmp_path / "pipe")


# ---------------------------------------------------------------- any bytes


def changed(content, rng):
  """The bytes, with a little damage of one of four kinds."""
  content = bytearray(content)
  at = rng.randrange(len(content))
  match rng.randrange(4):
    case 0:
      del content[at:]
    case 1:
      del content[at : at + rng.randrange(1, 50)]
    case 2:
      content[at:at] = rng.randbytes(rng.randrange(1, 50))
    case 3:
      for _ in range(rng.randrange(1, 4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
  return bytes(content)


def refusal(function, *arguments):
  """The line with which something is refused; None where it is not."""
  try:
    function(*arguments)
  except (InputError, PickleError) as error:
    return str(error)
  return None


def test_no_damage_leads_to_anything_but_a_line(tmp_path):
  path = tmp_path / "f"
  content = whole(path)
  rng = random.Random(0)
  tail = content.index(b"PK\1\2")
  refused = 0
  tracemalloc.start()
  try:
    for i in range(3000):
      # The directory is what there is to get wrong: every other time there.
      begin = tail if i % 2 else 0
      path.write_bytes(content[:begin] + changed(content[begin:], rng))
      line = refusal(torch_file.read, path)
      assert line is None or line.isprintable()
      refused += line is not None
    assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 8 * len(content)
  finally:
    tracemalloc.stop()
  # The rest hit bytes that nothing depends on, such as dates.
  assert refused > 2000


def test_no_program_leads_to_anything_but_a_line(tmp_path):
  # Past the checksums: the program itself is changed, or made up.
  whole = torch_pickle.from_views({"t": view(), "u": view(key="1")})
  members = {f"data/{i}": bytes(24) for i in range(2)}
  rng = random.Random(0)
  programs = itertools.chain(
    (changed(whole, rng) for _ in range(3000)),
    (rng.randbytes(rng.randrange(1, 60)) + b"." for _ in range(3000)),
  )
  outcomes = collections.Counter()
  for i, data in enumerate(programs):
    line = refusal(torch_pickle.state_dict, data)
    outcomes["described"] += line is None
    if line is None:
      path = make(tmp_path / f"{i}", data, members)
      line = refusal(torch_file.read, path)
      outcomes["read"] += line is None
    assert line is None or line.isprintable()
    outcomes["refused"] += line is not None
  assert outcomes["refused"] > 3000
  assert outcomes["described"] > outcomes["read"] > 0


def test_a_disk_error_is_a_line(tmp_path, monkeypatch):
  path = tmp_path / "f"
  whole(path)

  class Bad(io.FileIO):
    def read(self, *_):
      raise OSError(5, "Input/output error")

  monkeypatch.setattr(
    type(path), "open", lambda self, mode: Bad(self, mode.replace("b", ""))
  )
  assert error_of(path) == "cannot be read (Input/output error)."

"""Models to a Hub and back, over real HTTP on this machine."""

import json
import shutil
import types

import huggingface_hub
import pytest

from hrm_jax.checkpoint import hub as hub_room
from hrm_jax.checkpoint import torch_commands
from hrm_jax.checkpoint.load import load
from hrm_jax.console import InputError
from tests import fake_hub
from tests.commands import files_of

pytestmark = pytest.mark.slow

PUZZLE = "1....2.3..4.2..."
CHECKPOINT, SOLVE = "hrm_jax.checkpoint", "hrm_jax.solve"


@pytest.fixture
def hub():
  with fake_hub.serve() as found:
    yield found


@pytest.fixture
def run(hub, tmp_path):
  """Runs a command with the Hub; returns its JSON."""

  def call(*arguments, **environment):
    given = {"endpoint": hub.url, "home": tmp_path / "home", **environment}
    done = fake_hub.run(*arguments, **given)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

  return call


@pytest.fixture
def error(hub, tmp_path):
  """Runs a command that should exit with 2; returns its one line."""

  def call(*arguments, **environment):
    given = {"endpoint": hub.url, "home": tmp_path / "home", **environment}
    done = fake_hub.run(*arguments, **given)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")

  return call


def test_what_is_pushed_is_pulled_bit_for_bit(
  hub, run, error, exported, tmp_path
):
  pushed = run(CHECKPOINT, "push", "org/name", f"--model={exported}")
  assert hub.private == {"org/name": True}
  model = pushed["model"]
  assert model == f"hf://org/name@{hub.branches['org/name', 'main']}"
  out = tmp_path / "pulled"
  pulled = run(CHECKPOINT, "pull", "org/name", f"--out={out}")
  assert pulled["model"] == model
  assert files_of(out) == files_of(exported)
  assert not any(path.is_symlink() for path in out.iterdir())

  # Both ways to name it, and no request for a commit that is there.
  want = run(SOLVE, f"--model={exported}", "--json", PUZZLE)
  hub.requests.clear()
  assert run(SOLVE, f"--model={model}", "--json", PUZZLE) == want
  assert [r for r in hub.requests if "org/name" in r] == []
  latest = SOLVE, "--model=hf://org/name", "--json", PUZZLE
  assert run(*latest) == want

  # What was fetched serves without a network, too.
  assert run(*latest, HF_HUB_OFFLINE="1") == want
  assert run(*latest, endpoint="http://127.0.0.1:9") == want
  empty = {"home": tmp_path / "empty", "HF_HUB_OFFLINE": "1"}
  message = "hf://org/name: the Hub cannot be reached, and its cache has no wh"
  assert error(*latest, **empty).startswith(message)
  closed = {"home": tmp_path / "empty", "endpoint": "http://127.0.0.1:9"}
  assert error(*latest, **closed).startswith(message)


def test_a_revision_is_a_branch_of_its_own(hub, run, error, exported, tmp_path):
  flags = "push", "org/name", f"--model={exported}", "--revision=v2"
  run(CHECKPOINT, *flags, "--public")
  assert hub.private == {"org/name": False}
  main, v2 = (hub.branches["org/name", each] for each in ("main", "v2"))
  assert main != v2
  out = f"--out={tmp_path}/pulled"
  pulled = run(CHECKPOINT, "pull", "org/name", "--revision=v2", out)
  assert pulled["model"] == f"hf://org/name@{v2}"
  message = error(CHECKPOINT, "pull", "org/name@v3", out)
  assert message.startswith("hf://org/name@v3: no such revision (")
  message = error(CHECKPOINT, "pull", "org/other", f"--out={tmp_path}/b")
  assert message.startswith("hf://org/other: no such repository, or it is not")
  message = error(CHECKPOINT, "pull", "org/name", f"--out={tmp_path}/b")
  assert message == (
    "hf://org/name: expected a model, with config.json or checkpoint, got "
    ".gitattributes."
  )
  assert not (tmp_path / "b").exists()


def test_a_download_that_breaks_is_refused_or_gone_on_with(
  hub, run, error, exported, tmp_path
):
  hub.add("org/name", files_of(exported))
  size = (exported / "model.safetensors").stat().st_size
  out = tmp_path / "pulled"
  pull = CHECKPOINT, "pull", "org/name", f"--out={out}"
  # For longer than the client tries.
  hub.break_after = [size // 20] * 15
  assert error(*pull).startswith("hf://org/name: ")
  assert sorted(p.name for p in tmp_path.iterdir()) == ["home"]
  # Half of a model is no model, for who has no network either.
  message = error(SOLVE, "--model=hf://org/name", PUZZLE, HF_HUB_OFFLINE="1")
  assert message.startswith("hf://org/name: the Hub cannot be reached, and")
  again = "; try again with a network"
  assert message.endswith(
    f"{again}, or copy the folder here, and give that as the model."
  )
  # These take no folder instead.
  push = CHECKPOINT, "push", "org/name", f"--model={exported}"
  for command in (pull, push):
    message = error(*command, HF_HUB_OFFLINE="1")
    assert message.startswith("hf://org/name: the Hub ")
    assert message.endswith(f"{again}.")
  hub.break_after.clear()
  run(*pull)
  assert files_of(out) == files_of(exported)


def test_a_flipped_bit_is_told_and_nothing_is_kept(
  hub, error, exported, tmp_path
):
  hub.add("org/name", files_of(exported))
  hub.flip = True
  message = error(CHECKPOINT, "pull", "org/name", f"--out={tmp_path}/pulled")
  assert "model.safetensors: its digest differs from that in config.json" in (
    message
  )
  assert not (tmp_path / "pulled").exists()
  message = error(SOLVE, "--model=hf://org/name", PUZZLE)
  assert "models--org--name and try again." in message


def test_a_name_that_leads_out_is_refused_with_its_repository(
  hub, error, exported, tmp_path
):
  files = files_of(exported)
  hub.add("org/name", {**files, "../../x": b"evil"})
  message = error(CHECKPOINT, "pull", "org/name", f"--out={tmp_path}/a")
  assert message == (
    "hf://org/name: it has a file called '../../x', which would lead out of "
    "its folder; nothing of it is fetched."
  )
  assert not [r for r in hub.requests if "/resolve/" in r]
  # A link in a repository arrives as a text, its target; nobody follows it.
  secret = tmp_path / "secret"
  secret.write_bytes(files["config.json"])
  hub.add("org/link", {**files, "config.json": str(secret).encode()})
  message = error(CHECKPOINT, "pull", "org/link", f"--out={tmp_path}/a")
  assert "config.json: not valid JSON (" in message
  assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "secret"]


@pytest.mark.parametrize(
  "name", ["/etc/x", "a/../x", "..\\x", "c:\\x", "a//b", "a/..", ""]
)
def test_no_spelling_of_a_way_out_is_taken(monkeypatch, name):
  files = [
    types.SimpleNamespace(rfilename=each) for each in ("config.json", name)
  ]
  info = types.SimpleNamespace(siblings=files)
  api = types.SimpleNamespace(model_info=lambda *_, **__: info)
  monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
  with pytest.raises(InputError, match="would lead out of its folder"):
    hub_room._check_names("org/name", None)


def test_only_a_whole_folder_is_pushed(hub, error, exported, tmp_path):
  folder = shutil.copytree(exported, tmp_path / "model")
  (folder / "model.safetensors").write_bytes(b"")
  message = error(CHECKPOINT, "push", "org/name", f"--model={folder}")
  assert "model.safetensors: expected " in message
  (folder / "model.safetensors").unlink()
  (folder / "model.safetensors").symlink_to("/etc/passwd")
  message = error(CHECKPOINT, "push", "org/name", f"--model={folder}")
  assert message.endswith(
    "a link that leads out of its folder is not followed."
  )
  assert hub.private == {}
  message = error(
    CHECKPOINT, "push", "o/n@a", "--revision=b", f"--model={exported}"
  )
  assert message == (
    "--revision=b: expected one revision, got another one in o/n@a."
  )


def test_a_repository_of_the_reference_is_converted_as_it_is_read(
  tiny_run, hub, run, tmp_path
):
  torch_commands.export(tiny_run, None, tmp_path / "theirs")
  files = files_of(tmp_path / "theirs")
  files["checkpoint"] = files.pop("step_10")
  hub.add("sapientinc/HRM", {**files, "README.md": b""})
  result = run(
    "hrm_jax.evaluate",
    "--model=hf://sapientinc/HRM",
    f"--data={tiny_run}/data",
    XLA_FLAGS="--xla_force_host_platform_device_count=8",
  )
  assert result["sets"] == load(tiny_run).run["evaluation"]["sets"]

"""launch/Dockerfile, and the settings of launch/env_gpu.sh."""

import re
import shlex
import subprocess

from tests.launch_scripts import LAUNCH, environment, run, tool


def test_hadolint_finds_nothing_in_the_dockerfile():
  done = subprocess.run(
    [tool("hadolint"), str(LAUNCH / "Dockerfile")],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_both_targets_and_what_setup_cfg_packages():
  text = (LAUNCH / "Dockerfile").read_text()
  assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.M) == [
    "base",
    "gpu",
    "tpu",
  ]
  root = LAUNCH.parent
  for source in re.findall(r"^COPY (.+) \S+$", text, re.M):
    assert all((root / name).exists() for name in source.split())
  for extra in ("gpu", "tpu"):
    assert f"'.[{extra}]'" in text


def test_the_image_has_the_settings_of_env_gpu():
  _, out, _ = run("env_gpu.sh", "--dry-run")
  text = (LAUNCH / "Dockerfile").read_text()
  for line in out.splitlines():
    assert shlex.split(line)[1] in text


def test_settings_made_before_stay():
  done = subprocess.run(
    ["bash", "-euc", 'source launch/env_gpu.sh; echo "$NCCL_DEBUG" "$@"', "x"],
    cwd=LAUNCH.parent,
    env=environment(NCCL_DEBUG="INFO"),
    capture_output=True,
    text=True,
  )
  assert (done.returncode, done.stdout) == (0, "INFO\n")

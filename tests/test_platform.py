"""Devices that JAX was told to use and are not there."""

import jax
import pytest

from hrm_jax.console import InputError
from hrm_jax.machines import platform


@pytest.fixture
def without(monkeypatch):
  """Has JAX find none of some platforms, with these words."""

  def set_up(platforms, error):
    def devices():
      raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setattr(platform, "_asked_for", lambda: platforms)

  return set_up


def test_devices_that_are_there_are_fine():
  platform.check()


@pytest.mark.parametrize(
  ("platforms", "error", "expected"),
  [
    ("cuda", AssertionError(), r"here; pip install 'hrm_jax\[gpu\]', or unset"),
    (
      "tpu",
      RuntimeError("no libtpu.so"),
      r"libtpu.*'hrm_jax\[tpu\]', or",
    ),
    ("gpu,cpu", RuntimeError("a\nb"), r"a b\); pip install 'hrm_jax\[gpu\]'"),
    (
      "nonsense",
      RuntimeError("not known"),
      r"not known\); unset JAX_PL",
    ),
  ],
)
def test_those_that_are_not_get_one_line(without, platforms, error, expected):
  without(platforms, error)
  with pytest.raises(InputError, match=expected) as raised:
    platform.check()
  line = str(raised.value)
  assert line.startswith(
    f"JAX_PLATFORMS={platforms}: JAX finds no such devices"
  )
  assert "\n" not in line


def test_other_troubles_with_devices_keep_their_traceback(without):
  without("", RuntimeError("driver"))
  with pytest.raises(RuntimeError, match="driver"):
    platform.check()

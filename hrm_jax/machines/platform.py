"""Whether the devices are there that JAX was told to use."""

import jax

from hrm_jax.console import InputError, one_line

_PLATFORMS = "jax_platforms"
# From a platform of JAX to the extra that brings it.
_EXTRAS = {"cuda": "gpu", "gpu": "gpu", "tpu": "tpu"}


def check() -> None:
  """Lets JAX find its devices.

  JAX_PLATFORMS is often set for another machine, in a profile or an image.

  Raises:
    InputError: JAX_PLATFORMS names some that JAX does not find here.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    platforms = _asked_for()
    if not platforms:
      raise
    # Where a package is missing, JAX fails without a word.
    said = f" ({one_line(error)})" if str(error) else ""
    extras = [_EXTRAS[p] for p in platforms.split(",") if p in _EXTRAS]
    install = f"pip install 'hrm_jax[{extras[0]}]', or " if extras else ""
    raise InputError(
      f"JAX_PLATFORMS={platforms}: JAX finds no such devices here{said}; "
      f"{install}unset JAX_PLATFORMS."
    ) from None


def _asked_for() -> str:
  return getattr(jax.config, _PLATFORMS) or ""

"""Checkpoints of a state of two arrays, and what may happen to them."""

import json
import shutil

import jax
import jax.numpy as jnp

from hrm_jax.checkpoint import manifest, saved_steps
from hrm_jax.checkpoint.store import Checkpoints

# The number of a format that is not ours, and what must be said of it.
OTHER_FORMATS = [
  (None, "its format has no number, .* reads format 1; use it with the commit"),
  (2, "it has format 2, .* reads format 1; update hrm_jax"),
]


def toy_state(step):
  return {"a": jnp.arange(6.0) + step, "key": jax.random.key(step)}


def toy_run(step, accuracy):
  if accuracy is None:
    return {"evaluation": None}
  sets = {"all": {"exact_accuracy": accuracy}}
  return {"evaluation": {"step": step, "sets": sets}}


def save(workdir, *steps, accuracy=0.5, **policy):
  with Checkpoints(workdir, **policy) as checkpoints:
    for step in steps:
      checkpoints.save(step, toy_state(step), toy_run(step, accuracy))
  return checkpoints


def shapes():
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda shape: shape.update(sharding=device),
    jax.eval_shape(lambda: toy_state(0)),
  )


def resume(workdir, **options):
  with Checkpoints(workdir) as checkpoints:
    return checkpoints.resume(shapes(), **options)


def steps_of(workdir):
  return saved_steps.all_steps(saved_steps.directory_of(workdir))


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def truncate(path):
  path.write_bytes(path.read_bytes()[:-1])


def delete(path):
  path.unlink()


def set_format(path, number):
  """Makes a step one of another version; `path` is its directory."""
  record = path / "run" / "metadata"
  run = json.loads(record.read_text())
  assert run.pop("format") == 1
  run |= {} if number is None else {"format": number}
  record.write_text(json.dumps(run))
  manifest.write(path, int(path.name))


def replace_step(directory, old, new):
  """Does to step `old` what a run does that keeps one; returns `new`."""
  half = directory / f"{new}.orbax-checkpoint-tmp"
  shutil.copytree(directory / str(old), half)
  (half / "manifest.json").unlink()
  half.rename(directory / str(new))
  manifest.write(directory / str(new), new)
  saved_steps.remove(directory, str(old))
  return new


def make_step(workdir, step, accuracy=None, evaluated=None):
  """A step with an evaluation, of this step if nothing else is said."""
  path = workdir / "checkpoints" / str(step)
  (path / "run").mkdir(parents=True)
  evaluation = accuracy is not None and {
    "step": evaluated or step,
    "sets": {k: {"exact_accuracy": v} for k, v in accuracy.items()},
  }
  run = {"format": 1, "evaluation": evaluation or None}
  (path / "run" / "metadata").write_text(json.dumps(run))
  manifest.write(path, step)
  return path

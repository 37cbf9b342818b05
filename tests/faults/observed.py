"""hrm_jax.train, its updates written down, slowed down, held or poisoned.

It takes the same flags. The environment says what else:

  FAULTS_RECORD  a file that gets a JSON line for each update: its step, and
                 from each of this process's rows to a digest of what it held
  FAULTS_PAUSE   seconds to wait before each update
  FAULTS_POISON  WHERE@STEP: a NaN before that update in the "params", the
                 puzzle "table" or the states that "batch" rows begin with
  FAULTS_HOLD    WHERE@STEP: stops before that "update", or where that step's
                 "save" is about to write, says "held WHERE@STEP" and waits
                 for the file FAULTS_GO_ON; without one, forever
"""

import json
import os
import pathlib
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from hrm_jax import console
from hrm_jax.train import __main__ as train
from hrm_jax.train import setup

_jit_update = setup.Setup.jit_update
_save = ocp.AsyncCheckpointer.save


def jit_update(self, update):
  """In place of `Setup.jit_update`, of several updates at once."""
  train_steps = _jit_update(self, update)

  def observed(state, batches):
    first = int(state.step) + 1
    if path := os.environ.get("FAULTS_RECORD"):
      with pathlib.Path(path).open("a", encoding="utf-8") as file:
        for step, batch in enumerate(batches, first):
          print(json.dumps({"step": step, "rows": _rows(batch)}), file=file)
    time.sleep(float(os.environ.get("FAULTS_PAUSE", 0)))
    _hold("update", first)
    where, _, at = os.environ.get("FAULTS_POISON", "").partition("@")
    # Once: a run that rolled back gets another chance.
    if where and first == int(at) and not os.environ.get("FAULTS_POISONED"):
      os.environ["FAULTS_POISONED"] = "yes"
      state = _POISONS[where](state)
    return train_steps(state, batches)

  return observed


def save(self, directory, *args, **kwargs):
  """In place of `AsyncCheckpointer.save`."""
  _hold("save", directory.name)
  return _save(self, directory, *args, **kwargs)


def _hold(where: str, step: int | str) -> None:
  here = f"{where}@{step}"
  if here != os.environ.get("FAULTS_HOLD"):
    return
  console.log.info(f"held {here}")
  go_on = os.environ.get("FAULTS_GO_ON")
  while not (go_on and os.path.exists(go_on)):
    time.sleep(0.01)


def _rows(batch) -> dict[int, int]:
  """From the number of a row in the global batch to a digest of it."""
  digests = {}
  for shards in zip(
    *(array.addressable_shards for array in batch.values()), strict=True
  ):
    first = shards[0].index[0].start or 0
    fields = [np.asarray(shard.data) for shard in shards]
    for row in range(len(fields[0])):
      content = b"".join(field[row].tobytes() for field in fields)
      digests[first + row] = zlib.crc32(content)
  return digests


def _poison(array: jax.Array) -> jax.Array:
  """A NaN in each of its rows; it stays where it lies."""
  spoil = jax.jit(
    lambda a: a.at[..., 0].set(jnp.nan), out_shardings=array.sharding
  )
  return spoil(array)


def _in_params(state):
  leaves, tree = jax.tree.flatten(state.weights.params)
  params = jax.tree.unflatten(tree, [_poison(leaves[0]), *leaves[1:]])
  return state._replace(weights=state.weights._replace(params=params))


def _in_table(state):
  table = _poison(state.weights.puzzle_table)
  return state._replace(weights=state.weights._replace(puzzle_table=table))


def _in_batch(state):
  carry = state.carry._replace(z_H=_poison(state.carry.z_H))
  return state._replace(carry=carry)


_POISONS = {"params": _in_params, "table": _in_table, "batch": _in_batch}


if __name__ == "__main__":
  setup.Setup.jit_update = jit_update
  ocp.AsyncCheckpointer.save = save
  console.run(train.main)

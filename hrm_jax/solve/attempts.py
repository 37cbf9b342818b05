"""All attempts at puzzles with the weights of one network, on all devices.

Each view of a puzzle, and each start from other states, is one more row of the
queue (`continuous_batching`): rows whose attempt halts take the next one,
whosever it is.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hrm_jax.data.puzzle import Batch
from hrm_jax.machines import sharding
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, gather_puzzle_rows
from hrm_jax.solve import continuous_batching, inference
from hrm_jax.solve.ensemble import Noise
from hrm_jax.solve.views import Views


class Tried(NamedTuple):
  """A attempts at each of n puzzles, numbered by view, then by sample.

  Attributes:
    answers: [n, A, G] token ids, seen back from their view: uint8 where the
      vocabulary has no more, else int32.
    q_halt: [n, A] float32, what halting was worth after the last segment.
    q_continue: [n, A] float32, what thinking on was worth.
    halt_probability: [n, A] float32, sigmoid of q_halt.
    segments: [n, A] int32, how many each attempt took.
    trace: [n, A, T, G] likewise, the answer after each of at most T segments;
      None where it was not asked for.
  """

  answers: np.ndarray
  q_halt: np.ndarray
  q_continue: np.ndarray
  halt_probability: np.ndarray
  segments: np.ndarray
  trace: np.ndarray | None = None


class Attempts:
  """Makes the attempts; compiles once for each number of puzzles.

  Args:
    model: the network; it says how many segments an attempt gets at most.
    mesh: the devices, which have the weights.
    views: of the puzzles.
    noise: on the initial states.
    halt: "full" or "act", see `segments.run_segments`.
    batch_size: rows that think at a time, over all devices.
    with_trace: whether the answers after every segment are kept.
  """

  def __init__(
    self,
    model: HRM,
    mesh: Mesh,
    views: Views,
    noise: Noise,
    *,
    halt: str,
    batch_size: int,
    with_trace: bool = False,
  ):
    self._model, self._mesh, self._views = model, mesh, views
    self._noise, self._batch_size = noise, batch_size
    self._each = views.count * noise.samples
    self._answer = jax.jit(
      functools.partial(
        _answer,
        model=model,
        mesh=mesh,
        noise=noise,
        halt=halt,
        with_trace=with_trace,
      ),
      static_argnames="num_rows",
      out_shardings=sharding.by_row(mesh),
    )

  def puzzles_at_once(self, count: int) -> int:
    """How many of `count` puzzles go to the devices at once, with padding."""
    rows = self._batch_size * continuous_batching.PUZZLES_PER_ROW
    size = max(min(rows // self._each, count), 1)
    return -(-size // self._mesh.size) * self._mesh.size

  def compile(self, weights: Weights, seq_len: int, size: int) -> None:
    """Compiles for so many puzzles at once: their time is then that of work."""
    by_row, rows = sharding.by_row(self._mesh), size * self._each

    def array(*shape: int, dtype: Any = np.int32) -> jax.ShapeDtypeStruct:
      return jax.ShapeDtypeStruct((rows, *shape), dtype, sharding=by_row)

    queue = {
      "inputs": array(seq_len),
      "puzzle_identifiers": array(),
      "draw": array(3),
    }
    waiting = array(dtype=np.bool_)
    self._answer.lower(
      weights, queue, waiting, num_rows=self._num_rows(rows)
    ).compile()

  def ask(
    self, weights: Weights, batch: Batch, places: np.ndarray, size: int
  ) -> dict[str, jax.Array]:
    """Hands puzzles to the devices; returns at once.

    Args:
      weights: on the devices.
      batch: this process's b of the puzzles, padding last; labels are not read.
      places: [n] where they stand in their set: noise depends on it, and on
        nothing else that others could change. n - b of them are padding.
      size: puzzles over all processes, padding included.

    Returns:
      What `read` takes.
    """
    n, b = len(places), len(batch["inputs"])
    views, samples = self._views.count, self._noise.samples
    inputs = np.repeat(batch["inputs"][:, None], views, axis=1)
    identifiers = np.repeat(batch["puzzle_identifiers"][:, None], views, axis=1)
    for view in range(views):
      inputs[:n, view], identifiers[:n, view] = self._views.look(
        view, batch["inputs"][:n], batch["puzzle_identifiers"][:n]
      )
    draw = np.zeros((b, views, samples, 3), np.int32)
    draw[:n, ..., 0] = places[:, None, None]
    draw[..., 1] = np.arange(views)[:, None]
    draw[..., 2] = np.arange(samples)
    waiting = np.arange(b) < n
    queue = {
      "inputs": inputs.repeat(samples, axis=1).reshape(b * self._each, -1),
      "puzzle_identifiers": identifiers.repeat(samples, axis=1).ravel(),
      "draw": draw.reshape(b * self._each, 3),
    }
    rows = size * self._each
    arguments = sharding.put_rows(
      (queue, waiting.repeat(self._each)), self._mesh, rows
    )
    return self._answer(weights, *arguments, num_rows=self._num_rows(rows))

  def read(
    self, result: dict[str, jax.Array], batch: Batch, count: int
  ) -> Tried:
    """Waits for what `ask` returned for the batch, and undoes the views.

    Args:
      result: from `ask`.
      batch: what it was asked.
      count: n, how many of them are puzzles.
    """
    rows = {name: sharding.take_rows(value) for name, value in result.items()}
    tried = Tried(
      **{
        name: value.reshape(-1, self._each, *value.shape[1:])[:count]
        for name, value in rows.items()
      }
    )
    inputs = batch["inputs"][:count]
    identifiers = batch["puzzle_identifiers"][:count]

    seen = [tried.answers]  # [n, A, G] each
    if tried.trace is not None:
      seen += list(np.moveaxis(tried.trace, 2, 0))
    for answers in seen:
      for attempt in range(self._each):
        view = attempt // self._noise.samples
        answers[:, attempt] = self._views.undo(
          view, answers[:, attempt], inputs, identifiers
        )
    return tried

  def _num_rows(self, rows: int) -> int:
    """Rows of a queue of so many that each device thinks about at a time."""
    return max(min(self._batch_size, rows) // self._mesh.size, 1)


def _answer(
  weights: Weights,
  queue: dict[str, jax.Array],
  waiting: jax.Array,
  *,
  model: HRM,
  mesh: Mesh,
  noise: Noise,
  halt: str,
  with_trace: bool,
  num_rows: int,
) -> dict[str, jax.Array]:
  """Answers a queue, each device its share of it.

  Args:
    weights: trained ones.
    queue: N attempts, padding last on each device.
    waiting: [N] bool, which are no padding.
    model: the network.
    mesh: the devices.
    noise: on the initial states.
    halt: "full" or "act".
    with_trace: whether answers after every segment are kept.
    num_rows: attempts that a device thinks about at a time.

  Returns:
    The fields of `Tried`, with one leading axis [N].
  """

  # An evaluation keeps the answers of all attempts: in bytes, if they fit.
  token = jnp.uint8 if model.vocab_size <= 256 else jnp.int32

  def tokens(output):
    return jnp.argmax(output.logits, -1).astype(token)

  def work_through(weights, puzzles, waiting):
    return inference.solve_queue(
      model,
      weights,
      puzzles,
      waiting.sum(dtype=jnp.int32),
      num_rows=num_rows,
      keep=lambda output, segments, now: {
        "answers": tokens(output),
        "q_halt": output.q_halt_logits,
        "q_continue": output.q_continue_logits,
        "halt_probability": jax.nn.sigmoid(output.q_halt_logits),
      },
      observe=lambda output, now: tokens(output) if with_trace else (),
      halt=halt,
      start=functools.partial(_with_noise, noise) if noise.scale else None,
    )

  # The table may be large, and lie in parts: devices get the rows they need.
  rows = gather_puzzle_rows(model, weights, queue["puzzle_identifiers"])
  answers = sharding.on_each_device(work_through, mesh)(
    weights._replace(puzzle_table=None), {**queue, "puzzle_rows": rows}, waiting
  )
  trace = {"trace": answers.trace} if with_trace else {}
  return {**answers.kept, "segments": answers.segments, **trace}


def _with_noise(
  noise: Noise, z_H: jax.Array, z_L: jax.Array, puzzles: dict[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Adds to the initial states [B, S, D] what each attempt's numbers draw."""

  def drawn(numbers):  # [3]: place of the puzzle, view, sample
    key = jax.random.key(noise.seed)
    for number in numbers:
      key = jax.random.fold_in(key, number)
    scale = jnp.where(numbers[2] > 0, noise.scale, 0.0)
    return scale * jax.random.normal(key, (2, *z_H.shape[1:]))

  for_H, for_L = jnp.moveaxis(jax.vmap(drawn)(puzzles["draw"]), 1, 0)
  return z_H + for_H.astype(z_H.dtype), z_L + for_L.astype(z_L.dtype)

"""Saves and restores everything a run needs to go on.

  WORKDIR/checkpoints/<step>/state  all arrays: weights, optimiser, carry, key
  WORKDIR/checkpoints/<step>/run    JSON: configuration, data set, versions
  WORKDIR/checkpoints/<step>/manifest.json  a digest per file, written last

Orbax writes each step to a temporary directory and renames it; the manifest
follows. A step without one, or at odds with it, is never read. The `run` item
makes a checkpoint self-contained: evaluation and solving need nothing else.
`python -m hrm_jax.checkpoint --help` lists, verifies and prunes.
"""

import contextlib
import logging
import math
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import ml_collections
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from hrm_jax import console
from hrm_jax.checkpoint import __main__ as checkpoint_cli
from hrm_jax.checkpoint import manifest, saved_steps
from hrm_jax.console import InputError, log, one_line
from hrm_jax.data.puzzle import DatasetMetadata, metadata_from_json
from hrm_jax.machines import cluster, sharding
from hrm_jax.model import attention
from hrm_jax.model.build import make_model
from hrm_jax.model.hrm import HRM
from hrm_jax.model.weights import Weights, init_weights, num_table_rows
from hrm_jax.train.update import TrainState

_MIB = 2**20

# Of one failed save; it writes fewer files beside the arrays.
_MOST_ERRORS = 100

# Of what process 0 decides; other than a step.
_NOTHING = -1


class _UnreadableError(InputError):
  """A checkpoint that Orbax cannot read, though its digests are right."""


class Resumed(NamedTuple):
  """What a run goes on from: a step, its `run` item and its state."""

  step: int
  run: dict[str, Any]
  state: TrainState


class Checkpoints:
  """The checkpoints of one run; saving happens in the background.

  A save that fails is logged and the training goes on; `saved_step` tells.
  Old steps go only once a newer one has its manifest. With several processes
  the first one alone writes manifests and deletes.

  Args:
    workdir: of the run.
    max_to_keep: newest steps that are kept, besides the best one (see
      `saved_steps.score`); None keeps all.
    keep_period: multiples of it are kept too; 0: none are.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    max_to_keep: int | None = None,
    keep_period: int = 0,
  ):
    self.saved_step: int | None = None  # The newest that is known to be whole.
    self._directory = _directory(workdir).absolute()
    self._policy = {"max_to_keep": max_to_keep, "keep_period": keep_period}
    self._finishing: threading.Thread | None = None
    self._unreadable: set[int] = set()  # Steps whose digests are right.
    if cluster.is_first():
      try:
        self._directory.mkdir(parents=True, exist_ok=True)
      except OSError as error:
        raise InputError(
          f"{self._directory}: cannot be made ({error.strerror})."
        ) from None
    for name in ("absl", "asyncio"):
      logging.getLogger(name).addFilter(_not_of_a_failed_save)
    self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.wait()
    self._writer.close()
    if cluster.is_first():
      self._remove_leftovers()

  def wait(self) -> None:
    """Waits for the save that is under way, its manifest included."""
    if self._finishing is not None:
      self._finishing.join()
      self._finishing = None

  def save(self, step: int, state: TrainState, run: dict[str, Any]) -> None:
    """Saves a step, unless it is there; returns before it is on disk.

    Of a step that is there, an evaluation made since is added.

    Args:
      step: updates done.
      state: all of it; may be donated afterwards.
      run: the `run` item.
    """
    self.wait()
    if not _decided_by_first(lambda: self._may_save(step, state, run)):
      return
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(dict(run))
    )
    try:
      self._writer.save(self._directory / str(step), args=items)
    except Exception as error:  # Of many kinds; the training is worth more.
      self._failed(step, error)
      return
    self._finishing = threading.Thread(target=self._finish, args=(step,))
    self._finishing.start()

  def resume(
    self,
    shapes: TrainState,
    *,
    fits: Callable[[dict[str, Any]], None] = lambda run: None,
    strict: bool = False,
  ) -> Resumed | None:
    """Restores the newest step that is whole, telling which ones are not.

    Args:
      shapes: the state's shapes, dtypes and shardings (`ShapeDtypeStruct`s).
      fits: raises an InputError if a `run` item is another experiment's.
      strict: refuse instead of passing over a bad step.

    Returns:
      None if there is no step to go on from.

    Raises:
      InputError: from `fits`; the newest step is bad (with `strict`), or every
        step that was ever finished.
    """
    while True:
      step = _decided_by_first(
        lambda: saved_steps.step_to_resume(
          self._directory, strict=strict, passed_over=self._unreadable
        )
      )
      if step is None:
        return None
      path = self._directory / str(step)
      try:
        with _explained(path):
          run = saved_steps.read_run(self._directory, step)
        fits(run)
        with _explained(path):
          state = self.restore(step, shapes)
      except _UnreadableError as error:
        # Other processes may have read it: then all must stop.
        if strict or jax.process_count() > 1:
          raise
        log.warning(f"warning: {error} passing over step {step}")
        self._unreadable.add(step)
        continue
      self.saved_step = step
      return Resumed(step, run, state)

  def restore(self, step: int, shapes: TrainState) -> TrainState:
    """Reads a step without looking at its digests; `shapes` as in `resume`."""
    items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
    return self._writer.restore(self._directory / str(step), args=items)[
      "state"
    ]

  def _may_save(
    self, step: int, state: TrainState, run: dict[str, Any]
  ) -> bool:
    if step == self.saved_step:
      self._add_evaluation(step, run)
      return False
    try:
      return self._prepare(step, state)
    except OSError as error:
      self._failed(step, error)
      return False

  def _prepare(self, step: int, state: TrainState) -> bool:
    """Whether to save a step now; clears the way for it."""
    self._remove_leftovers()
    path = self._directory / str(step)
    if path.exists() or path.is_symlink():
      bad = saved_steps.problems(self._directory, step)
      if step in self._unreadable:
        bad.append(f"{path}: it could not be read")
        self._unreadable.remove(step)
      if not bad:
        self.saved_step = step
        return False
      log.warning(f"warning: {bad[0]}; step {step} is saved anew")
      saved_steps.remove(self._directory, path.name)
    # A tenth more: metadata, and files that outlive their merging.
    needed = int(1.1 * _num_bytes(state)) + _MIB
    free = shutil.disk_usage(self._directory).free
    if free < needed:
      log.warning(
        f"warning: {self._directory}: step {step} is not saved: it needs "
        f"{needed / _MIB:,.1f} MiB, and {free / _MIB:,.1f} MiB are free"
      )
    return free >= needed

  def _add_evaluation(self, step: int, run: dict[str, Any]) -> None:
    try:
      there = saved_steps.read_run(self._directory, step)["evaluation"]
      if run["evaluation"] != there:
        saved_steps.add_evaluation(self._directory, step, run["evaluation"])
    except (OSError, InputError) as error:
      log.warning(
        f"warning: step {step}: evaluation not saved: {one_line(error)}"
      )

  def _finish(self, step: int) -> None:
    """Waits for Orbax, writes the manifest, deletes what is not kept."""
    try:
      with cluster.undisturbed():
        self._writer.wait_until_finished()
        if cluster.is_first():
          manifest.write(self._directory / str(step), step)
    except Exception as error:
      self._failed(step, error)
      return
    self.saved_step = step
    try:
      if cluster.is_first():
        self._delete_old(step)
    except Exception as error:
      log.warning(
        f"warning: old checkpoints are not deleted: {one_line(error)}"
      )

  def _delete_old(self, newest: int) -> None:
    # What is newer was passed over, and keeps no good step from its place.
    scores = {
      step: score
      for step, score in saved_steps.scores(self._directory).items()
      if step <= newest
    }
    for step in (
      *saved_steps.expendable(scores, **self._policy),
      *saved_steps.unfinished(self._directory, before=newest),
    ):
      saved_steps.remove(self._directory, str(step))

  def _remove_leftovers(self) -> None:
    try:
      for name in saved_steps.remove_leftovers(self._directory):
        log.info(f"{self._directory / name}: deleted, it was half-written")
    except OSError as error:
      log.warning(f"warning: {self._directory}: {one_line(error)}")

  def _failed(self, step: int, error: Exception) -> None:
    log.error(
      f"error: {self._directory / str(step)}: not saved: {one_line(error)}; "
      "training goes on"
    )
    self._forget_errors()
    if cluster.is_first():
      saved_steps.discard(self._directory, step)

  def _forget_errors(self) -> None:
    """Lets a failed save spoil no later one.

    Orbax writes several files at once. It keeps the error of each, and raises
    one whenever it is asked to wait: at the next save, or when it is closed.
    """
    for _ in range(_MOST_ERRORS):
      with contextlib.suppress(Exception):
        self._writer.wait_until_finished()
        return


class Trained(NamedTuple):
  """A checkpoint, ready to evaluate or solve with.

  Attributes:
    step: updates done.
    run: its `run` item.
    config: of the run.
    metadata: of the data it was trained on.
    mesh: the devices that have the weights.
    model: the network.
    weights: on all of them; the puzzle table may be split.
  """

  step: int
  run: dict[str, Any]
  config: ml_collections.ConfigDict
  metadata: DatasetMetadata
  mesh: Mesh
  model: HRM
  weights: Weights


def load(
  workdir: pathlib.Path,
  step: int | str | None = None,
  *,
  on_all_devices: bool = False,
) -> Trained:
  """Reads what inference needs of a checkpoint; no optimiser is built.

  Args:
    workdir: of the run.
    step: which checkpoint, or "best"; None takes the newest that is whole.
    on_all_devices: of all processes, with the table split as in the run if
      these devices can be; else this process's first one has all.

  Raises:
    InputError: there is no such checkpoint, or it is damaged.
  """
  number = _decided_by_first(lambda: saved_steps.find_step(workdir, step))
  run = read_run(workdir, number)
  source = str(_directory(workdir) / str(number))
  config = ml_collections.ConfigDict(run["config"])
  metadata = metadata_from_json(run["dataset"], source)
  model = make_model(config.model, metadata)
  shapes = jax.eval_shape(
    lambda key: init_weights(
      model, key, num_table_rows(metadata.num_puzzle_identifiers)
    ),
    jax.random.key(0),
  )
  devices = jax.devices() if on_all_devices else jax.local_devices()[:1]
  table = config.mesh.table
  mesh = sharding.make_mesh(
    table=table if len(devices) % table == 0 else 1, devices=devices
  )
  item = jax.tree.map(
    lambda s, at: s.update(sharding=at),
    shapes,
    sharding.of_weights(mesh, shapes),
  )
  with _explained(source), ocp.PyTreeCheckpointer() as reader:
    restored = reader.restore(
      (_directory(workdir) / str(number) / "state").absolute(),
      args=ocp.args.PyTreeRestore(
        item={"weights": item._asdict()},
        restore_args={
          "weights": ocp.checkpoint_utils.construct_restore_args(item._asdict())
        },
        partial_restore=True,
      ),
    )
  weights = Weights(**restored["weights"])
  # As in the run, if it runs here: the other one may need far more memory.
  model = attention.choose(
    "auto",
    model,
    -(-config.global_batch_size // mesh.size),
    earlier=run.get("attention", "xla"),
  )
  return Trained(number, run, config, metadata, mesh, model, weights)


def read_run(workdir: pathlib.Path, step: int) -> dict[str, Any]:
  """The `run` item of a checkpoint."""
  return saved_steps.read_run(_directory(workdir), step)


def attention_of(workdir: pathlib.Path) -> str | None:
  """The implementation of attention that a run has used, if it has begun."""
  steps = saved_steps.complete_steps(_directory(workdir))
  if not steps:
    return None
  # What is damaged is dealt with at the resume.
  with contextlib.suppress(InputError):
    return read_run(workdir, steps[-1]).get("attention")
  return None


def data_directory(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> pathlib.Path:
  """Where a run's data set lies: `config.data.path`, or WORKDIR/data."""
  return pathlib.Path(config.data.path or pathlib.Path(workdir) / "data")


def _directory(workdir: pathlib.Path) -> pathlib.Path:
  return saved_steps.directory_of(workdir)


@contextlib.contextmanager
def _explained(path: str | pathlib.Path) -> Iterator[None]:
  """Turns what Orbax raises into one line that names the checkpoint."""
  try:
    yield
  except Exception as error:  # Of many kinds: Orbax, TensorStore, JAX.
    raise _UnreadableError(
      f"{path}: its digests are right, yet it cannot be read: "
      f"{one_line(error)}."
    ) from error


def _decided_by_first(decide: Callable[[], int | None]) -> int | None:
  """What process 0 decides, in all processes: they must do the same.

  Digests are also computed once only. A number from 0, a bool or None.
  """
  number = _NOTHING
  if cluster.is_first():
    decided = decide()
    number = _NOTHING if decided is None else decided
  number = cluster.from_first(number)
  return None if number == _NOTHING else number


def _num_bytes(state: TrainState) -> int:
  return sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state)
  )


def _not_of_a_failed_save(record: logging.LogRecord) -> bool:
  # `Checkpoints` says the same in one line, without the tracebacks.
  source = record.pathname + record.getMessage()
  return not (record.exc_info and "orbax" in source)


if __name__ == "__main__":
  console.run(checkpoint_cli.main)

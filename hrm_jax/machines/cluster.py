"""The processes of a run: how they find each other, and wait.

One process per host or per accelerator, all running the same command. JAX
detects Slurm, Open MPI, Kubernetes, GKE and Cloud TPU; elsewhere the three
numbers of `join` say who is who. With a single process every function here
returns at once.
"""

import argparse
import atexit
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from hrm_jax import console
from hrm_jax.console import InputError, log, signals
from hrm_jax.machines import platform, roll_call
from hrm_jax.machines.roll_call import RollCall

# What JAX says when it was told nothing and found no cluster, and when it was
# in use before: in a notebook, say, which is a process by itself.
_ALONE = "coordinator_address should be defined", "must be called before"

# What launchers tell the processes that they start. JAX detects most of them,
# but not Open MPI 5, say.
_NUMBERS_OF_PROCESSES = (
  "OMPI_COMM_WORLD_SIZE",
  "PMI_SIZE",
  "SLURM_STEP_NUM_TASKS",
)

# In seconds: a host that swaps or compiles may be silent for so long.
HEARTBEAT_TIMEOUT = 100

# What JAX raises when communication fails, on CPU and GPU, and words that stand
# in it. Where a program fails as it is handed over, it is a ValueError.
_OF_JAX = jax.errors.JaxRuntimeError, ValueError
_DISCONNECTED = "Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED"

_roll_call: RollCall | None = None


def join(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  *,
  heartbeat_timeout: int = HEARTBEAT_TIMEOUT,
) -> None:
  """Joins the other processes of the run, if there are any.

  Call it before anything else touches JAX.

  Args:
    coordinator: HOST:PORT of process 0, where there is no cluster manager.
    num_processes: of the run; goes with `coordinator`.
    process_id: of this process, from 0; goes with `coordinator`.
    heartbeat_timeout: seconds after which a silent process counts as lost,
      and the others end; see `roll_call`.

  Raises:
    InputError: some of the three were given, but not all, or one makes no
      sense; a launcher that JAX does not know has started several processes; or
      the devices that JAX was told to use are not there.
  """
  if heartbeat_timeout < 1:
    raise InputError(
      f"--heartbeat-timeout: expected at least 1, got {heartbeat_timeout}."
    )
  given = (coordinator, num_processes, process_id)
  if any(value is not None for value in given):
    _check(*given)
  # It would swallow SIGTERM; `preemption` does what it is for.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    with _obeying_signals():
      jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        # Whoever says who is who does not want a manager's word on devices.
        cluster_detection_method="deactivate" if coordinator else None,
        heartbeat_timeout_seconds=2 * heartbeat_timeout + 10,
      )
  except (ValueError, RuntimeError) as error:
    if coordinator or not any(text in str(error) for text in _ALONE):
      raise
    _check_alone()
    platform.check()
  else:
    platform.check()
    _start_roll_call(heartbeat_timeout)
    # On CPUs processes have 30 seconds to connect, the first time they wait for
    # each other; afterwards they may take longer.
    wait_for_all("all have joined")


@contextlib.contextmanager
def _obeying_signals() -> Iterator[None]:
  """Signals end the process, also while it waits outside Python."""
  if threading.current_thread() is not threading.main_thread():
    yield  # Python handles no signals here.
    return
  numbers = signals.that_end()
  before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
  try:
    yield
  finally:
    for number, handler in zip(numbers, before, strict=True):
      signal.signal(number, handler)


def _check_alone() -> None:
  """Where JAX finds no cluster, each process would be a run by itself.

  Raises:
    InputError: a launcher has started several.
  """
  for name in _NUMBERS_OF_PROCESSES:
    value = os.environ.get(name, "")
    if value.isdecimal() and int(value) > 1:
      raise InputError(
        f"{name}={value}, but JAX detects no cluster here; give --coordinator, "
        "--num-processes and --process-id."
      )


def _start_roll_call(seconds: int) -> None:
  global _roll_call
  if jax.process_count() == 1:
    return
  try:
    # Not public; but Orbax, too, goes by it.
    from jax._src import distributed

    store = cast("Any", distributed.global_state.client)
  except (ImportError, AttributeError):
    store = None
  if not all(hasattr(store, n) for n in ("key_value_set", "key_value_dir_get")):
    # JAX ends lost runs as well, only less clearly.
    log.warning("warning: a process that is lost will not be named here")
    return
  _roll_call = RollCall(
    cast("Any", store), jax.process_index(), jax.process_count(), seconds
  )
  _roll_call.start()
  # Before what JAX does at the end, because registered after it.
  atexit.register(_roll_call.end)


@contextlib.contextmanager
def shared_fate() -> Iterator[None]:
  """Ends all processes with this one's exit code if an error passes here.

  It cannot end alone: JAX has it wait for the others, and they for it.
  Communication with a dead process fails at once, with an error that names an
  address. A little later it is known which process it was.
  """
  try:
    yield
    # Who is done early must not be taken for dead.
    wait_for_all("the end")
  except BaseException as error:
    if _roll_call is not None:
      if isinstance(error, _OF_JAX) and any(
        word in str(error) for word in _DISCONNECTED
      ):
        text = console.one_line(error)
        log.error(f"error: {text}; looking for the process that is lost")
        try:
          _roll_call.wait_for_the_verdict()
        except (SystemExit, KeyboardInterrupt) as signalled:
          # Whoever ends us knows. JAX would wait for the lost one, and abort.
          roll_call.exit_at_once(console.exit_code(signalled))
      _roll_call.leave(console.exit_code(error))
    raise


def undisturbed() -> contextlib.AbstractContextManager[Any]:
  """Within it this process does not follow another one that has failed."""
  if _roll_call is None:
    return contextlib.nullcontext()
  return _roll_call.undisturbed


def _check(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  named = {
    "--coordinator": coordinator,
    "--num-processes": num_processes,
    "--process-id": process_id,
  }
  missing = [name for name, value in named.items() if value is None]
  if missing:
    raise InputError(
      f"{', '.join(missing)}: expected beside the other one of --coordinator, "
      "--num-processes and --process-id, got nothing."
    )
  assert coordinator is not None
  assert num_processes is not None
  assert process_id is not None
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise InputError(
      f"--coordinator: expected HOST:PORT, a port from 1 to 65535, got "
      f"'{coordinator}'."
    )
  if num_processes < 1:
    raise InputError(
      f"--num-processes: expected at least 1, got {num_processes}."
    )
  if not 0 <= process_id < num_processes:
    raise InputError(
      f"--process-id: expected 0 to {num_processes - 1} (--num-processes="
      f"{num_processes}), got {process_id}."
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `join` to a parser."""
  add = parser.add_argument_group(
    "several processes without a cluster manager"
  ).add_argument
  add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  add(
    "--num-processes",
    type=int,
    metavar="N",
    help="how many processes the run has",
  )
  add(
    "--process-id",
    type=int,
    metavar="I",
    help="the number of this process, from 0",
  )
  add(
    "--heartbeat-timeout",
    type=int,
    default=HEARTBEAT_TIMEOUT,
    metavar="SECONDS",
    help="seconds of silence after which a process counts as lost, and the "
    f"others end (default: {HEARTBEAT_TIMEOUT})",
  )


def is_first() -> bool:
  """Whether this is process 0, the one that logs and writes."""
  return jax.process_index() == 0


def wait_for_all(what: str) -> None:
  """Returns when all processes have come here, with the same `what`."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


def from_first(number: int) -> int:
  """The number of process 0, below 2**31, in all processes."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def sum_over_processes(counts: Any) -> Any:
  """Adds up a pytree of host counts, each below 2**31, over the processes."""
  if jax.process_count() == 1:
    return counts
  gathered = multihost_utils.process_allgather(
    jax.tree.map(np.int32, counts), tiled=False
  )
  return jax.tree.map(lambda of_each: of_each.sum(0), gathered)


# What process 0 sends for None. No step has this number.
_NOTHING = -1


def decided_by_first(decide: Callable[[], int | None]) -> int | None:
  """What process 0 decides, in all processes: they must do the same.

  Some decisions are also too expensive to make everywhere, such as digests of
  whole checkpoints.

  Args:
    decide: returns a number from 0 on, a bool or None; called in process 0.
  """
  number = _NOTHING
  if is_first():
    decided = decide()
    number = _NOTHING if decided is None else decided
  number = from_first(number)
  return None if number == _NOTHING else number


def text_from_first(text: str) -> str:
  """The text of process 0, in all processes; short ones, such as a commit."""
  if jax.process_count() == 1:
    return text
  data = text.encode()
  count = from_first(len(data))
  # What the other processes have is not looked at, but must be as long.
  mine = np.frombuffer(data.ljust(count, b"\0")[:count], np.uint8)
  return bytes(multihost_utils.broadcast_one_to_all(mine)).decode()

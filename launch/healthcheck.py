"""Checks that a machine, or every machine of a cluster, can train.

example: python launch/healthcheck.py --expect-devices=8 \\
             --data=data/sudoku-extreme-1k-aug-1000 --workdir=runs/sudoku-1k

Needs nothing but jax and numpy. Run it as you would run hrm_jax.train: with
--coordinator, --num-processes and --process-id, or in a cluster that JAX
detects (Slurm, Open MPI, Cloud TPU, GKE, Kubernetes).

Exit code 0: healthy; 1: not, and the last line of stderr says why; 2: wrong
arguments. The last line of stdout is one JSON object in each of the first two
cases.

JAX ends the whole process, from C++, when a peer is missing, and a collective
waits for a lost peer without end. So the checks that need JAX run in a child:
it says what it is about to do, and if it dies or does not finish in time, the
parent tells the reason.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# Checks in order, for --dry-run; those after "roll call" run in the child.
CHECKS = {
  "data": "--data is readable and holds a data set",
  "disk": "--workdir can be written to and has space",
  "roll call": "every process reaches --coordinator",
  "jax": "jax can be imported",
  "connect": "jax.distributed connects the processes",
  "devices": "as many devices and processes as expected",
  "psum": "a sum over all devices has the right value",
  "matmul": "rate of a large matrix product on each device",
  "attention": "jax.nn.dot_product_attention agrees with plain softmax",
}


# Files of a set: those of hrm_jax/data/puzzle.py, which may be absent here.
FIELDS = (
  "inputs",
  "labels",
  "puzzle_identifiers",
  "puzzle_indices",
  "group_indices",
)

# For how long process 0 still listens once a failure is known, so that those
# who come late hear the reason too, and do not wait for nobody.
LISTEN_ON_S = 15


class Unhealthy(Exception):
  """A check failed; the message is the one reason."""


class Parser(argparse.ArgumentParser):
  """One whose errors are one line, like all reasons."""

  def error(self, message: str) -> NoReturn:
    self.exit(2, f"error: {message.rstrip('.')}; see --help.\n")


def _path(text: str) -> pathlib.Path:
  """A path of the command line; no shell expands the ~ of --data=~/x."""
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise argparse.ArgumentTypeError(f"'{text}': {error}") from None


def parse_args() -> argparse.Namespace:
  description, _, rest = __doc__.partition("\n\n")
  parser = Parser(
    prog="python launch/healthcheck.py",
    description=description,
    epilog=rest,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--expect-devices", type=int, metavar="N", help="devices of all processes"
  )
  add("--expect-processes", type=int, metavar="N")
  add(
    "--expect-platform",
    metavar="NAME",
    help="gpu, tpu or cpu: without a working driver JAX falls back to the CPU",
  )
  add("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
  add("--num-processes", type=int, metavar="N")
  add("--process-id", type=int, metavar="I", help="0 to N - 1")
  add("--data", type=_path, metavar="DIR", help="directory of the data set")
  add(
    "--workdir",
    type=_path,
    metavar="DIR",
    default=pathlib.Path(),
    help="directory of the run, may not exist yet (default: the current one)",
  )
  add("--min-free-gb", type=float, metavar="GB", default=5.0, help="default: 5")
  add(
    "--timeout",
    type=float,
    metavar="S",
    default=300.0,
    help="seconds that all of it may take (default: 300)",
  )
  add("--json", action="store_true", help="print nothing but the JSON object")
  add("--dry-run", action="store_true", help="list the checks, run none")
  add("--child-reports-to", type=int, help=argparse.SUPPRESS)
  args = parser.parse_args()

  flags = (args.coordinator, args.num_processes, args.process_id)
  if any(flag is not None for flag in flags) and None in flags:
    parser.error("--coordinator, --num-processes and --process-id go together.")
  if args.coordinator is not None:
    port = args.coordinator.rpartition(":")[2]
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
      parser.error(
        f"--coordinator: expected HOST:PORT, the port from 1 to 65535, got "
        f"'{args.coordinator}'."
      )
    if not 0 <= args.process_id < args.num_processes:
      parser.error(
        f"--process-id: expected 0 to {args.num_processes - 1}, got "
        f"{args.process_id}."
      )
  return args


# --- what needs no JAX


def _sets_of(metadata: pathlib.Path) -> list[str]:
  """Names of the sets that a dataset.json speaks of."""
  try:
    value = json.loads(metadata.read_bytes())
  except FileNotFoundError:
    split = metadata.parent
    raise Unhealthy(
      f"data: {split.parent} holds no {split.name}/{metadata.name}"
    ) from None
  except OSError as error:
    raise Unhealthy(
      f"data: {metadata} cannot be read: {error.strerror}"
    ) from None
  except (ValueError, RecursionError) as error:
    raise Unhealthy(f"data: {metadata} is not JSON: {error}") from None
  sets = value.get("sets") if isinstance(value, dict) else None
  good = isinstance(sets, list) and all(
    isinstance(name, str) and name.isprintable() and "/" not in name
    for name in sets
  )
  if not good or not sets:
    raise Unhealthy(
      f"data: {metadata}: expected a list of names as 'sets', got {sets!r:.40}"
    )
  return sets


def check_data(directory: pathlib.Path) -> dict[str, Any]:
  """Files of both splits; reads a byte of each."""
  if not directory.is_dir():
    raise Unhealthy(f"data: {directory} is not a directory that I can see")
  files = []
  for split in ("train", "test"):
    metadata = directory / split / "dataset.json"
    files.append(metadata)
    for name in _sets_of(metadata):
      files += [metadata.with_name(f"{name}__{field}.npy") for field in FIELDS]
  total = 0
  for file in files:
    try:
      with file.open("rb") as opened:
        begin = opened.read(1)
        total += os.fstat(opened.fileno()).st_size
    except FileNotFoundError:
      raise Unhealthy(
        f"data: {file} is missing, but the dataset.json beside it names its set"
      ) from None
    except OSError as error:
      raise Unhealthy(
        f"data: {file} cannot be read: {error.strerror}"
      ) from None
    if not begin:
      raise Unhealthy(f"data: {file} is empty")
  return {"files": len(files), "bytes": total}


def check_disk(workdir: pathlib.Path, min_free_gb: float) -> dict[str, Any]:
  """Free space where the workdir is, or will be made."""
  place = workdir.absolute()
  while not place.exists():
    place = place.parent
  try:
    with tempfile.NamedTemporaryFile(dir=place, prefix=".healthcheck") as file:
      file.write(b"x" * 4096)
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    raise Unhealthy(
      f"disk: {place} cannot be written to: {error.strerror}"
    ) from None
  free = shutil.disk_usage(place).free / 1e9
  if free < min_free_gb:
    raise Unhealthy(
      f"disk: {place} has {free:.1f} GB free, expected {min_free_gb:g}"
    )
  return {"free_gb": round(free, 1)}


def _roll_message(
  args: argparse.Namespace, failure: str | None, deadline: float
) -> dict:
  return {
    "process": args.process_id,
    "processes": args.num_processes,
    "failure": failure,
    "seconds_left": deadline - time.monotonic(),
  }


def _send_line(connection: socket.socket, message: dict) -> None:
  connection.sendall(json.dumps(message).encode() + b"\n")


def _receive_line(connection: socket.socket) -> dict:
  """One JSON object; ValueError if that is not what came."""
  with connection.makefile("rb") as lines:
    message = json.loads(lines.readline(4096))
  if not isinstance(message, dict):
    raise ValueError("not an object")
  return message


def answer_roll_call(
  args: argparse.Namespace, failure: str | None, deadline: float
) -> None:
  """Reports to process 0, and waits for its verdict on all.

  Raises:
    Unhealthy: process 0 cannot be reached, or what is wrong where.
  """
  host, _, port = args.coordinator.rpartition(":")
  me = f"process {args.process_id} of {args.num_processes}"
  connection, problem = None, "no time left"
  while connection is None and time.monotonic() < deadline:
    try:
      connection = socket.create_connection((host.strip("[]"), int(port)), 5)
    except OSError as error:
      problem = error.strerror or str(error)
      time.sleep(0.2)
  if connection is None:
    raise Unhealthy(
      f"peers: {me} cannot reach process 0 at {args.coordinator} within "
      f"{args.timeout:g} s: {problem}"
    )
  with connection:
    connection.settimeout(max(deadline - time.monotonic(), 0.01))
    try:
      _send_line(connection, _roll_message(args, failure, deadline))
      verdict = _receive_line(connection)["failure"]
    except TimeoutError:
      raise Unhealthy(
        f"peers: {me} reached {args.coordinator}, but had no verdict of "
        f"process 0 within {args.timeout:g} s"
      ) from None
    except (OSError, ValueError, KeyError):
      raise Unhealthy(
        f"peers: {me} reached {args.coordinator}, but no healthcheck of "
        f"process 0 answered there"
      ) from None
  if verdict:
    raise Unhealthy(verdict)


def call_roll(
  args: argparse.Namespace, failure: str | None, deadline: float
) -> None:
  """As process 0: waits for all others, and tells each what came of it.

  The port is the one that JAX's coordinator binds next.

  Raises:
    Unhealthy: who is missing, or what is wrong where.
  """
  port = int(args.coordinator.rpartition(":")[2])
  both = socket.has_dualstack_ipv6()
  try:
    server = socket.create_server(
      ("", port),
      family=socket.AF_INET6 if both else socket.AF_INET,
      dualstack_ipv6=both,
    )
  except OSError as error:
    raise Unhealthy(
      f"peers: process 0 cannot listen on port {port}: {error.strerror}"
    ) from None
  missing = set(range(1, args.num_processes))
  with server, contextlib.ExitStack() as connections:
    callers = []
    end = deadline
    if failure:
      end = min(end, time.monotonic() + LISTEN_ON_S)
    while missing and (left := end - time.monotonic()) > 0:
      server.settimeout(left)
      try:
        connection, _ = server.accept()
        connections.enter_context(connection)
        connection.settimeout(5)
        told = _receive_line(connection)
        process, processes = told["process"], told["processes"]
        reason, patience = told["failure"], float(told["seconds_left"])
      except (OSError, ValueError, TypeError, KeyError):
        continue  # Nobody, or not one of us.
      callers.append(connection)
      # It began earlier: the verdict comes while it still listens.
      end = min(end, time.monotonic() + patience - 1)
      if processes != args.num_processes:
        reason = (
          f"peers: process {process} was told of {processes} processes, "
          f"process 0 of {args.num_processes}"
        )
      elif process not in missing:
        reason = f"peers: two processes are process {process}"
      missing.discard(process)
      if reason and not failure:
        failure = reason
        end = min(end, time.monotonic() + LISTEN_ON_S)
    if missing and not failure:
      who = ", ".join(map(str, sorted(missing)))
      waited = args.timeout - (deadline - time.monotonic())
      failure = (
        f"peers: process {who} of {args.num_processes} did not report to "
        f"{args.coordinator} within {waited:.0f} s"
      )
    for connection in callers:
      with contextlib.suppress(OSError):
        _send_line(connection, {"failure": failure})
  if failure:
    raise Unhealthy(failure)


# --- the child: what needs JAX


def jax_version() -> str:
  import jax

  return jax.__version__


def join_cluster(args: argparse.Namespace) -> None:
  """Joins the other processes, if there are any."""
  import jax

  timeouts = {
    "initialization_timeout": max(int(args.timeout), 1),
    "shutdown_timeout_seconds": 10,
  }
  if args.coordinator is not None:
    jax.distributed.initialize(
      args.coordinator,
      args.num_processes,
      args.process_id,
      cluster_detection_method="deactivate",
      **timeouts,
    )
    return
  try:
    jax.distributed.initialize(**timeouts)
  except ValueError as error:
    # What JAX says where it detects no cluster.
    if "coordinator_address should be defined" not in str(error):
      raise


def check_devices(args: argparse.Namespace) -> dict[str, Any]:
  import jax

  devices = jax.devices()
  found = {
    "devices": len(devices),
    "local_devices": jax.local_device_count(),
    "device_kind": devices[0].device_kind,
    "platform": devices[0].platform,
    "processes": jax.process_count(),
    "process": jax.process_index(),
  }
  description = (
    f"{found['devices']} x {found['device_kind']} in {found['processes']} "
    f"process(es)"
  )
  for name in ("platform", "processes", "devices"):
    expected = getattr(args, f"expect_{name}")
    if expected not in (None, found[name]):
      raise Unhealthy(
        f"devices: expected {name} {expected}, found {found[name]}: "
        f"{description}"
      )
  return found


def _over_all_devices(values: Callable[[int, Any], float], dtype: Any) -> Any:
  """[devices], one element on each: `values` of its position and its device."""
  import jax
  import numpy as np
  from jax.sharding import AxisType, NamedSharding, PartitionSpec

  n = jax.device_count()
  mesh = jax.make_mesh((n,), ("all",), axis_types=(AxisType.Auto,))

  def value(index: tuple[slice]) -> np.ndarray:
    i = index[0].start or 0
    return np.array([values(i, mesh.devices[i])], dtype)

  # Asks for the values of this process's devices only.
  return jax.make_array_from_callback(
    (n,), NamedSharding(mesh, PartitionSpec("all")), value
  )


def check_psum() -> int:
  """1 + 2 + ... + devices, summed by the devices."""
  import jax
  from jax.sharding import PartitionSpec

  x = _over_all_devices(lambda i, _: i + 1, "int32")
  psum = jax.shard_map(
    lambda x: jax.lax.psum(x, "all"),
    mesh=x.sharding.mesh,
    in_specs=PartitionSpec("all"),
    out_specs=PartitionSpec("all"),
  )
  expected = x.size * (x.size + 1) // 2
  for shard in jax.jit(psum)(x).addressable_shards:
    if int(shard.data[0]) != expected:
      raise Unhealthy(
        f"psum: {shard.device} got {int(shard.data[0])} for the sum over all "
        f"devices, expected {expected}"
      )
  return expected


def _matmul_tflops(device: Any) -> float:
  import jax
  import jax.numpy as jnp
  import numpy as np

  on_cpu = device.platform == "cpu"
  n, repeats = (512, 4) if on_cpu else (8192, 10)
  dtype = jnp.float32 if on_cpu else jnp.bfloat16
  # Random numbers: constants draw less power, and so flatter the device.
  x = np.random.default_rng(0).standard_normal((n, n), np.float32) / n**0.5
  x = jax.device_put(x.astype(dtype), device)

  @jax.jit
  def products(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, repeats, lambda _, y: y @ x, x)

  products(x).block_until_ready()
  seconds = []
  for _ in range(3):
    began = time.perf_counter()
    products(x).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return repeats * 2 * n**3 / min(seconds) / 1e12


def check_matmul() -> dict[str, Any]:
  """The slowest and the fastest of all devices, in TFLOP/s."""
  import jax
  import numpy as np
  from jax.sharding import NamedSharding, PartitionSpec

  mine = {d: _matmul_tflops(d) for d in jax.local_devices()}
  rates = _over_all_devices(lambda _, device: mine[device], "float32")
  mesh = rates.sharding.mesh
  everywhere = NamedSharding(mesh, PartitionSpec())
  rates = np.asarray(jax.jit(lambda x: x, out_shardings=everywhere)(rates))
  slowest = mesh.devices[int(rates.argmin())]
  return {
    "min_tflops": float(f"{rates.min():.3g}"),
    "median_tflops": float(f"{np.median(rates):.3g}"),
    "max_tflops": float(f"{rates.max():.3g}"),
    "slowest": f"device {slowest.id} of process {slowest.process_index}",
  }


def check_attention() -> dict[str, Any]:
  """Largest error of each implementation, or why there is none."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  rng = np.random.default_rng(0)
  q, k, v = rng.standard_normal((3, 2, 96, 8, 64), np.float32).astype(
    jnp.bfloat16
  )
  wide = [x.astype(np.float32) for x in (q, k, v)]
  scores = np.einsum("bqac,bkac->baqk", *wide[:2]) / 8
  weights = np.exp(scores - scores.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  expected = np.einsum("baqk,bkac->bqac", weights, wide[2])
  names = ["xla"]
  if jax.devices()[0].platform == "gpu":
    names.append("cudnn")
  found = {}
  for name in names:
    try:
      answer = jax.jit(
        lambda *qkv, name=name: jax.nn.dot_product_attention(
          *qkv, implementation=name
        )
      )(q, k, v)
      error = float(abs(np.asarray(answer, np.float32) - expected).max())
    except Exception as failure:  # Any: what is not there fails in many ways.
      if name == "xla":
        raise
      found[name] = f"unavailable: {_first_line(failure)}"
      continue
    # bfloat16 keeps 8 bits, the values are below 4.
    if not error < 0.05:
      raise Unhealthy(f"attention: {name} is off by {error:.3g}")
    found[name] = float(f"{error:.3g}")
  return found


def leave_cluster() -> None:
  """Waits for the other processes, so that none misses a peer."""
  import jax

  jax.distributed.shutdown()


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines() or [""]
  return f"{type(error).__name__}: {lines[0]}"


def child_main(args: argparse.Namespace) -> int:
  """Runs the checks that need JAX; reports each to the parent."""
  with os.fdopen(args.child_reports_to, "w", buffering=1) as reports:

    def report(**message: Any) -> None:
      print(json.dumps(message), file=reports, flush=True)

    steps = {
      "jax": jax_version,
      "connect": lambda: join_cluster(args),
      "devices": lambda: check_devices(args),
      "psum": check_psum,
      "matmul": check_matmul,
      "attention": check_attention,
      "leave": leave_cluster,
    }
    try:
      for name, step in steps.items():
        report(begin=name)
        report(end=name, found=step())
    except Unhealthy as error:
      report(failure=str(error))
      return 1
    except Exception as error:
      report(failure=f"{name}: {_first_line(error)}")
      raise
  return 0


# --- the parent


def say(args: argparse.Namespace, text: str) -> None:
  if not args.json:
    print(text, file=sys.stderr, flush=True)


def explain(args: argparse.Namespace, step: str | None, how: str) -> str:
  """Why the child did not get through a step."""
  who = "this process"
  if args.process_id is not None:
    who = f"process {args.process_id} of {args.num_processes}"
  if step in (None, "jax"):
    return f"jax: {who} {how} before jax was imported"
  if step == "connect":
    return (
      f"connect: {who} {how} while it joined the others: a peer is missing, "
      f"or the coordinator cannot be reached"
    )
  if step == "devices":
    return (
      f"devices: {who} {how} while it looked for devices: another process "
      f"holds them, or the driver is broken"
    )
  if step in ("psum", "matmul", "leave"):
    return (
      f"{step}: {who} {how} while it waited for the other devices: a peer "
      f"died, or the network between the devices does not work"
    )
  return f"{step}: {who} {how}"


@contextlib.contextmanager
def child_process(args: argparse.Namespace, timeout: float) -> Iterator[tuple]:
  """The child, the lines it reports, and the file that takes its output."""
  reads, writes = os.pipe()
  command = [sys.executable, __file__, *sys.argv[1:]]
  command += [f"--timeout={timeout}", f"--child-reports-to={writes}"]
  with tempfile.TemporaryFile("w+", errors="replace") as output:
    child = subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=output,  # Gloo and NCCL print there.
      stderr=output,
      pass_fds=[writes],
    )
    os.close(writes)
    try:
      with os.fdopen(reads) as reports:
        yield child, reports, output
    finally:
      child.kill()
      child.wait()


def run_child(
  args: argparse.Namespace, deadline: float
) -> Iterator[tuple[str, Any]]:
  """Yields each check of the child and what it found.

  Raises:
    Unhealthy: a check failed, or the child died or did not finish in time.
  """
  timeout = max(deadline - time.monotonic(), 1)
  with child_process(args, timeout) as (child, reports, output):
    # The end of the child ends the reports.
    late = threading.Event()
    watchdog = threading.Timer(timeout, lambda: (late.set(), child.kill()))
    watchdog.daemon = True
    watchdog.start()
    step = None
    for line in reports:
      message = json.loads(line)
      if "begin" in message:
        step = message["begin"]
      elif "failure" in message:
        raise Unhealthy(message["failure"])
      else:
        yield message["end"], message["found"]
    code = child.wait()
    watchdog.cancel()
    if late.is_set():
      how = f"was not done after {args.timeout:g} s"
      raise Unhealthy(explain(args, step, how))
    if code:
      if step != "connect":  # There it is JAX's stack trace of a missing peer.
        output.seek(0)
        say(args, output.read().rstrip())
      how = f"ended with code {code}"
      if code < 0:
        how = f"died of {signal.Signals(-code).name}"
      raise Unhealthy(explain(args, step, how))


def warnings_about(result: dict[str, Any]) -> list[str]:
  """What a healthy run can do with, but slowly."""
  warnings = []
  rates = result["matmul"]
  if rates["min_tflops"] < 0.7 * rates["median_tflops"]:
    warnings.append(
      f"{rates['slowest']} multiplies at {rates['min_tflops']} "
      f"TFLOP/s, half of all at {rates['median_tflops']} or more"
    )
  cudnn = result["attention"].get("cudnn")
  if isinstance(cudnn, str):
    warnings.append(f"cudnn attention is {cudnn}")
  return warnings


def check(args: argparse.Namespace, result: dict[str, Any]) -> None:
  """Runs every check and fills in `result`.

  Raises:
    Unhealthy: the first that failed.
  """
  deadline = time.monotonic() + args.timeout
  prefix = "" if args.process_id is None else f"process {args.process_id}: "
  failure = None
  try:
    if args.data is not None:
      result["data"] = check_data(args.data)
      say(args, f"ok data: {result['data']}")
    result["disk"] = check_disk(args.workdir, args.min_free_gb)
    say(args, f"ok disk: {result['disk']}")
  except Unhealthy as error:
    failure = prefix + str(error)
  # Whatever is wrong with one, all should hear of it.
  if args.coordinator is not None and args.num_processes > 1:
    roll = answer_roll_call if args.process_id else call_roll
    roll(args, failure, deadline)
    say(args, f"ok roll call: {args.num_processes} processes")
  if failure:
    raise Unhealthy(failure)

  for name, found in run_child(args, deadline):
    if name == "devices":
      result.update(found)
    elif found is not None:
      result[name] = found
    if name in CHECKS:
      say(args, f"ok {name}" + (f": {found}" if found is not None else ""))

  result["warnings"] = warnings_about(result)
  for warning in result["warnings"]:
    say(args, f"warning: {warning}")


def main() -> int:
  # What --help and --dry-run print may go to `head`, which hangs up; they end
  # then as other programs do.
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  args = parse_args()
  if args.dry_run:
    for name, meaning in CHECKS.items():
      print(f"{name}: {meaning}")
    sys.stdout.flush()
    return 0
  # A peer that hangs up is an error of its connection.
  signal.signal(signal.SIGPIPE, signal.SIG_IGN)
  if args.child_reports_to is not None:
    return child_main(args)
  # Unwind, so that the child does not stay behind.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  began = time.monotonic()
  result: dict[str, Any] = {"ok": True, "reason": None, "warnings": []}
  try:
    check(args, result)
  except Unhealthy as error:
    reason = " ".join(str(error).split())
    result |= {"ok": False, "reason": reason}
    say(args, f"error: {reason}")
  result["seconds"] = round(time.monotonic() - began, 1)
  print(json.dumps(result), flush=True)
  return 0 if result["ok"] else 1


if __name__ == "__main__":
  sys.exit(main())

"""Times the builders as people run them, and measures their memory.

example:
  python -m data_tools.benchmark --data-dir DIR

DIR (default: the environment's HRM_DATA_DIR) holds sudoku/train.csv and
test.csv, arc/ARC-AGI and arc/ConceptARC. Wall seconds are those of the whole
command, start of Python included. The builders are single processes, so that
the peak resident memory of the one is that of all. The last line of stdout is
one JSON object.
"""

import argparse
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from hrm_jax import console
from hrm_jax.console import InputError


def commands(data: pathlib.Path) -> dict[str, tuple[str, list[str]]]:
  """The module and the flags of each benchmark."""
  arc = data / "arc"
  return {
    "sudoku": (
      "data_tools.build_sudoku",
      [
        *("--source-csv", str(data / "sudoku")),
        *("--subsample-size", "1000", "--num-aug", "1000"),
      ],
    ),
    "arc": (
      "data_tools.build_arc",
      [
        "--dataset-dirs",
        str(arc / "ARC-AGI" / "data"),
        str(arc / "ConceptARC" / "corpus"),
        *("--num-aug", "100"),
      ],
    ),
  }


def benchmark(
  data: pathlib.Path, names: tuple[str, ...] = ("sudoku", "arc")
) -> dict[str, Any]:
  """Runs the builders one after the other.

  Args:
    data: directory of the source data.
    names: keys of `commands`.

  Returns:
    For each name `command`, `seconds` (wall) and `peak_bytes`, the resident
    memory of its largest process.

  Raises:
    InputError: there is no such builder or data, or a builder failed.
  """
  chosen = {name: commands(data)[name] for name in names}
  # All of them are looked for before the first one takes its time.
  for module, flags in chosen.values():
    if importlib.util.find_spec(module) is None:
      raise InputError(f"{module}: expected this builder, got no such module.")
    for path in map(pathlib.Path, flags):
      if path.is_absolute() and not path.is_dir():
        raise InputError(
          f"{path}: expected a directory with source data, got none; "
          "--data-dir or HRM_DATA_DIR says where they are."
        )
  with tempfile.TemporaryDirectory(prefix="hrm_jax_benchmark_") as scratch:
    return {
      name: _measure(module, flags, pathlib.Path(scratch) / name)
      for name, (module, flags) in chosen.items()
    }


def _measure(
  module: str, flags: list[str], output: pathlib.Path
) -> dict[str, Any]:
  """Runs one builder in a process of its own."""
  console.log.info("running %s", " ".join([module, *flags]))
  command = [sys.executable, "-m", module, *flags]
  began = time.perf_counter()
  with tempfile.TemporaryFile("w+") as said:
    process = subprocess.Popen(
      [*command, "--output-dir", str(output)],
      stdout=subprocess.DEVNULL,
      stderr=said,
    )
    try:
      # Unlike Popen.wait, this also tells what the process used.
      _, status, usage = os.wait4(process.pid, 0)
      process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
      process.kill()
      process.wait()
      raise
    seconds = time.perf_counter() - began
    said.seek(0)
    last = (said.read().splitlines() or ["nothing"])[-1]
  if process.returncode:
    raise InputError(
      f"{module}: expected exit code 0, got {process.returncode} and: {last}"
    )
  # Linux counts in KiB, macOS in bytes. It is no less than this process
  # holds: the child begins as its copy.
  unit = 1 if sys.platform == "darwin" else 1024
  result = {"seconds": round(seconds, 2), "peak_bytes": usage.ru_maxrss * unit}
  console.log.info(
    "%s: %.2f s, %.0f MB at most", module, seconds, result["peak_bytes"] / 1e6
  )
  return {"command": " ".join([module, *flags]), **result}


def main() -> None:
  """Reads the flags, measures, and prints one JSON line."""
  parser = console.ArgumentParser(
    prog="python -m data_tools.benchmark",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--data-dir",
    type=console.path,
    default=os.environ.get("HRM_DATA_DIR") or None,
    metavar="DIR",
    help="source data (default: the environment's HRM_DATA_DIR)",
  )
  parser.add_argument(
    "--only",
    choices=("sudoku", "arc"),
    help="leave the other one out",
  )
  parser.add_argument(
    "--json",
    action="store_true",
    help="print nothing but the JSON object",
  )
  flags = parser.parse_args()
  if not flags.data_dir:
    raise InputError(
      "--data-dir: expected the directory of the source data, got neither the "
      "flag nor HRM_DATA_DIR."
    )
  if flags.json:
    console.log.setLevel("WARNING")
  names = (flags.only,) if flags.only else ("sudoku", "arc")
  data = flags.data_dir.resolve()
  result = benchmark(data, names)
  console.print_json({"cpus": os.cpu_count(), **result})


if __name__ == "__main__":
  console.run(main)

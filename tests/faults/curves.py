"""Reads event files as TensorBoard shows them.

Where a resumed run starts writing stands a mark, and TensorBoard forgets what
it has of that step and later ones. What a kill cut off is not there.
"""

import pathlib
import struct
from collections.abc import Iterator

from tensorboardX.proto import event_pb2

# Name -> (step, value), in the order of writing.
Curves = dict[str, list[tuple[int, float]]]


def read(workdir: pathlib.Path) -> Curves:
  """What TensorBoard shows of a run, but for its speed."""
  curves: Curves = {}
  for path in sorted((workdir / "tensorboard").iterdir()):
    for event in _events(path.read_bytes()):
      if event.session_log.status == event_pb2.SessionLog.START:
        for name, points in curves.items():
          curves[name] = [point for point in points if point[0] < event.step]
      for value in event.summary.value:
        if value.HasField("simple_value") and not value.tag.startswith("perf/"):
          point = event.step, value.simple_value
          curves.setdefault(value.tag, []).append(point)
  return curves


def each_step_once(curves: Curves, last_step: int) -> bool:
  """Whether the loss of each update stands there once, and in order."""
  steps = [step for step, _ in curves["train/lm_loss"]]
  return steps == list(range(1, last_step + 1))


def _events(data: bytes) -> Iterator[event_pb2.Event]:
  """The records of a file: length, its checksum, content, its checksum."""
  while len(data) >= 8:
    (length,) = struct.unpack("<Q", data[:8])
    if len(data) < 16 + length:
      return
    yield event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]

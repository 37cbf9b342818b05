"""What a program for TPUs adds up over devices, in which type and how far."""

import dataclasses
import importlib.util

import pytest

from hrm_jax.model.hrm import count_parameters
from hrm_jax.plan import collectives, hlo, targets
from hrm_jax.plan.program import make_program
from tests.tiny import tiny_config
from tests.toys import METADATA

pytestmark = [
  pytest.mark.aot,
  pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler for TPUs: pip install -e '.[tpu]'",
  ),
]

WIDTH = 128  # As many lanes as a TPU has, so that hardly anything is padded.
# Of the batch's rows every device learns all: gradient and identifier.
ROW_BYTES = 4 * WIDTH + 4


def update_for(target, rows, **changes):
  """What an update sends there, and how many numbers its dense gradient has."""
  config = tiny_config(
    **{
      "model.hidden_size": WIDTH,
      "model.forward_dtype": "bfloat16",
      "model.H_cycles": 1,
      "model.L_cycles": 1,
      "model.q_target": "none",
      "attention": "xla",
      "global_batch_size": rows,
      **changes,
    }
  )
  program = make_program(
    config, dataclasses.replace(METADATA, seq_len=16), devices=target.devices
  )
  text = program.compile().as_text() or ""
  sent = collectives.sent(
    collectives.collectives(hlo.Program(text)),
    collectives.links_of(list(program.setup.mesh.devices.flat)),
  )
  assert sum(row.unknown for row in sent) == 0
  return sent, count_parameters(program.setup.shapes.weights.params)


@pytest.mark.parametrize(
  ("reduce_dtype", "short", "least", "most"),
  [("float32", "f32", 1.0, 1.1), ("bfloat16", "bf16", 0.5, 0.6)],
)
def test_gradients_cross_in_the_type_that_was_asked_for(
  reduce_dtype, short, least, most
):
  sent, dense = update_for(
    targets.find("v5e:2x2"), rows=16, **{"mesh.reduce_dtype": reduce_dtype}
  )
  in_type = sum(row.bytes for row in sent if row.dtype == short)
  assert in_type >= {"f32": 4, "bf16": 2}[short] * dense
  share = sum(row.bytes for row in sent) / (4 * dense + 16 * ROW_BYTES)
  assert least <= share <= most
  # Rows and norms apart, nothing is in another type.
  floats = {row.dtype for row in sent if row.dtype in ("f32", "bf16", "f16")}
  assert floats == {"f32", short}
  assert len([row for row in sent if row.bytes > 16 * ROW_BYTES]) == 1


def test_only_sums_of_a_slice_go_to_other_slices():
  sent, dense = update_for(
    targets.find("v5e:2x2", slices=2), rows=256, **{"mesh.table": 4}
  )
  across = [row for row in sent if row.links == "across slices"]
  assert {row.kind for row in across} == {"all-reduce"}
  # Each of a slice's four devices hands on a quarter of what they have added
  # up. The table is looked up inside a slice: the rows found are not here.
  quarter = (4 * dense + 256 * ROW_BYTES) / 4
  assert quarter <= sum(row.bytes for row in across) <= 1.1 * quarter
  inside = {row.kind: row.bytes for row in sent if row.dtype == "f32"}
  assert inside["all-gather"] >= 0.9 * 4 * dense

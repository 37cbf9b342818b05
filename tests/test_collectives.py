"""What a compiled update sends between devices, read from its HLO."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from configs import sudoku
from hrm_jax.benchmark import collectives, update
from hrm_jax.machines import sharding
from tests.toys import (
  METADATA,
  Trainer,
  mesh_of,
  toy_batch,
  toy_model,
)

ALL = ("data", "table")


def found_in(function, *shapes):
  """Collectives of a function on shards over eight devices."""
  mesh = mesh_of(8)
  rows = jax.P(ALL)
  mapped = jax.shard_map(function, mesh=mesh, in_specs=rows, out_specs=rows)
  args = [
    jax.ShapeDtypeStruct(s, jnp.float32, sharding=sharding.by_row(mesh))
    for s in shapes
  ]
  text = jax.jit(mapped).lower(*args).compile().as_text()
  return collectives.collectives(text)


def test_counts_the_whole_result_of_each_kind():
  def everything(x):  # [2, 16] on each device
    gathered = lax.all_gather(x, ALL)
    scattered = lax.psum_scatter(gathered, ALL)
    turned = lax.ppermute(x, ALL, [(i, (i + 1) % 8) for i in range(8)])
    return x * scattered + turned

  kinds = {c.kind: c.bytes for c in found_in(everything, (16, 16))}
  assert kinds["all-gather"] == 8 * 2 * 16 * 4
  assert kinds["collective-permute"] == 2 * 16 * 4
  assert kinds["reduce-scatter"] == 2 * 16 * 4


def test_loops_multiply():
  def nested(x):
    def body(_, x):
      def inner(_, x):
        return lax.pcast(lax.psum(x, ALL) / 8, ALL, to="varying")

      return lax.fori_loop(0, 5, inner, x) + 1

    return lax.fori_loop(0, 3, body, x)

  (one,) = found_in(nested, (8, 4))
  assert (one.kind, one.times, one.loops) == ("all-reduce", 15, 2)
  assert one.bytes == 4 * 4


def test_a_collective_in_a_loop_of_unknown_length_is_refused():
  def until_large(x):
    def grow(x):
      return lax.pcast(lax.psum(x, ALL), ALL, to="varying")

    return lax.while_loop(lambda x: jnp.all(x < 9), grow, x)

  with pytest.raises(ValueError, match=r"unknown length.*all-reduce"):
    found_in(until_large, (8, 4))


def test_reads_the_asynchronous_form_of_other_backends():
  hlo = """HloModule m

ENTRY %main (a: f32[4]) -> f32[32] {
  %a = f32[4]{0} parameter(0)
  %s = (f32[4]{0}, f32[32]{0}) all-gather-start(%a), dimensions={0}
  %r = bf16[4]{0} all-reduce-start(%a), to_apply=%add
  %t = bf16[4]{0} all-reduce-done(%r)
  ROOT %d = f32[32]{0} all-gather-done(%s)
}
"""
  found = [(c.kind, c.bytes) for c in collectives.collectives(hlo)]
  assert found == [("all-gather", 128), ("all-reduce", 8)]


def collectives_of(trainer):
  batch = trainer.put(toy_batch())
  # Not `state()`: toy weights have a table of a few rows.
  program = trainer.step.lower(trainer.fresh_state(0), batch).compile()
  return collectives.collectives(program.as_text())


@pytest.mark.parametrize("axes", [(8, 1), (2, 4)])
def test_the_update_sends_nothing_inside_its_cycles(axes):
  model = toy_model(H_cycles=3, L_cycles=3, H_layers=2, L_layers=2)
  in_loops = [
    c for c in collectives_of(Trainer(model, mesh_of(*axes))) if c.loops
  ]
  # Of loops, only that over the layers of the backward pass may hold some.
  assert all("transpose(jvp" in c.source for c in in_loops)
  assert {(c.loops, c.times) for c in in_loops} <= {(1, 2)}


@pytest.mark.parametrize("axes", [(8, 1), (4, 2), (1, 8)])
def test_the_update_never_gathers_the_table(axes):
  rows = 2**16
  found = collectives_of(Trainer(toy_model(), mesh_of(*axes), num_rows=rows))
  assert found
  assert max(c.bytes for c in found) < rows * 16 * 4 // 8


@pytest.mark.slow
def test_data_parallelism_sends_the_gradient_once():
  config = sudoku.get_config("1k")
  metadata = dataclasses.replace(METADATA, seq_len=81, vocab_size=11)
  program = update.make_program(config, metadata)
  result = update.communication(program)
  assert result["devices"] == 8
  assert result["dense_parameters"] > 27e6
  assert result["bytes_per_device"] <= 1.1 * result["minimum_bytes"]
  # Not by missing some of it.
  assert result["bytes_per_device"] >= 4 * result["dense_parameters"]


@pytest.mark.slow
def test_a_table_of_arc_s_size_is_split_and_moved_in_place():
  rows, width = 1_045_829 // 1024 * 1024 + 1024, 512
  model = toy_model(puzzle_emb_ndim=width)
  trainer = Trainer(model, mesh_of(1, 8), num_rows=rows)
  shapes = jax.tree.map(
    lambda s, at: s.update(sharding=at),
    trainer.shapes,
    sharding.of_state(trainer.mesh, trainer.shapes),
  )
  batch = trainer.put(toy_batch())
  memory = trainer.step.lower(shapes, batch).compile().memory_analysis()
  part = rows * width * 4 // 8
  assert memory.argument_size_in_bytes < part + 2**22
  assert memory.temp_size_in_bytes < part / 8
  state = trainer.fresh_state(0)
  before = [s.data.unsafe_buffer_pointer() for s in shards(state)]
  state, *_ = trainer.step(state, batch)
  assert {s.data.nbytes for s in shards(state)} == {part}
  assert [s.data.unsafe_buffer_pointer() for s in shards(state)] == before
  # Other rows than the batch's do not change.
  used = np.unique(toy_batch()["puzzle_identifiers"])
  moved = jax.jit(lambda table: jnp.any(table != 0, axis=1))
  moved = np.flatnonzero(moved(state.weights.puzzle_table))
  np.testing.assert_array_equal(moved, used)


def shards(state):
  return state.weights.puzzle_table.addressable_shards

"""What a compiled update sends between devices, read from its HLO."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from configs import sudoku
from hrm_jax.benchmark import update
from hrm_jax.machines import sharding
from hrm_jax.plan import collectives, hlo
from hrm_jax.plan.program import make_program
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
  return collectives.collectives(hlo.Program(text))


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
  (row,) = collectives.sent([one], lambda _: "within a host")
  assert (row.bytes, row.times, row.unknown) == (15 * 16, 15, 0)
  assert collectives.total_bytes([one]) == 15 * 16


def test_a_collective_in_a_loop_of_unknown_length_is_refused():
  def until_large(x):
    def grow(x):
      return lax.pcast(lax.psum(x, ALL), ALL, to="varying")

    return lax.while_loop(lambda x: jnp.all(x < 9), grow, x)

  found = [c for c in found_in(until_large, (8, 4)) if c.bytes == 16]
  with pytest.raises(ValueError, match=r"unknown length.*all-reduce"):
    collectives.total_bytes(found)
  (row,) = collectives.sent(found, lambda _: "within a host")
  assert (row.bytes, row.times, row.unknown) == (16, 1, 1)


def test_reads_the_asynchronous_form_of_other_backends():
  text = """HloModule m

ENTRY %main (a: f32[4]) -> f32[32] {
  %a = f32[4]{0} parameter(0)
  %s = (f32[4]{0}, f32[32]{0}) all-gather-start(%a), dimensions={0}
  %r = bf16[4]{0} all-reduce-start(%a), to_apply=%add
  %t = bf16[4]{0} all-reduce-done(%r)
  ROOT %d = f32[32]{0} all-gather-done(%s)
}
"""
  found = [
    (c.kind, c.bytes) for c in collectives.collectives(hlo.Program(text))
  ]
  assert found == [("all-gather", 128), ("all-reduce", 8)]


def collectives_of(trainer):
  batch = trainer.put(toy_batch())
  # Not `state()`: toy weights have a table of a few rows.
  program = trainer.step.lower(trainer.fresh_state(0), batch).compile()
  return collectives.collectives(hlo.Program(program.as_text()))


@pytest.mark.parametrize("axes", [(2, 4)])
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
  program = make_program(config, metadata)
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


def on_eight(groups, *, slices=1, devices_per_host=4):
  """The links that an all-reduce of these groups crosses, of eight devices."""
  devices = [
    types.SimpleNamespace(
      process_index=i // devices_per_host, slice_index=i * slices // 8
    )
    for i in range(8)
  ]
  text = f"""HloModule m

ENTRY %main (a: f32[4]) -> f32[4] {{
  %a = f32[4]{{0}} parameter(0)
  ROOT %r = f32[4]{{0}} all-reduce(%a), channel_id=1, {groups}, to_apply=%add
}}
"""
  found = collectives.collectives(hlo.Program(text))
  (row,) = collectives.sent(found, collectives.links_of(devices))
  return row.links


@pytest.mark.parametrize(
  ("groups", "links"),
  [
    ("replica_groups={}", "across hosts"),
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", "within a host"),
    ("replica_groups={{0,1},{2,3},{4,7},{6,5},{3,4}}", "across hosts"),
    ("replica_groups={{0},{1}}", "one device"),
    ("source_target_pairs={{0,1},{3,4}}", "across hosts"),
    ("replica_groups=[2,4]<=[8]", "within a host"),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", "across hosts"),
    ("replica_groups=[4,2]<=[4,2]T(0,1)", "within a host"),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", "within a host"),
    ("replica_groups=mesh['a'=2,'b'=4] {'a'}", "across hosts"),
    ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", "across hosts"),
    (
      "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}",
      "across hosts",
    ),
    (
      "replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
      "within a host",
    ),
    ("replica_groups=mesh['a'=8] {'a':(2)4}", "within a host"),
    ("replica_groups=mesh['a'=8] {'a':(1)2}", "across hosts"),
  ],
)
def test_the_links_follow_from_who_talks_to_whom(groups, links):
  assert on_eight(groups) == links


def test_groups_that_cannot_be_read_are_told():
  assert on_eight("replica_groups=everyone") == "unknown"


def test_slices_are_further_apart_than_hosts():
  groups = "replica_groups={{0,1,2,3,4,5,6,7}}"
  assert on_eight(groups, slices=2) == "across slices"
  # A program for two slices is that of one of them.
  groups = "replica_groups={{0,1,2,3}}"
  assert on_eight(groups, slices=2, devices_per_host=2) == "across hosts"
  assert on_eight("replica_groups={}", slices=2) == "within a host"


def test_what_goes_to_other_slices_is_sent_by_the_host():
  text = """HloModule m

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %t = token[] after-all()
  %s = (f32[4]{0}, u32[], token[]) send(%a, %t), channel_id=6, \
is_host_transfer=true, frontend_attributes={\
_xla_host_transfer_handler_name="xla_megascale_runtime",\
_xla_megascale_transfer_type="ALL_REDUCE"}
  %d = token[] send-done(%s), channel_id=6, is_host_transfer=true
  ROOT %b = f32[4]{0} copy(%a)
}
"""
  found = collectives.collectives(hlo.Program(text))
  (row,) = collectives.sent(found, collectives.links_of([None]))
  assert row == ("all-reduce", "f32", "across slices", 16, 1, 0)


def test_arrays_of_one_collective_are_counted_by_their_types():
  text = """HloModule m

ENTRY %main (a: f32[4], b: bf16[8]) -> (f32[4], bf16[8]) {
  %a = f32[4]{0} parameter(0)
  %b = bf16[8]{0} parameter(1)
  ROOT %r = (f32[4]{0}, bf16[8]{0}) all-reduce(%a, %b), replica_groups={}
}
"""
  found = collectives.collectives(hlo.Program(text))
  devices = [types.SimpleNamespace(process_index=0)] * 2
  rows = collectives.sent(found, collectives.links_of(devices))
  assert [(r.dtype, r.bytes, r.times) for r in rows] == [
    ("f32", 16, 1),
    ("bf16", 16, 1),
  ]

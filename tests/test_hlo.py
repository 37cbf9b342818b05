"""Reading the text of a program: loops, shapes, what runs how often."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from hrm_jax.plan import hlo

# As XLA writes a loop for a TPU: it does not say how often it runs. The counter
# is copied into another memory, and the bound may be carried around.
LOOP = """HloModule loop

%body (state: (s32[], f32[4], s32[])) -> (s32[], f32[4], s32[]) {{
  %state = (s32[], f32[4]{{0:T(128)}}, s32[]) parameter(0)
  %one = s32[] constant({step})
  %i = s32[]{{:T(128)}} get-tuple-element(%state), index=0
  %x = f32[4]{{0:T(128)}} get-tuple-element(%state), index=1
  %n = s32[] get-tuple-element(%state), index=2
  %next = s32[] add(%i, %one)
  %negated = f32[4]{{0:T(128)}} negate(%x)
  ROOT %new = (s32[], f32[4], s32[]) tuple(%next, %negated, %{kept})
}}

%condition (state.1: (s32[], f32[4], s32[])) -> pred[] {{
  %limit = s32[]{{:T(128)}} constant({limit})
  %state.1 = (s32[], f32[4]{{0:T(128)}}, s32[]) parameter(0)
  %i.1 = s32[]{{:T(128)}} get-tuple-element(%state.1), index=0
  %n.1 = s32[]{{:T(128)}} get-tuple-element(%state.1), index=2
  ROOT %less = pred[] compare({compared}), direction={direction}
}}

ENTRY %main (x.1: f32[4]) -> f32[4] {{
  %x.1 = f32[4]{{0:T(128)}} parameter(0)
  %start = s32[]{{:T(128)}} constant({start})
  %moved = s32[]{{:T(128)S(6)}} copy(%start)
  %seven = s32[] constant(7)
  %first = (s32[], f32[4], s32[]) tuple(%moved, %x.1, /*index=2*/%seven)
  %loop = (s32[], f32[4], s32[]) while(%first), condition=%condition, body=%body
  ROOT %result = f32[4]{{0:T(128)}} get-tuple-element(%loop), index=1
}}
"""


def loop(**changed):
  usual = {
    "start": 0,
    "step": 1,
    "limit": 5,
    "compared": "%i.1, %limit",
    "direction": "LT",
    "kept": "n",
  }
  return hlo.Program(LOOP.format(**usual | changed))


def times(program, opcode="negate"):
  (run,) = (r for r in program.runs() if r.instruction.opcode == opcode)
  return run.times


@pytest.mark.parametrize(
  ("changed", "trips"),
  [
    ({}, 5),
    ({"start": 2}, 3),
    ({"step": 2}, 3),
    ({"direction": "LE"}, 6),
    ({"compared": "%limit, %i.1", "direction": "GT"}, 5),
    ({"limit": -1}, 0),
    ({"compared": "%i.1, %n.1"}, 7),
  ],
)
def test_the_bound_of_a_loop_stands_in_its_condition(changed, trips):
  assert times(loop(**changed)) == trips


@pytest.mark.parametrize(
  "changed",
  [
    {"step": 0},
    {"direction": "NE"},
    # The bound changes on the way, and so nobody knows it.
    {"compared": "%i.1, %n.1", "kept": "next"},
  ],
)
def test_a_loop_that_does_not_count_up_has_no_known_length(changed):
  assert times(loop(**changed)) is None


def test_what_xla_says_of_a_loop_comes_first():
  text = LOOP.format(
    start=0,
    step=1,
    limit=5,
    compared="%i.1, %limit",
    direction="LT",
    kept="n",
  ).replace(
    "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"9"}}'
  )
  assert times(hlo.Program(text)) == 9


def test_a_loop_that_its_data_ends_has_no_known_length():
  def grow(x):
    return lax.while_loop(lambda x: x.sum() < 9, lambda x: 2 * x, x)

  text = jax.jit(grow).lower(jnp.ones(8)).compile().as_text()
  runs = list(hlo.Program(text).runs())
  assert {r.times for r in runs if r.loops} == {None}
  assert {r.times for r in runs if not r.loops} == {1}


@pytest.mark.parametrize(
  ("shape", "sizes"),
  [
    ("f32[2,3]{1,0:T(8,128)S(1)}", {"f32": 24}),
    (
      "(bf16[4]{0}, (f32[], s4[8]), u32[], token[])",
      {"bf16": 8, "f32": 4, "s4": 4, "u32": 4},
    ),
    ("f8e4m3fn[16]", {"f8e4m3fn": 16}),
  ],
)
def test_bytes_are_counted_by_type(shape, sizes):
  assert hlo.bytes_by_type(shape) == sizes
  assert hlo.num_bytes(shape) == sum(sizes.values())


def test_what_a_kernel_says_of_itself_ends_no_computation():
  text = """HloModule m

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %k = f32[2]{0} custom-call(%a), frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 1024}"
}}, metadata={op_name="jit(f)/pallas_call"}
  ROOT %n = f32[2]{0} negate(%k)
}, execution_thread="main"
"""
  found = hlo.Program(text).computations["main"]
  assert list(found) == ["a", "k", "n"]
  assert found["k"].source == "jit(f)/pallas_call"
  lines = hlo.one_line_each(text)
  assert [line.partition(" = ")[0] for line in lines[2:]] == [
    "ENTRY %main (a: f32[2]) -> f32[2] {",
    "  %a",
    "  %k",
    "  ROOT %n",
    '}, execution_thread="main"',
  ]


def test_operands_end_where_their_parenthesis_does():
  text = """HloModule m

ENTRY %main (a: f32[2]) -> f32[2] {
  %a = f32[2]{0} parameter(0)
  %b = (f32[2]{0}, u32[]) copy-start(%a), cross_program_prefetch_index=0
  ROOT %c = f32[2]{0} fusion(%a, /*index=1*/%b), kind=kLoop, calls=%inner
}
"""
  found = hlo.Program(text).computations["main"]
  assert found["c"].operands == ("a", "b")
  assert found["c"].called("calls") == ["inner"]
  assert found["b"].operands == ("a",)

"""How long a program may take, added up by hand."""

import pytest

from hrm_jax.plan import estimate, hlo
from hrm_jax.plan.chips import CHIPS

V5E, H100 = CHIPS["v5e"], CHIPS["h100"]

TPU = """HloModule m

%body (s: (s32[], f32[8])) -> (s32[], f32[8]) {
  %s = (s32[], f32[8]{0}) parameter(0)
  %one = s32[] constant(1)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8]{0} get-tuple-element(%s), index=1
  %next = s32[] add(%i, %one)
  %w.1 = f32[8]{0} fusion(%x), kind=kOutput, calls=%f, metadata={\
op_name="jit(step)/HRM/Block_0/mlp/dot_general"}, backend_config={\
"estimated_cycles":"3000"}
  ROOT %new = (s32[], f32[8]{0}) tuple(%next, %w.1)
}

%cond (s.1: (s32[], f32[8])) -> pred[] {
  %s.1 = (s32[], f32[8]{0}) parameter(0)
  %four = s32[] constant(4)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  ROOT %less = pred[] compare(%i.1, %four), direction=LT
}

ENTRY %main (x.1: f32[8]) -> f32[8] {
  %x.1 = f32[8]{0} parameter(0)
  %zero = s32[] constant(0)
  %t = (s32[], f32[8]{0}) tuple(%zero, %x.1)
  %loop = (s32[], f32[8]{0}) while(%t), condition=%cond, body=%body
  %y = f32[8]{0} get-tuple-element(%loop), index=1
  %r.3 = f32[8]{0} fusion(%y), kind=kLoop, calls=%g, metadata={\
op_name="jit(step)/HRM/Block_0/attn/rotation/mul"}, backend_config={\
"estimated_cycles":"1500"}
  %flash_kernel.7 = f32[8]{0} custom-call(%r.3), \
custom_call_target="tpu_custom_call"
  %q.2.1 = f32[8]{0} fusion(%flash_kernel.7), kind=kCustom, calls=%h
  %s2 = (f32[8]{0}, f32[8]{0}, u32[]) copy-start(%q.2.1)
  %e = f32[8]{0} copy-done(%s2)
  ROOT %sum = f32[8]{0} all-reduce(%e), replica_groups={}, to_apply=%add
}
"""


def test_cycles_are_added_up_with_the_trips_of_loops():
  found = estimate.estimate(hlo.Program(TPU), V5E)
  assert found.parts == {
    "weight products": pytest.approx(4 * 3000 / 1.5e9),
    "rope": pytest.approx(1500 / 1.5e9),
  }
  assert found.seconds == pytest.approx(13500 / 1.5e9)
  assert (found.kernels, found.unknown_loops) == (5, 0)


def test_what_has_no_estimate_is_listed_and_not_counted_as_nothing():
  found = estimate.estimate(hlo.Program(TPU), V5E)
  # Four times the addition of the counter, in the body. Collectives are not
  # among it: they are listed with what they send.
  assert found.unknown == {
    "copy-start": (1, 68),
    "flash_kernel": (1, 32),
    "q": (1, 32),
    "add": (4, 16),
  }


def test_a_loop_of_unknown_length_counts_once_and_is_told():
  program = hlo.Program(TPU.replace("direction=LT", "direction=NE"))
  found = estimate.estimate(program, V5E)
  assert found.unknown_loops == 1
  assert found.seconds == pytest.approx(4500 / 1.5e9)


GPU = """HloModule m

%gemm (p: bf16[64,1024], q: bf16[1024,4096]) -> bf16[64,4096] {
  %p = bf16[64,1024]{1,0} parameter(0)
  %q = bf16[1024,4096]{1,0} parameter(1)
  ROOT %dot = bf16[64,4096]{1,0} dot(%p, %q), lhs_contracting_dims={1}, \
rhs_contracting_dims={0}
}

ENTRY %main (a: bf16[64,1024], b: bf16[1024,4096]) -> bf16[64,4096] {
  %a = bf16[64,1024]{1,0} parameter(0)
  %b = bf16[1024,4096]{1,0} parameter(1)
  %g = bf16[64,4096]{1,0} fusion(%a, %b), kind=kCustom, calls=%gemm
  %c = bf16[8]{0} custom-call(), custom_call_target="__cudnn$fmha"
  %i = s32[] constant(3)
  ROOT %dynamic-update-slice.1 = bf16[64,4096]{1,0} \
dynamic-update-slice(%g, %a, %i, %i)
}
"""


@pytest.mark.parametrize(
  ("bandwidth", "product_flops"), [(1e10, 1e18), (1e18, 1e10), (1e10, 6e11)]
)
def test_a_kernel_takes_the_longer_of_its_bytes_and_its_products(
  bandwidth, product_flops
):
  chip = H100._replace(bandwidth=bandwidth, product_flops=product_flops)
  found = estimate.estimate(hlo.Program(GPU), chip)
  moved = 2 * (64 * 1024 + 1024 * 4096 + 64 * 4096) / bandwidth
  products = 2 * 64 * 1024 * 4096 / product_flops
  # An array that stays where it is does not count: the smallest thing that is
  # read does, twice.
  slice_moved = 2 * 4 / bandwidth
  assert found.kernels == 3
  called = 2 * 8 / bandwidth
  assert found.seconds == pytest.approx(
    max(moved, products) + slice_moved + called + 3 * estimate.LAUNCH_S
  )
  # Nobody knows what else it does.
  assert found.unknown == {"__cudnn$fmha": (1, 16)}


def test_without_numbers_of_the_chip_everything_is_unknown():
  found = estimate.estimate(hlo.Program(GPU), CHIPS["cpu"])
  assert found.kernels == 0
  assert set(found.unknown) == {"g", "dynamic-update-slice", "__cudnn$fmha"}

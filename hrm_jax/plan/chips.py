"""What is known of the devices that can be planned for.

Numbers of the makers, but for the memory that XLA leaves to a program, which
is from its own messages, and `product_flops`.

Sources: TPUs, cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e; the clock of a
TPU is its peak over the multiply-adds of a cycle (v4, v5e and v5p: 128 x 128
in each of 4 units of a core, two cores in v4 and v5p; v6e: 256 x 256 in each of
4). GPUs: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM, dense;
hosts as those of NVIDIA DGX, with a network port for each GPU.
"""

from typing import Any, NamedTuple

GIB = 2**30


class Chip(NamedTuple):
  """One kind of device.

  Attributes:
    name: as in a target, "v5e".
    platform: "tpu", "gpu" or "cpu".
    memory: bytes; on a TPU those that XLA lets a program have. None: unknown.
    peak_flops: FLOP/s of bfloat16 products.
    bandwidth: bytes/s of its memory.
    clock: of XLA's estimated cycles, Hz; None where XLA makes no estimate.
    product_flops: FLOP/s that large products are counted with in a roofline;
      they do not reach the peak.
    near: bytes/s out of a device to all others of its slice (ICI), or of its
      host (NVLink).
    far: bytes/s out of a device by the network: to other slices or hosts.
    near_name: what people call the former.
    devices_per_host: how many share a host, where the topology does not say.
  """

  name: str
  platform: str
  memory: int | None = None
  peak_flops: float | None = None
  bandwidth: float | None = None
  clock: float | None = None
  product_flops: float | None = None
  near: float | None = None
  far: float | None = None
  near_name: str = "memory"
  devices_per_host: int | None = None


def _tpu(name: str, gib: float, **facts: Any) -> Chip:
  return Chip(name, "tpu", round(gib * GIB), near_name="ICI", **facts)


def _gpu(name: str, memory: int, **facts: Any) -> Chip:
  return Chip(
    name, "gpu", memory, near_name="NVLink", devices_per_host=8, **facts
  )


# Between TPU slices: 100 Gb/s (v4), 200 (v5e, v5p) for the 4 chips of a host,
# 800 for the 8 of a v6e host.
CHIPS = {
  chip.name: chip
  for chip in (
    # Both cores of a v4 or v5p chip are one device, as on Google Cloud.
    _tpu(
      "v4",
      30.75,
      peak_flops=275e12,
      bandwidth=1228e9,
      clock=1.05e9,
      near=300e9,
      far=3.125e9,
    ),
    _tpu(
      "v5e",
      15.75,
      peak_flops=197e12,
      bandwidth=819e9,
      clock=1.5e9,
      near=200e9,
      far=3.125e9,
    ),
    _tpu(
      "v5p",
      95.74,
      peak_flops=459e12,
      bandwidth=2765e9,
      clock=1.75e9,
      near=600e9,
      far=6.25e9,
    ),
    _tpu(
      "v6e",
      31.25,
      peak_flops=918e12,
      bandwidth=1640e9,
      clock=1.75e9,
      near=400e9,
      far=12.5e9,
    ),
    _gpu(
      "a100",
      85_093_122_048,
      peak_flops=312e12,
      bandwidth=2.039e12,
      product_flops=2.5e14,
      near=300e9,
      far=25e9,
    ),
    _gpu(
      "h100",
      84_929_347_584,
      peak_flops=989e12,
      bandwidth=3.35e12,
      product_flops=7.9e14,
      near=450e9,
      far=50e9,
    ),
    _gpu(
      "h200",
      150_109_880_320,
      peak_flops=989e12,
      bandwidth=4.8e12,
      product_flops=7.9e14,
      near=450e9,
      far=50e9,
    ),
    Chip("cpu", "cpu"),
  )
}

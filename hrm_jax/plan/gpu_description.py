"""What XLA must know of an NVIDIA GPU to compile for it without having one.

The text form of XLA's GpuTargetConfigProto. What all three have in common are
limits of CUDA for compute capability 8.0 and 9.0 (*CUDA C++ Programming Guide*,
"Compute Capabilities"); numbers of cores, caches, clock and memory are from
NVIDIA's white papers on the Ampere and Hopper architectures.
"""

from typing import NamedTuple

from hrm_jax.plan.chips import CHIPS


class _Gpu(NamedTuple):
  description: str
  capability: int  # The major number; the minor one is 0.
  cores: int
  fpus_per_core: int
  shared_memory_per_core: int
  l2_cache: int
  clock_ghz: float


_GPUS = {
  "a100": _Gpu("NVIDIA A100-SXM4-80GB", 8, 108, 64, 164, 40, 1.41),
  "h100": _Gpu("NVIDIA H100 80GB HBM3", 9, 132, 128, 228, 50, 1.98),
  "h200": _Gpu("NVIDIA H200", 9, 132, 128, 228, 50, 1.98),
}


def text(name: str) -> str:
  """The description of a GPU of `chips.CHIPS`."""
  gpu, chip = _GPUS[name], CHIPS[name]
  shared = gpu.shared_memory_per_core * 1024
  return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared}
  shared_memory_per_block_optin: {shared - 1024}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus_per_core}
  l2_cache_size: {gpu.l2_cache * 2**20}
  clock_rate_ghz: {gpu.clock_ghz}
  memory_bandwidth: {int(chip.bandwidth or 0)}
  device_memory_size: {chip.memory}
  cuda_compute_capability {{ major: {gpu.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 }}
device_description_str: "{gpu.description}"
"""

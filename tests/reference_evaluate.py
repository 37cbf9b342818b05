"""Scores a checkpoint with the PyTorch reference's own code, on a CPU.

  HRM_REFERENCE=CHECKOUT python tests/reference_evaluate.py FOLDER

FOLDER holds step_<N> and all_config.yaml. The last line of stdout is a JSON
object with the metrics of each set. A process of its own: the reference needs
PyTorch, and finds its modules by names such as `models`. What it has for GPUs
alone is replaced: flash attention by the same in plain PyTorch, the optimiser
and the logging, which an evaluation does not use, by nothing.
"""

import json
import os
import pathlib
import sys
import types

import torch
import yaml


def attention(q, k, v, causal=False):
  """Full softmax attention over [B, S, heads, C]."""
  q, k, v = (x.transpose(1, 2) for x in (q, k, v))
  out = torch.nn.functional.scaled_dot_product_attention(
    q, k, v, is_causal=causal
  )
  return out.transpose(1, 2).contiguous()


class NoOptimizer:
  """Stands for one that is made and never asked."""

  def __init__(self, *args, **kwargs):
    del args, kwargs


class OnCpu(types.ModuleType):
  """PyTorch, for which "cuda" is the CPU."""

  def __getattr__(self, name):
    if name == "device":
      return lambda *_: torch.device("cpu")
    if name == "zeros":
      return lambda *args, device, **kwargs: torch.zeros(*args, **kwargs)
    return getattr(torch, name)


def put_in_place(name, **content):
  module = types.ModuleType(name)
  module.__dict__.update(content)
  sys.modules[name] = module


def same(*_, **__):
  return lambda function: function


def main(folder: pathlib.Path) -> None:
  os.environ["DISABLE_COMPILE"] = "1"
  sys.path.insert(0, os.environ["HRM_REFERENCE"])
  put_in_place("flash_attn", flash_attn_func=attention)
  put_in_place("adam_atan2", AdamATan2=NoOptimizer)
  put_in_place("wandb", run=None)
  put_in_place("coolname", generate_slug=None)
  put_in_place("hydra", main=same)
  put_in_place(
    "argdantic", ArgParser=lambda: types.SimpleNamespace(command=same)
  )
  torch.Tensor.cuda = lambda self: self
  import pretrain
  from puzzle_dataset import PuzzleDataset, PuzzleDatasetConfig

  pretrain.torch = OnCpu("torch")
  pretrain.CastedSparseEmbeddingSignSGD_Distributed = NoOptimizer
  content = yaml.safe_load((folder / "all_config.yaml").read_text())
  config = pretrain.PretrainConfig(**content)

  def data(split):
    return PuzzleDataset(
      PuzzleDatasetConfig(
        seed=0,
        dataset_path=config.data_path,
        global_batch_size=config.global_batch_size,
        test_set_mode=True,
        epochs_per_iter=1,
        rank=0,
        num_replicas=1,
      ),
      split=split,
    )

  train, test = data("train"), data("test")
  state = pretrain.init_train_state(config, train.metadata, world_size=1)
  (path,) = folder.glob("step_*")
  weights = torch.load(path, map_location="cpu", weights_only=True)
  state.model.load_state_dict(weights, assign=True, strict=True)
  state.model.eval()
  found = pretrain.evaluate(
    config, state, test, test.metadata, rank=0, world_size=1
  )
  sets = {
    name: {key: float(value) for key, value in metrics.items()}
    for name, metrics in found.items()
  }
  print(json.dumps(sets))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))

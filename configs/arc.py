"""ARC-AGI: two variants of one experiment.

1 (the default): ARC-AGI-1 and ConceptARC, 1,000 augmentations of each task
  python -m data_tools.build_arc --output-dir data/arc-1-aug-1000
    --dataset-dirs ARC-AGI/data ConceptARC/corpus
  python -m hrm_jax.train --config=configs/arc.py --workdir=runs/arc-1
  Published: 40.3 % with two attempts (arXiv 2506.21734, figure 1).

2: ARC-AGI-2, 1,000 augmentations of each task
  python -m data_tools.build_arc --output-dir data/arc-2-aug-1000
    --dataset-dirs ARC-AGI-2/data
  python -m hrm_jax.train --config=configs/arc.py:2 --workdir=runs/arc-2
  Published: 5.0 % with two attempts (same figure).

Both are the reference's recipe, batch 768 on 8 GPUs for about 24 hours (README
of sapientinc/HRM at 42410da). Each set takes several GB of disk, and the saved
predictions 54 kB for every test example (43 of them logits). To score:
  python -m hrm_jax.evaluate --workdir=runs/arc-1 --save-predictions
  python -m hrm_jax.arc_vote --workdir=runs/arc-1
Never train on ARC-AGI-2 and report ARC-AGI-1: 395 of the 419 test pairs of
its evaluation set stand in the training set of ARC-AGI-2.
"""

from hrm_jax.config import base, choose

BUILD = "python -m data_tools.build_arc --output-dir {path}"
DIRECTORIES = {"1": "ARC-AGI/data ConceptARC/corpus", "2": "ARC-AGI-2/data"}


def get_config(variant="1"):
  """The configuration of a variant: 1 or 2."""
  variants = {name: _arc(name) for name in DIRECTORIES}
  return choose(variant, variants, "configs/arc.py")


def _arc(name):
  # All else is as in the defaults, which are those of this experiment.
  config = base()
  config.data.path = f"data/arc-{name}-aug-1000"
  config.data.build_command = f"{BUILD} --dataset-dirs {DIRECTORIES[name]}"
  config.global_batch_size = 768
  config.epochs = 100_000
  config.eval_interval = 10_000
  # Some minutes on 8 GPUs: that much is lost if a machine goes away without
  # notice, instead of the hours between two evaluations. A checkpoint has
  # several GB, most of it the puzzle table.
  config.checkpoint_interval = 1000
  config.max_to_keep = 3
  return config

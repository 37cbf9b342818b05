"""ARC-AGI by TRM, the Tiny Recursive Model: two variants of one experiment.

1 (the default): ARC-AGI-1 and ConceptARC, 1,000 augmentations of each task
  python -m data_tools.build_arc --output-dir data/arc-1-aug-1000
    --dataset-dirs ARC-AGI/data ConceptARC/corpus
  python -m hrm_jax.train --config=configs/trm_arc.py --workdir=runs/trm-arc-1
  Published: 44.6 % with two attempts (arXiv 2510.04871).

2: ARC-AGI-2 and ConceptARC, 1,000 augmentations of each task
  python -m data_tools.build_arc --output-dir data/arc-2-concept-aug-1000
    --dataset-dirs ARC-AGI-2/data ConceptARC/corpus
  python -m hrm_jax.train --config=configs/trm_arc.py:2
    --workdir=runs/trm-arc-2
  Published: 7.8 % with two attempts (same paper).

Both take about 3 days on 4 H100 (README of
SamsungSAILMontreal/TinyRecursiveModels). To score, and what not to train on:
see configs/arc.py.
"""

from hrm_jax.config import choose, trm_base

BUILD = "python -m data_tools.build_arc --output-dir {path}"
DATA = {
  "1": ("data/arc-1-aug-1000", "ARC-AGI/data ConceptARC/corpus"),
  "2": ("data/arc-2-concept-aug-1000", "ARC-AGI-2/data ConceptARC/corpus"),
}


def get_config(variant="1"):
  """The configuration of a variant: 1 or 2."""
  variants = {name: _arc(*data) for name, data in DATA.items()}
  return choose(variant, variants, "configs/trm_arc.py")


def _arc(path, directories):
  # Learning rates and decays are as in the defaults, which are those of ARC.
  config = trm_base()
  config.data.path = path
  config.data.build_command = f"{BUILD} --dataset-dirs {directories}"
  config.model.L_cycles = 4
  config.global_batch_size = 768
  config.epochs = 100_000
  config.eval_interval = 10_000
  # Some minutes on 4 GPUs: that much is lost if a machine goes away without
  # notice. A checkpoint has several GB, most of it the puzzle table.
  config.checkpoint_interval = 1000
  config.max_to_keep = 3
  return config

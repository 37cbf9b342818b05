"""Weights to scores over a whole split: `python -m hrm_jax.evaluate`."""

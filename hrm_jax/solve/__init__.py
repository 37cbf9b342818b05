"""Puzzles in, answers out: `python -m hrm_jax.solve`."""

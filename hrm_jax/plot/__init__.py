"""Figures of runs, for papers: `python -m hrm_jax.plot`."""

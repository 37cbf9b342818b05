"""How fast it is, and what it sends: `python -m hrm_jax.benchmark`."""

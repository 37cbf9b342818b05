"""One run, from its configuration to its end: `python -m hrm_jax.train`."""

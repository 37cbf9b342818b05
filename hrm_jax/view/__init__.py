"""A trained network's thinking in a browser: `python -m hrm_jax.view`."""

"""What a run needs on devices that are not here: `python -m hrm_jax.plan`."""

"""What a run keeps on disk: `python -m hrm_jax.checkpoint`."""

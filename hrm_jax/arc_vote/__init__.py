"""ARC predictions to pass@k and a submission, by votes.

The command: `python -m hrm_jax.arc_vote`.
"""

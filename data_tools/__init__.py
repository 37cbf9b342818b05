"""Commands that build, generate, check and show data sets.

They write the format of `hrm_jax.data.puzzle` through `hrm_jax.data.writer`,
and import nothing of `hrm_jax` but its console and its data room.
"""

"""Runs that are killed, stopped, starved and poisoned, and must not mind.

  python -m tests.faults --kills 50 --terms 20

Each scenario has its file, with a `run` that returns what it counted. All of
them train tests/tiny.py in real processes, through the command line.
"""

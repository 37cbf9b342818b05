"""Data sets on disk, their puzzles, and the batches read from them."""

"""Data sets on disk, their puzzles, and the batches read from them.

The format is the contract between those who read and those who write:

  puzzle, split, puzzle_kind   what a data set directory holds, opened, checked

Read by training, evaluation and solving:

  train_batches, evaluation_batches, reading   from a split to batches
  sudoku, maze, arc, grid                      what a puzzle is, and its rules
  symmetry, rewriting                          its images, drawn in training
  puzzle_text, drawing                         by kind: text read, grids drawn

Written with by `data_tools` (and by a run that generates its own small set):

  writer, building                             all of a data set or nothing
  sudoku_generator, sudoku_solver              puzzles with one solution
  sudoku_augment, sudoku_canonical             stored images, and their class

Both need `mixing`, a hash, and `provenance`, which says by which code.
"""

"""The keys of the data set: `data.*`."""

from hrm_jax.config.key import (
  Key,
  flag,
  number_below_1,
  one_of,
  text,
  whole,
)

DATA_KEYS = {
  "data.path": Key(
    "", "Directory of the data set. Empty: WORKDIR/data.", text()
  ),
  "data.build_command": Key(
    "",
    "The command that builds it at {path}, for the message when it is missing.",
    text(),
  ),
  "data.generate": Key(
    False,
    "Whether to generate a small Sudoku set into WORKDIR/data on first use, "
    "with the arguments of data_tools.generate_sudoku.",
    flag(),
  ),
  "data.box": Key(
    "2x2",
    "Rows x columns of a box of the generated puzzles.",
    one_of("2x2", "2x3", "3x3"),
  ),
  "data.num_train": Key(
    1000, "Training puzzles to generate, before augmentation.", whole(1)
  ),
  "data.num_test": Key(1024, "Test puzzles to generate.", whole(1)),
  "data.num_aug": Key(
    0, "Symmetry images per generated training puzzle.", whole(0)
  ),
  "data.augment": Key(
    False,
    "Whether each Sudoku or maze is trained on as a symmetry image drawn anew, "
    "in place of stored ones.",
    flag(),
    later=True,
  ),
  "data.hint_mix": Key(
    0.0,
    "Share of the Sudokus that are trained on with some of their blanks filled "
    "in (arXiv 2601.10679).",
    number_below_1(),
    later=True,
  ),
}

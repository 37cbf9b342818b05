"""The solving command, on a run that tests share."""

import io

import jax
import numpy as np
import pytest

from hrm_jax.checkpoint.load import load
from hrm_jax.data import sudoku, sudoku_solver
from hrm_jax.solve import __main__ as solve
from hrm_jax.solve import continuous_batching, ensemble, inference, solver
from tests.commands import Commands
from tests.toys import random_like

PUZZLE = "1....2.3..4.2..."
OTHER = ".41..3.231....31"


@pytest.fixture
def command(monkeypatch, capsys):
  return Commands(monkeypatch, capsys)


def test_the_example_of_the_help_can_be_solved():
  example = sudoku.parse(solve.EXAMPLES.split("'")[1])
  assert sudoku_solver.count_solutions(example[None]) == [1]


def test_json_says_what_is_known_of_each_answer(tiny_run, command):
  found = command(solve, f"--workdir={tiny_run}", "--json", PUZZLE, OTHER)
  assert found["step"] == 10
  assert [entry["puzzle"] for entry in found["puzzles"]] == [PUZZLE, OTHER]
  for entry in found["puzzles"]:
    assert len(entry["trace"]) == entry["segments"] <= 3
    assert entry["trace"][-1] == entry["answer"]
    assert 0 < entry["halt_probability"] < 1
    puzzle = sudoku.parse(entry["puzzle"])
    tokens = ["?.1234".index(cell) for cell in entry["answer"]]
    answer = np.array(tokens)
    assert entry["obeys_rules"] == sudoku.obeys_rules(answer)
    assert entry["keeps_clues"] == sudoku.keeps_clues(puzzle, answer)


def test_the_trace_ends_where_the_network_halted(tiny_run):
  trained = load(tiny_run)
  bias = np.float32([100.0, -100.0])  # Halting is worth more, whatever comes.
  q_head = {**trained.weights.params["q_head"], "bias": bias}
  params = {**trained.weights.params, "q_head": q_head}
  at_once = trained._replace(weights=trained.weights._replace(params=params))
  puzzles = sudoku.parse(PUZZLE)[None]
  for halt, segments in (("act", 1), ("full", 3)):
    found = next(solver.Solver(at_once, halt=halt, batch_size=1)(puzzles))
    assert found.segments == len(found.trace) == segments


def test_a_puzzle_is_answered_alike_alone_and_in_company(tiny_run, command):
  alone = command(solve, f"--workdir={tiny_run}", "--json", PUZZLE)
  both = command(solve, f"--workdir={tiny_run}", "--json", OTHER, PUZZLE)
  one, other = alone["puzzles"][0], both["puzzles"][1]
  assert one["trace"] == other["trace"]
  np.testing.assert_allclose(
    one["halt_probability"], other["halt_probability"], rtol=1e-5
  )


def test_more_puzzles_than_a_batch_are_all_solved(tiny_run, tmp_path, command):
  path = tmp_path / "puzzles.txt"
  path.write_text(f"{PUZZLE}\n\n{OTHER}\n" * 10)
  found = command(solve, f"--workdir={tiny_run}", "--json", f"--file={path}")
  puzzles = [entry["puzzle"] for entry in found["puzzles"]]
  assert puzzles == [PUZZLE, OTHER] * 10


def test_a_long_file_is_answered_in_order_as_puzzle_by_puzzle(
  tiny_run, tmp_path, command, monkeypatch
):
  trained = load(tiny_run)
  trained = trained._replace(weights=random_like(trained.weights, seed=19))
  monkeypatch.setattr(ensemble, "load_from", lambda *_, **__: trained)
  monkeypatch.setattr(continuous_batching, "PUZZLES_PER_ROW", 2)
  path = tmp_path / "puzzles.txt"
  puzzles = np.load(tiny_run / "data/test/all__inputs.npy")
  puzzles = np.concatenate([puzzles] * 3)  # 81: three queues of 16 rows.
  path.write_text("\n".join(map(sudoku.to_text, puzzles)))
  found = command(solve, f"--workdir={tiny_run}", "--json", f"--file={path}")
  want = inference.solve(
    trained.model,
    trained.weights,
    {"inputs": puzzles, "puzzle_identifiers": np.zeros(81, int)},
    halt="act",
    observe=lambda output: output.logits.argmax(-1),
  )
  assert len(np.unique(want.segments)) > 1
  entries = found["puzzles"]
  assert [entry["segments"] for entry in entries] == want.segments.tolist()
  for i, entry in enumerate(entries):
    trace = want.trace[: want.segments[i], i]
    assert entry["puzzle"] == sudoku.to_text(puzzles[i])
    assert entry["trace"] == [sudoku.to_text(grid) for grid in trace]
  np.testing.assert_allclose(
    [entry["halt_probability"] for entry in entries],
    jax.nn.sigmoid(want.output.q_halt_logits),
    rtol=1e-5,
  )


def test_solutions_come_before_the_file_is_done(tiny_run, monkeypatch):
  monkeypatch.setattr(continuous_batching, "PUZZLES_PER_ROW", 1)
  trained, padded = load(tiny_run), []
  monkeypatch.setattr(
    solver,
    "pad_batch",
    lambda *args, pad=solver.pad_batch: padded.append(1) or pad(*args),
  )
  puzzles = np.stack([sudoku.parse(PUZZLE)] * 8)
  halting = solver.Solver(trained, halt="act", batch_size=2)
  for i, _ in enumerate(halting(puzzles)):
    # The queue after this one is under way, and no more.
    assert len(padded) == min(i // 2 + 2, 4)


def test_what_is_printed_for_a_person_can_be_solved_again(
  tiny_run, tmp_path, command, monkeypatch, capsys
):
  flags = [f"--workdir={tiny_run}", "--halt=full", "--trace", PUZZLE, OTHER]
  monkeypatch.setattr("sys.argv", ["solve", *flags])
  solve.main()
  path = tmp_path / "printed.txt"
  path.write_text(capsys.readouterr().out)
  found = command(solve, f"--workdir={tiny_run}", "--json", f"--file={path}")
  assert [entry["puzzle"] for entry in found["puzzles"]] == [PUZZLE, OTHER]


def test_the_rows_of_a_grid_may_be_arguments(tiny_run, command):
  rows = [OTHER[i : i + 4] for i in range(0, 16, 4)]
  found = command(solve, f"--workdir={tiny_run}", "--json", *rows)
  assert [entry["puzzle"] for entry in found["puzzles"]] == [OTHER]


def test_segments_can_be_more_or_fewer_than_in_training(tiny_run, command):
  flags = f"--workdir={tiny_run}", "--json", "--halt=full", PUZZLE
  trained = command(solve, *flags)
  for segments in (2, 5):
    found = command(solve, *flags, f"--segments={segments}")
    assert found["segments"] == segments
    (entry,) = found["puzzles"]
    assert entry["segments"] == len(entry["trace"]) == segments
    both = min(segments, 3)
    assert entry["trace"][:both] == trained["puzzles"][0]["trace"][:both]
  message = command.error(solve, *flags, "--segments=0")
  assert message == "--segments: expected at least 1, got 0."


def test_several_attempts_agree_on_an_answer(tiny_run, command, monkeypatch):
  trained = load(tiny_run)
  trained = trained._replace(weights=random_like(trained.weights, seed=19))
  monkeypatch.setattr(ensemble, "load_from", lambda *_, **__: trained)
  puzzles = np.load(tiny_run / "data/test/all__inputs.npy")
  texts = [sudoku.to_text(puzzle) for puzzle in puzzles]
  flags = f"--workdir={tiny_run}", "--json", *texts
  plain = command(solve, *flags)["puzzles"]
  several = command(solve, *flags, "--votes=3", "--noise=1", "--samples=2")
  changed = 0
  for one, other in zip(plain, several["puzzles"], strict=True):
    assert other["puzzle"] == one["puzzle"]
    assert other["attempts"] == 6
    assert 1 <= other["votes"] <= 6
    assert len(other["trace"]) == other["segments"]
    assert other["trace"][-1] == other["answer"]
    changed += other["answer"] != one["answer"]
    assert "votes" not in one
  assert 0 < changed < len(plain)


def test_a_person_is_told_how_many_attempts_agree(
  tiny_run, monkeypatch, capsys
):
  flags = [f"--workdir={tiny_run}", "--votes=2", "--verify", PUZZLE]
  monkeypatch.setattr("sys.argv", ["solve", *flags])
  solve.main()
  assert "attempts that agree: " in capsys.readouterr().out


def test_an_empty_stdin_is_no_puzzle(tiny_run, command, monkeypatch):
  monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
  assert "no puzzle given" in command.error(solve, f"--workdir={tiny_run}")


def test_puzzles_come_from_stdin(tiny_run, command, monkeypatch):
  monkeypatch.setattr("sys.stdin", io.StringIO(f"{PUZZLE}\n"))
  found = command(solve, f"--workdir={tiny_run}", "--json")
  assert len(found["puzzles"]) == 1


def test_a_person_gets_grids_and_a_trace(tiny_run, monkeypatch, capsys):
  arguments = ["solve", f"--workdir={tiny_run}", "--halt=full", "--trace"]
  monkeypatch.setattr("sys.argv", [*arguments, PUZZLE])
  solve.main()
  out = capsys.readouterr().out
  for segment in (1, 2, 3):
    assert f"after segment {segment}:" in out
  assert out.startswith("puzzle:\n1 . | . .\n. 2 | . 3\n----+----\n")
  for fact in ("segments used: 3", "halting probability: 0.", "the rules: "):
    assert fact in out


@pytest.mark.parametrize(
  ("puzzle", "message"),
  [
    ("1.2", "puzzle 1: expected 16 cells, or 4 of a row, got 3; read is a"),
    ("5...3..2..4...1.", "puzzle 1: cell 1: expected 1-4, '.' or '0', got '5'"),
    ("11..3..2..4...1.", "row 1 holds 1 twice, in columns 1 and 2"),
    ("", "puzzle 1: expected cells, got an empty argument."),
  ],
)
def test_a_bad_puzzle_gets_one_clear_line(tiny_run, command, puzzle, message):
  assert message in command.error(solve, f"--workdir={tiny_run}", puzzle)


def test_a_bad_line_of_a_file_is_named(tiny_run, tmp_path, command):
  path = tmp_path / "puzzles.txt"
  path.write_text(f"{PUZZLE}\n12\n")
  message = command.error(solve, f"--workdir={tiny_run}", f"--file={path}")
  assert f"{path}: line 2: expected 16 cells, or 4 of a row, got 2;" in message
  missing = tmp_path / "nothing.txt"
  message = command.error(solve, f"--workdir={tiny_run}", f"--file={missing}")
  assert f"{missing}: cannot be read" in message
  path.write_text("\n \n")
  message = command.error(solve, f"--workdir={tiny_run}", f"--file={path}")
  assert f"{path}: expected puzzles, got none; read is" in message

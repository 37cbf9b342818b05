#!/usr/bin/env bash
# From a fresh clone to a trained, evaluated model and one solved puzzle.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: bash launch/quickstart.sh [--help] [--dry-run] [--workdir DIR]

Makes a virtual environment in .venv (or reuses the one there) and installs
hrm_jax. Then trains a small model on 4x4 Sudoku, evaluates it on held-out
puzzles segment by segment and solves one puzzle. No GPU is needed; with two
cores it takes under ten minutes. Running it again resumes where it stopped.

The last line of standard output is the evaluation as a JSON object; progress
goes to standard error.

  --workdir DIR  where data, checkpoints and logs go (default:
                 runs/sudoku-mini in the repository)
  --dry-run      prints the commands, runs nothing

Environment:
  PYTHON         the Python to use, 3.11 or later (default: python3)
EOF
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workdir=
while (($#)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --dry-run)
      dry_run=true
      shift
      continue
      ;;
    --workdir=*) workdir=${1#*=} ;;
    --workdir)
      workdir=${2-}
      shift $(($# > 1))
      ;;
    *) unknown_argument "$1" ;;
  esac
  [[ -n $workdir ]] || die "--workdir expects a folder; see --help."
  shift
done
# A relative folder is the caller's.
[[ -z $workdir || $workdir == /* ]] || workdir=$PWD/$workdir

cd "$(dirname "${BASH_SOURCE[0]}")/.."
workdir=${workdir:-runs/sudoku-mini}
choose_python

say "installing into .venv"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  do_it "$python" -m venv .venv
fi
python=.venv/bin/python
do_it "$python" -m pip install -q -e .

say "training in $workdir"
do_it "$python" -m hrm_jax.train --config=configs/sudoku.py:mini \
  --workdir="$workdir"

say "evaluating on held-out puzzles"
if $dry_run; then
  do_it "$python" -m hrm_jax.evaluate --workdir="$workdir"
else
  evaluation=$("$python" -m hrm_jax.evaluate --workdir="$workdir" | tail -n 1)
fi

say "solving one puzzle"
do_it "$python" -m hrm_jax.solve --workdir="$workdir" '.41..3.231....31'

$dry_run || printf '%s\n' "$evaluation"

#!/usr/bin/env bash
# Lint, formatting and the whole test suite, in a fresh virtual environment.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: bash launch/test.sh [--help] [--dry-run] [pytest argument ...]

Makes a fresh virtual environment in .venv-test, installs hrm_jax with its test
tools, then runs ruff (lint and format), pyright (types) and every test that
needs no GPU.

  bash launch/test.sh                       everything
  bash launch/test.sh tests/test_sudoku.py  one file
  bash launch/test.sh -m 'not slow'         only the quick tests
  bash launch/test.sh --dry-run             prints the commands, runs nothing

Environment:
  PYTHON         the Python to use, 3.11 or later (default: python3)
  EXTRAS         what of setup.cfg's extras is installed (default: test); with
                 EXTRAS=test,tpu the tests that compile for TPUs run too
  JAX_PLATFORMS  where the tests run (default: cpu)
  HRM_DATA_DIR   folder with real data; tests that need it skip without it
EOF
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

for_pytest=()
for argument; do
  case $argument in
    -h | --help)
      usage
      exit 0
      ;;
    --dry-run) dry_run=true ;;
    *) for_pytest+=("$argument") ;;
  esac
done

extras=${EXTRAS:-test}
[[ $extras =~ ^[a-z]+(,[a-z]+)*$ && ,$extras, == *,test,* ]] ||
  die "EXTRAS: expected names with commas between, test among them," \
    "got '$extras'."
cd "$(dirname "${BASH_SOURCE[0]}")/.."
choose_python

say "installing into a fresh .venv-test"
do_it rm -rf .venv-test
do_it "$python" -m venv .venv-test
do_it .venv-test/bin/python -m pip install -q -e ".[$extras]"

say "ruff"
# Outside a git checkout ruff does not know that .gitignore excludes this.
exclude='extend-exclude=[".venv-test"]'
do_it .venv-test/bin/ruff check --config "$exclude"
do_it .venv-test/bin/ruff format --check --config "$exclude"

say "pyright"
do_it .venv-test/bin/python -m pyright --pythonpath .venv-test/bin/python

say "pytest"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# Two files at a time. Later ones among the arguments replace these options.
do_it .venv-test/bin/python -m pytest -n 2 --dist loadfile \
  --no-loadscope-reorder -m 'not gpu' \
  ${for_pytest[@]+"${for_pytest[@]}"}

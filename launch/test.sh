#!/usr/bin/env bash
# Lint, formatting and the whole test suite, in a fresh virtual environment.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: bash launch/test.sh [--help] [pytest argument ...]

Makes a fresh virtual environment in .venv-test, installs hrm_jax with its test
tools, then runs ruff (lint and format) and every test that needs no GPU.

  bash launch/test.sh                     everything
  bash launch/test.sh tests/test_data.py  one file
  bash launch/test.sh -m 'not slow'       only the quick tests

Environment:
  PYTHON         the Python to use, 3.11 or later (default: python3)
  JAX_PLATFORMS  where the tests run (default: cpu)
  HRM_DATA_DIR   folder with real data; tests that need it skip without it
EOF
}

say() { printf '==> %s\n' "$*" >&2; }

if [[ ${1-} == -h || ${1-} == --help ]]; then
  usage
  exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
recent='import sys; sys.exit(sys.version_info < (3, 11))'
if ! "$python" -c "$recent" 2>/dev/null; then
  echo "error: '$python' is not Python 3.11 or later; set PYTHON." >&2
  exit 2
fi

say "installing into a fresh .venv-test"
rm -rf .venv-test
"$python" -m venv .venv-test
.venv-test/bin/python -m pip install -q -e '.[test]'

say "ruff"
# Outside a git checkout ruff does not know that .gitignore excludes this.
exclude='extend-exclude=[".venv-test"]'
.venv-test/bin/ruff check --config "$exclude"
.venv-test/bin/ruff format --check --config "$exclude"

say "pytest"
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
# A later -m among the arguments replaces this one.
.venv-test/bin/python -m pytest -m 'not gpu' "$@"

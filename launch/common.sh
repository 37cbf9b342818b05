# shellcheck shell=bash
# Sourced by the scripts beside it: messages, dry runs, options, waiting. Works
# with bash 3.2 or later. slurm.sbatch cannot source it, and says why.

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  echo "launch/common.sh: what the other scripts share; they source it."
  exit 0
fi

# What hrm_jax.train exits with when a signal made it save and stop.
# shellcheck disable=SC2034  # Some of the scripts use it.
PREEMPTED=75

# A terminal that has closed takes no more lines, and ends nothing.
say() { printf '==> %s\n' "$*" >&2 || true; }
die() {
  echo "error: $*" >&2
  exit 2
}
unknown_argument() { die "unknown argument '$1'; see --help."; }

# quote WORD ...: one line that a shell reads back as these words.
quote() {
  local line
  printf -v line ' %q' "$@"
  printf '%s\n' "${line# }"
}

dry_run=false  # --dry-run: print the commands, run nothing
# do_it COMMAND ...: runs it, or prints it.
do_it() {
  if $dry_run; then quote "$@"; else "$@"; fi
}

# parse_options ARGUMENT ...: passes each to take_option, which the script
# defines; sets `arguments` to those behind "--".
parse_options() {
  arguments=()
  while (($#)); do
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      --dry-run) dry_run=true ;;
      --)
        shift
        arguments=("$@")
        return
        ;;
      *) take_option "$1" ;;
    esac
    shift
  done
}

# expect_arguments: dies unless something stood behind "--".
expect_arguments() {
  ((${#arguments[@]})) ||
    die "expected the arguments of Python behind '--'; see --help."
}

# expect_number OPTION: dies unless $OPTION is an integer from 1 on, and no
# larger than the shell can multiply by 60.
expect_number() {
  [[ ${!1} =~ ^[1-9][0-9]{0,8}$ ]] ||
    die "--$1: expected an integer from 1 to 999999999, got '${!1}'."
}

# choose_python: sets `python` to the one that makes virtual environments.
choose_python() {
  local recent='import sys; sys.exit(sys.version_info < (3, 11))'
  python=${PYTHON:-python3}
  "$python" -c "$recent" 2>/dev/null ||
    die "'$python' is not Python 3.11 or later; set PYTHON."
}

# wait_for PID: waits for a child; the result is its exit code.
wait_for() {
  while kill -0 "$1" 2>/dev/null; do
    wait "$1" || true  # A signal ends the wait, not the child.
  done
  wait "$1"
}

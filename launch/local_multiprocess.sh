#!/usr/bin/env bash
# Several processes of one run on this machine.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/local_multiprocess.sh --processes=N [--devices=D]
           [--port=P] [--grace=S] [--dry-run] [--help] -- PYTHON-ARGUMENT ...

Starts N Python processes that find each other, the way that N machines would,
and waits for them. Each gets the arguments behind "--" and --coordinator,
--num-processes and --process-id.

  bash launch/local_multiprocess.sh --processes=2 --devices=4 -- \
      -m hrm_jax.train --config=configs/sudoku.py:mini --workdir=runs/two

  --processes=N  how many
  --devices=D    gives each process D CPU devices; without it the environment
                 decides, so that each process takes every device it sees
  --port=P       of process 0, where the others join (default: a free one)
  --grace=S      seconds a process has to end after a signal before it is
                 killed (default: 120)
  --dry-run      prints the commands, runs nothing

Output of process 0 passes through; the others' goes to stderr behind their
number. When one fails, the others are ended (TERM, then KILL) and its exit
code is returned; 75 means that the run was preempted and saved: the same
command goes on with it. INT is passed on to all processes as it is, and TERM,
HUP, USR1 and USR2 as TERM.

Environment:
  PYTHON         the Python to use (default: python3)
USAGE
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=launch/supervise.sh
source "$(dirname "${BASH_SOURCE[0]}")/supervise.sh"

processes='' devices='' port='' grace=120
take_option() {
  case $1 in
    --processes=*) processes=${1#*=} ;;
    --devices=*) devices=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    *) unknown_argument "$1" ;;
  esac
}
parse_options "$@"
[[ -n $processes ]] || die "expected --processes=N; see --help."
for option in processes devices port grace; do
  [[ -z ${!option} ]] || expect_number "$option"
done
expect_arguments

python=${PYTHON:-python3}
free='import socket; s = socket.create_server(("127.0.0.1", 0));
print(s.getsockname()[1])'
[[ -n $port ]] || port=$("$python" -c "$free") ||
  die "'$python' does not run; set PYTHON."

settings=()
if [[ -n $devices ]]; then
  settings=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices")
fi
# command_of I: sets `command`.
command_of() {
  command=(
    ${settings[@]+"${settings[@]}"} "$python" "${arguments[@]}"
    "--coordinator=127.0.0.1:$port" "--num-processes=$processes"
    "--process-id=$1"
  )
}

if $dry_run; then
  for ((i = 0; i < processes; i++)); do
    command_of "$i"
    quote "${command[@]}"
  done
  exit 0
fi

has_jax='import importlib.util, sys; sys.exit(not importlib.util.find_spec("jax"))'
"$python" -c "$has_jax" ||
  die "'$python' has no jax; activate its environment, or set PYTHON."

set_up
for ((i = 0; i < processes; i++)); do
  command_of "$i"
  launch "${command[@]}"
done
supervise

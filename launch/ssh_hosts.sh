#!/usr/bin/env bash
# One process on each of several machines, over ssh.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/ssh_hosts.sh --hosts=HOST,... | --hosts-file=FILE
           [--dir=DIR] [--env=NAME=VALUE ...] [--coordinator=HOST:PORT]
           [--timeout=S] [--grace=S] [--dry-run] [--help]
           -- PYTHON-ARGUMENT ...

Starts one Python process per host, each with all devices of its machine, and
waits for them. Each gets the arguments behind "--" and --coordinator,
--num-processes and --process-id. Process 0 runs on the first host.

  bash launch/ssh_hosts.sh --hosts=node1,me@node2 --env=NCCL_DEBUG=INFO -- \
      -m hrm_jax.train --config=configs/sudoku.py --workdir=/shared/runs/a

  --hosts=A,B    the machines, as ssh takes them; ssh must not ask for anything
  --hosts-file=F the same, one on each line; '#' starts a comment
  --dir=DIR      the repository on every machine (default: this one's);
                 ~/ is the home directory there
  --env=N=V      a variable for every process; may be given several times
  --coordinator=HOST:PORT
                 where the others reach process 0 (default: the first host,
                 port 5510)
  --timeout=S    seconds a host has to answer ssh before it counts as down
                 (default: 30)
  --grace=S      seconds a process has to end after TERM before it is killed
                 (default: 120)
  --dry-run      prints the commands, runs nothing

Output of process 0 passes through; the others' goes to stderr behind their
number. When one fails, the others are ended and its exit code is returned. INT,
TERM, HUP, USR1 and USR2 send TERM to all processes, and so does a lost
connection: the run saves and stops with code 75. The same command goes on with it. The workdir
must lie on a file system that every machine sees.

Environment:
  PYTHON         the Python on every machine, from DIR (default: python3)
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$here/common.sh"
# shellcheck source=launch/supervise.sh
source "$here/supervise.sh"

hosts=() settings=() coordinator='' timeout=30 grace=120
directory=$(dirname "$here")
take_option() {
  case $1 in
    --hosts=*)
      [[ ,${1#*=}, != *,,* && ${1#*=} != *[[:space:]]* ]] ||
        die "--hosts: expected HOST,HOST,... without spaces, got '${1#*=}'."
      IFS=, read -r -a hosts <<<"${1#*=}"
      ;;
    --hosts-file=*)
      [[ -r ${1#*=} ]] || die "--hosts-file: cannot read '${1#*=}'."
      while read -r host _ || [[ -n $host ]]; do
        [[ -z $host || $host == \#* ]] || hosts+=("${host%%#*}")
      done <"${1#*=}"
      ;;
    --dir=*) directory=${1#*=} ;;
    --env=[A-Za-z_]*=*) settings+=("${1#*=}") ;;
    --coordinator=*:*) coordinator=${1#*=} ;;
    --timeout=*) timeout=${1#*=} ;;
    --grace=*) grace=${1#*=} ;;
    *) unknown_argument "$1" ;;
  esac
}
parse_options "$@"
((${#hosts[@]})) || die "expected --hosts=HOST,... ; see --help."
expect_number timeout
expect_number grace
expect_arguments
coordinator=${coordinator:-${hosts[0]##*@}:5510}

# Our shell leaves the ~ of --dir=~/x to us; it means the home over there.
case $directory in
  \~) change="cd ~" ;;
  \~/*) change="cd ~/$(quote "${directory#\~/}")" ;;
  \~*) die "--dir: expected a path, or one that begins with ~/," \
    "got '$directory'." ;;
  *) change="cd $(quote "$directory")" ;;
esac

# What runs over there. ssh passes no signals on, so the end of stdin means
# TERM: it comes when we stop, and also when the connection breaks.
# shellcheck disable=SC2016
remote='exec 3<&0; "$@" </dev/null 3<&- & pid=$!; '
# shellcheck disable=SC2016
remote+='{ read -r _; kill -TERM $pid; while [ $grace -gt 0 ] && kill -0 $pid; '
# shellcheck disable=SC2016
remote+='do sleep 1; grace=$((grace - 1)); done; kill -KILL $pid; } '
# shellcheck disable=SC2016
remote+='<&3 >/dev/null 2>&1 3<&- & watcher=$!; wait $pid 2>/dev/null; '
# shellcheck disable=SC2016
remote+='code=$?; kill $watcher 2>/dev/null; exit $code'

# command_of I: sets `command`.
command_of() {
  local words
  words=$(quote env ${settings[@]+"${settings[@]}"} "${PYTHON:-python3}" \
    "${arguments[@]}" "--coordinator=$coordinator" \
    "--num-processes=${#hosts[@]}" "--process-id=$1")
  # So does bash quote them, and other shells do not read that.
  [[ $change$words != *"\$'"* ]] ||
    die "expected arguments, variables and a --dir of printable characters," \
      "got a newline or the like in: $words"
  command=(
    ssh -o BatchMode=yes -o "ConnectTimeout=$timeout"
    -o ServerAliveInterval=15 "${hosts[$1]}"
    "$change && grace=$grace && set -- $words && $remote"
  )
}

if $dry_run; then
  for i in "${!hosts[@]}"; do
    command_of "$i"
    quote "${command[@]}"
  done
  exit 0
fi

# connect I COMMAND ...: an ssh whose stdin stays open until TERM or INT.
connect() {
  local number=$1 keep_open=$scratch/stdin.$1 holder ssh status=0
  shift
  mkfifo "$keep_open"
  sleep 2147483647 >"$keep_open" &
  holder=$!
  # Waited for, so that bash does not comment on its end.
  trap '{ kill "$holder"; wait "$holder" || true; } 2>/dev/null' TERM INT
  "$@" <"$keep_open" &
  ssh=$!
  wait_for "$ssh" || status=$?
  { kill "$holder" && wait "$holder"; } 2>/dev/null || true
  # Of itself ssh names an address, or nothing.
  ((status != 255)) ||
    echo "error: ${hosts[$number]}: no connection, or it is lost (ssh: 255)" >&2
  return "$status"
}

# The other side kills at the end of its grace; here there is more time, for
# the news of it to arrive.
set_up
for i in "${!hosts[@]}"; do
  command_of "$i"
  launch connect "$i" "${command[@]}"
done
grace=$((grace + 10)) supervise

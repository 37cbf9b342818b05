# shellcheck shell=bash
# Sourced by local_multiprocess.sh and ssh_hosts.sh after common.sh: several
# processes that live and end as one. Works with bash 3.2 or later.

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  echo "launch/supervise.sh: lets processes end as one; others source it."
  exit 0
fi

pids=()     # by number of the process; empty when it has ended
readers=()  # what prefixes their output
scratch=    # holds the pipes to the readers
code=0      # of the process that failed first
stop_at=    # in SECONDS; set once the processes were asked to end

# launch COMMAND ...: starts the next process. The first one's output passes
# through; the others' goes to stderr, each line behind the process's number.
launch() {
  local i=${#pids[@]}
  # With job control each process leads a process group of its own: an
  # interrupt from the terminal reaches it once, through us, and no descendant
  # outlives it.
  set -m
  if ((i == 0)); then
    "$@" </dev/null &
    pids[i]=$!
    set +m
    return
  fi
  mkfifo "$scratch/$i"
  while IFS= read -r line || [[ -n $line ]]; do
    # A terminal that has closed takes no more lines; the process goes on.
    printf '[%s] %s\n' "$i" "$line" >&2 || true
  done <"$scratch/$i" &
  readers[i]=$!
  "$@" </dev/null >"$scratch/$i" 2>&1 &
  pids[i]=$!
  set +m
}

# stop_all SIGNAL
stop_all() {
  local i
  for i in "${!pids[@]}"; do
    [[ -z ${pids[i]} ]] || kill -s "$1" -- "${pids[i]}" 2>/dev/null || true
  done
}

on_signal() {
  say "$1: passed on to every process"
  stop_all "$1"
  # A second signal does not extend the time.
  stop_at=${stop_at:-$((SECONDS + grace))}
}

# set_up: call before the first launch.
set_up() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  # The processes take all of these for the same wish.
  trap 'on_signal TERM' TERM HUP USR1 USR2
  trap 'on_signal INT' INT
}

# supervise: waits until all processes have ended; the result is the exit code
# of the one that failed first, or 0. Needs $grace, in seconds.
supervise() {
  local i pid status running left=${#pids[@]}
  while ((left)); do
    running=" $(jobs -rp | tr '\n' ' ') "
    for i in "${!pids[@]}"; do
      pid=${pids[i]}
      [[ -n $pid && $running != *" $pid "* ]] || continue
      status=0
      # Mute: bash comments on processes that a signal ended.
      wait "$pid" 2>/dev/null || status=$?
      pids[i]=
      left=$((left - 1))
      # What it may have left behind.
      kill -s KILL -- "-$pid" 2>/dev/null || true
      ((status)) || continue
      ((code)) || code=$status
      [[ -z $stop_at ]] || continue
      stop_at=$((SECONDS + grace))
      if ((status == PREEMPTED)); then
        say "process $i was preempted; the others have $grace s to end"
      else
        say "process $i exited with code $status; ending the others"
        stop_all TERM
      fi
    done
    if [[ -n $stop_at ]] && ((SECONDS >= stop_at)); then
      for i in "${!pids[@]}"; do
        [[ -n ${pids[i]} ]] || continue
        say "process $i did not end within $grace s: killed"
        kill -s KILL -- "-${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
      done
    fi
    sleep 0.2
  done
  for pid in ${readers[@]+"${readers[@]}"}; do
    wait "$pid" 2>/dev/null || true
  done
  return "$code"
}

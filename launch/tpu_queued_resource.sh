#!/usr/bin/env bash
# A Cloud TPU that is queued for, used, and queued for again when taken away.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/tpu_queued_resource.sh ACTION --name=NAME --zone=ZONE
           [--project=PROJECT] [--accelerator=TYPE] [--version=IMAGE]
           [--on-demand] [--setup-command=COMMAND] [--attempts=N]
           [--dry-run] [--help] [-- PYTHON-ARGUMENT ...]

  create  queues for the TPU, a spot one unless --on-demand is given
  status  prints its state
  run     creates it if need be, waits for it, sets it up and runs Python with
          the arguments behind "--" on all hosts; when the TPU is taken away
          or the run stops with code 75, begins again
  delete  gives it back

  bash launch/tpu_queued_resource.sh run --name=hrm --zone=us-west4-a \
      --accelerator=v5litepod-16 --setup-command='sudo mkdir -p /mnt/runs &&
          sudo mount -t nfs 10.0.0.2:/runs /mnt/runs' -- \
      -m hrm_jax.train --config=configs/sudoku.py --workdir=/mnt/runs/a

  --accelerator=TYPE
                 default: v5litepod-8
  --version=IMAGE
                 of the hosts (default: v2-alpha-tpuv5-lite; v6e wants
                 v2-alpha-tpuv6e)
  --setup-command=COMMAND
                 see launch/tpu_vm.sh
  --attempts=N   how often `run` begins at most (default: 100)
  --dry-run      prints the commands, runs nothing

The same `run` goes on with the same workdir. It does not delete the TPU at
its end: `delete` does.

Environment:
  TPU_PAUSE      seconds from one look at its state to the next (default: 30)
USAGE
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

action='' name='' accelerator=v5litepod-8 version=v2-alpha-tpuv5-lite
setup=() price=(--spot) attempts=100 where=()
take_option() {
  case $1 in
    create | status | run | delete) action=$1 ;;
    --name=?*) name=${1#*=} ;;
    --zone=?* | --project=?*) where+=("$1") ;;
    --accelerator=?*) accelerator=${1#*=} ;;
    --version=?*) version=${1#*=} ;;
    --on-demand) price=() ;;
    --setup-command=*) setup=("$1") ;;
    --attempts=?*) attempts=${1#*=} ;;
    *) unknown_argument "$1" ;;
  esac
}
parse_options "$@"
[[ -n $action ]] || die "expected create, status, run or delete; see --help."
[[ -n $name ]] || die "expected --name=NAME; see --help."
[[ ${where[*]-} == *--zone=* ]] || die "expected --zone=ZONE; see --help."
expect_number attempts
[[ $action != run ]] || ((${#arguments[@]})) ||
  die "run: expected the arguments of Python behind '--'; see --help."

tpu_vm=$(dirname "${BASH_SOURCE[0]}")/tpu_vm.sh
pause=${TPU_PAUSE:-30}

queued() {
  local verb=$1
  shift
  do_it gcloud compute tpus queued-resources "$verb" "$name" "${where[@]}" "$@"
}
create() {
  queued create "--node-id=$name" "--accelerator-type=$accelerator" \
    "--runtime-version=$version" ${price[@]+"${price[@]}"}
}
delete() { queued delete --force --quiet; }
status() { queued describe '--format=value(state.state)'; }
on_hosts() {
  local verb=$1
  shift
  do_it bash "$tpu_vm" "$verb" "--name=$name" "${where[@]}" "$@"
}

# look: sets `state`; NONE is what does not exist. Without an answer, which
# says nothing about the TPU, it asks again, for an hour at most.
look() {
  local attempt problem before=''
  for ((attempt = 0; attempt < 120; attempt++)); do
    if state=$(status 2>"$complaints"); then return; fi
    problem=$(tail -n 1 "$complaints")
    if grep -q -e NOT_FOUND -e 'was not found' "$complaints"; then
      state=NONE
      return
    fi
    [[ $problem == "$before" ]] ||
      say "$name: state unknown, asking again: $problem"
    before=$problem
    sleep "$pause"
  done
  die "$name: state unknown: $problem"
}

# Brings the TPU to ACTIVE, from whatever state it is in.
obtain() {
  local before='' refused=0
  while :; do
    look
    [[ $state == "$before" ]] || say "$name: $state"
    before=$state
    case $state in
      ACTIVE) return ;;
      NONE)
        create && continue
        refused=$((refused + 1))
        ((refused < 5)) || die "$name: cannot be created."
        sleep "$pause"
        ;;
      # Taken away, or never to come: it has to go before it can be asked for.
      FAILED | SUSPENDED) delete ;;
      # In the queue, or on the way between two of the above.
      *) sleep "$pause" ;;
    esac
  done
}

case $action in
  create | status | delete) "$action" ;;
  run)
    if $dry_run; then
      create
      status
      on_hosts setup ${setup[@]+"${setup[@]}"}
      on_hosts run -- "${arguments[@]}"
      exit 0
    fi
    child='' state=''
    stopped=false
    complaints=$(mktemp)
    trap 'rm -f "$complaints"' EXIT
    # shellcheck disable=SC2317,SC2329  # The trap calls it.
    on_signal() {
      stopped=true
      [[ -z $child ]] || kill -TERM "$child" 2>/dev/null || true
      # Without a run there is nothing to save.
      [[ -n $child ]] || exit 143
    }
    trap 'on_signal' INT TERM HUP
    for ((attempt = 1; attempt <= attempts; attempt++)); do
      obtain
      on_hosts setup ${setup[@]+"${setup[@]}"} || {
        say "attempt $attempt: the setup failed"
        sleep "$pause"
        continue
      }
      # A process group of its own: see tpu_vm.sh.
      set -m
      bash "$tpu_vm" run "--name=$name" "${where[@]}" -- "${arguments[@]}" \
        </dev/null &
      child=$!
      set +m
      code=0
      wait_for "$child" || code=$?
      child=
      if ((code == 0)) || $stopped; then exit "$code"; fi
      look
      # That of ssh: it may have lost the TPU some minutes before the state
      # says so.
      for ((i = 0; i < 6 && code == 255; i++)); do
        [[ $state == ACTIVE ]] || break
        sleep "$pause"
        look
      done
      say "attempt $attempt: exit code $code, the TPU is $state"
      # The run's own mistake would be made again.
      ((code == PREEMPTED)) || [[ $state != ACTIVE ]] || exit "$code"
    done
    die "gave up after $attempts attempts."
    ;;
esac

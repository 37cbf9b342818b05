#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU VM.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/tpu_vm.sh ACTION --name=TPU --zone=ZONE [--project=PROJECT]
           [--setup-command=COMMAND] [--dry-run] [--help]
           [-- PYTHON-ARGUMENT ...]

Works on every host of a TPU that exists already; JAX finds the hosts itself.

  setup   copies this commit to ~/hrm_jax and installs it in ~/hrm_jax/.venv
  run     runs Python with the arguments behind "--" in ~/hrm_jax, and waits
  stop    sends TERM to what `run` started: the run saves and stops with 75

  bash launch/tpu_vm.sh setup --name=my-v5e-16 --zone=us-west4-a \
      --setup-command='sudo mkdir -p /mnt/runs &&
          sudo mount -t nfs 10.0.0.2:/runs /mnt/runs'
  bash launch/tpu_vm.sh run --name=my-v5e-16 --zone=us-west4-a -- \
      -m hrm_jax.train --config=configs/sudoku.py --workdir=/mnt/runs/a

  --name=TPU     its name; --zone and --project as gcloud takes them
  --setup-command=COMMAND
                 also run by `setup` on every host, for example to mount the
                 file system of the workdir, which every host must see
  --dry-run      prints the commands, runs nothing

INT and TERM make `run` do what `stop` does. The same `run` goes on with the
same workdir.
USAGE
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

action='' name='' setup_command='' where=()
take_option() {
  case $1 in
    setup | run | stop) action=$1 ;;
    --name=?*) name=${1#*=} ;;
    --zone=?* | --project=?*) where+=("$1") ;;
    --setup-command=*) setup_command=${1#*=} ;;
    *) unknown_argument "$1" ;;
  esac
}
parse_options "$@"
[[ -n $action ]] || die "expected setup, run or stop; see --help."
[[ -n $name ]] || die "expected --name=TPU; see --help."
[[ ${where[*]-} == *--zone=* ]] || die "expected --zone=ZONE; see --help."
[[ $action != run ]] || ((${#arguments[@]})) ||
  die "run: expected the arguments of Python behind '--'; see --help."
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# everywhere COMMAND: runs a line of shell on every host.
everywhere() {
  do_it gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
    --command="$1"
}

# The number may be an old one, and another process's by now: only what runs in
# that folder gets the signal.
# shellcheck disable=SC2016
stop() {
  local command='pid=$(cat ~/hrm_jax/.run.pid) && '
  command+='[ /proc/$pid/cwd -ef ~/hrm_jax ] && kill -TERM $pid'
  everywhere "$command"
}

case $action in
  setup)
    archive=${TMPDIR:-/tmp}/hrm_jax.tar.gz
    do_it git archive --format=tar.gz --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" \
      "$name:/tmp/hrm_jax.tar.gz" "${where[@]}" --worker=all
    command='mkdir -p ~/hrm_jax && tar xzf /tmp/hrm_jax.tar.gz -C ~/hrm_jax'
    command+=' && cd ~/hrm_jax && python3 -m venv .venv'
    command+=" && .venv/bin/python -m pip install -q -e '.[tpu]'"
    everywhere "$command"
    [[ -z $setup_command ]] || everywhere "$setup_command"
    ;;
  run)
    # The shell writes its number down and becomes the run.
    # shellcheck disable=SC2016
    command='cd ~/hrm_jax && echo $$ >.run.pid && exec .venv/bin/python '
    command+=$(quote "${arguments[@]}")
    if $dry_run; then
      everywhere "$command"
      exit 0
    fi
    # In the background, so that a signal is acted on at once; in a process
    # group of its own, so that an interrupt from the terminal ends the run
    # over there and not the connection.
    set -m
    everywhere "$command" </dev/null &
    set +m
    run=$!
    trap 'say "stopping the run"; stop || true' INT TERM
    code=0
    wait_for "$run" || code=$?
    exit "$code"
    ;;
  stop) stop ;;
esac

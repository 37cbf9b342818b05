#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU VM.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/tpu_vm.sh ACTION --name=TPU --zone=ZONE [--project=PROJECT]
           [--setup-command=COMMAND] [--dry-run] [--help]
           [-- PYTHON-ARGUMENT ...]

Works on every host of a TPU that exists already; JAX finds the hosts itself.

  setup   copies this commit to ~/hrm_jax and installs it in ~/hrm_jax/.venv,
          with the newest Python there, which has to be 3.11 or later
  run     runs Python with the arguments behind "--" in ~/hrm_jax, and waits
  stop    sends TERM to what `run` started: the run saves and stops with 75

  bash launch/tpu_vm.sh setup --name=my-v5e-16 --zone=us-west4-a \
      --setup-command='sudo mkdir -p /mnt/runs &&
          sudo mount -t nfs 10.0.0.2:/runs /mnt/runs'
  bash launch/tpu_vm.sh run --name=my-v5e-16 --zone=us-west4-a -- \
      -m hrm_jax.train --config=configs/sudoku.py --workdir=/mnt/runs/a

  --name=TPU     its name; --zone and --project as gcloud takes them
  --setup-command=COMMAND
                 run by `setup` on every host before it installs, to mount the
                 file system of the workdir, which every host must see, or to
                 install a Python where the image (Ubuntu 22.04) has 3.10:
                 'sudo add-apt-repository -y ppa:deadsnakes/ppa &&
                 sudo apt-get install -y python3.12-venv'
  --dry-run      prints the commands, runs nothing

INT, TERM and HUP (a closed terminal) make `run` do what `stop` does. A `run`
first stops one that is still going, and one whose connection is lost stops with
75. The same `run` goes on with the same workdir.
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
is_running='[ /proc/$pid/cwd -ef ~/hrm_jax ]'
# shellcheck disable=SC2016
stop() {
  everywhere \
    'pid=$(cat ~/hrm_jax/.run.pid) && '"$is_running"' && kill -TERM $pid'
}

# What `setup` does on a host once the commit is there. An environment that is
# of use stays: a run may still be going in it. Debian's Pythons come without
# ensurepip, and then make none.
# shellcheck disable=SC2016
install() {
  local command='cd ~/hrm_jax && recent() { "$1" -c "import $2, sys; '
  command+='sys.exit(sys.version_info < (3, 11))" 2>/dev/null; }; '
  command+='if ! recent .venv/bin/python pip; then '
  command+='for python in python3.13 python3.12 python3.11 python3 none; do '
  command+='if recent $python ensurepip; then break; fi; done; '
  command+='if [ $python = none ]; then echo "error: expected Python 3.11 or '
  command+='later with venv, found $(python3 --version 2>&1); '
  command+='--setup-command can install one." >&2; exit 1; fi; '
  command+='$python -m venv --clear .venv || exit 1; fi; '
  command+=".venv/bin/python -m pip install -q -e '.[tpu]'"
  everywhere "$command"
}

# When a connection breaks, gcloud runs the command again, up to ten times, and
# the first Python knows nothing of it. The repetition, told by `id`, ends it
# and then itself: the other hosts have stopped with 75, so there is no run to
# join.
# shellcheck disable=SC2016
run() {
  local id command
  id=$(date +%s).$$
  command='pid=$(cat ~/hrm_jax/.run.pid 2>/dev/null); left=120; '
  # Once: a second TERM would not let it save.
  command+="$is_running && "'kill -TERM $pid; '
  command+="while $is_running; do sleep 1; "'left=$((left - 1)); '
  command+='[ $left -gt 0 ] || kill -KILL $pid; done; '
  command+='cd ~/hrm_jax && if [ "$(cat .run.id 2>/dev/null)" = '"$id ]; then "
  command+='echo "the connection was lost; the run has stopped" >&2; '
  command+="exit $PREEMPTED; fi && echo $id >.run.id && "
  # The shell writes its number down and becomes the run.
  command+='echo $$ >.run.pid && exec .venv/bin/python '
  everywhere "$command$(quote "${arguments[@]}")"
}

case $action in
  setup)
    archive=${TMPDIR:-/tmp}/hrm_jax.tar.gz
    do_it git archive --format=tar.gz --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" \
      "$name:/tmp/hrm_jax.tar.gz" "${where[@]}" --worker=all
    everywhere \
      'mkdir -p ~/hrm_jax && tar xzf /tmp/hrm_jax.tar.gz -C ~/hrm_jax'
    [[ -z $setup_command ]] || everywhere "$setup_command"
    install
    ;;
  run)
    if $dry_run; then
      run
      exit 0
    fi
    # In the background, so that a signal is acted on at once; in a process
    # group of its own, so that an interrupt from the terminal ends the run
    # over there and not the connection.
    set -m
    run </dev/null &
    set +m
    child=$!
    trap 'say "stopping the run"; stop || true' INT TERM HUP
    code=0
    wait_for "$child" || code=$?
    exit "$code"
    ;;
  stop) stop ;;
esac

#!/usr/bin/env bash
# A published recipe from the data to a row of docs/results.md.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: bash launch/reproduce.sh sudoku-1k|maze-1k|arc-1 [--source=DIR]
           [--workdir=DIR] [--minutes=M [--finish]] [--results=FILE]
           [--dry-run] [--help] [-- --config.KEY=VALUE ...]

Builds the data of a recipe with a fixed seed, trains it, scores the best
checkpoint on all test puzzles, draws the curves, exports the weights with their
model card, and adds a row to docs/results.md. What is done already is not done
again: the same command goes on after anything that stopped it.

  bash launch/reproduce.sh sudoku-1k
  bash launch/reproduce.sh sudoku-1k --source=tables --minutes=9 -- \
      --config.global_batch_size=768 --config.lr=1e-4 \
      --config.puzzle_emb_lr=1e-4

What was published for them stands in the docstrings of configs/sudoku.py,
maze.py and arc.py: for sudoku-1k 55.0 %, after 10 hours on a laptop's RTX 4070,
or with the keys above 10 minutes on 8 GPUs.

  --source=DIR    reads the data from here, not from the Hub: train.csv and
                  test.csv, or for arc-1, which needs it, the checkouts ARC-AGI
                  and ConceptARC (launch/README.md has the commands)
  --workdir=DIR   where everything goes (default: runs/reproduce/ and the name
                  of the recipe, in the repository; git ignores it)
  --minutes=M     stops within M minutes, saved, with exit code 75: the same
                  command goes on, and several such calls make one run
  --finish        trains no further: scores, exports and adds the row, which
                  says how many updates of the recipe were done
  --results=FILE  the page for the row (default: docs/results.md)
  --dry-run       prints the commands, runs nothing

Arguments behind "--" are added to those of hrm_jax.train. While it trains, it
is scored on 2,000 test puzzles, the same ones every time
(--config.eval.limit); the best checkpoint is chosen by these, which are among
those of the row.

The last tenth of the minutes, 10 s at least, is left for saving. An evaluation
that does not fit is given up, and made by the next call. What follows training
is not cut off; where more than half of the minutes are over, it waits for the
next call.

The last line of standard output is one JSON object; progress goes to standard
error.

Environment:
  PYTHON          the Python to use, with hrm_jax's dependencies (default:
                  python3)
EOF
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

task='' source='' workdir='' minutes='' finish=false results=''
take_option() {
  case $1 in
    sudoku-1k | maze-1k | arc-1)
      [[ -z $task ]] || die "expected one recipe, got $task and $1."
      task=$1
      ;;
    --source=*) source=${1#*=} ;;
    --workdir=*) workdir=${1#*=} ;;
    --minutes=*)
      minutes=${1#*=}
      expect_number minutes
      ;;
    --finish) finish=true ;;
    --results=*) results=${1#*=} ;;
    -*) unknown_argument "$1" ;;
    *) die "expected sudoku-1k, maze-1k or arc-1, got '$1'; see --help." ;;
  esac
}
given=("$@")
parse_options "$@"
[[ -n $task ]] ||
  die "expected a recipe: sudoku-1k, maze-1k or arc-1; see --help."
for argument in ${arguments[@]+"${arguments[@]}"}; do
  case $argument in
    --config | --config=* | --workdir | --workdir=* | --max-seconds*)
      die "behind '--': expected other arguments than ${argument%%=*}, which" \
        "the script gives itself; see --help."
      ;;
  esac
done
[[ $task != arc-1 || -n $source ]] || die "arc-1: expected --source=DIR with" \
  "checkouts of fchollet/ARC-AGI and victorvikram/ConceptARC; see --help."
[[ -z $source || -d $source ]] ||
  die "--source: expected a folder, got '$source'."

# Relative folders are the caller's.
for option in source workdir results; do
  [[ -z ${!option} || ${!option} == /* ]] ||
    printf -v "$option" %s "$PWD/${!option}"
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
workdir=${workdir:-runs/reproduce/$task}
results=${results:-docs/results.md}
[[ -d $(dirname "$results") && ! -d $results ]] ||
  die "--results: expected a file in a folder that is there, got '$results'."
python=${PYTHON:-python3}
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
kept=$workdir/reproduce

# The command as it stands in the row: folders are somebody's disk.
repeat="bash launch/reproduce.sh $task"
[[ -z $source ]] || repeat+=" --source=DIR"
[[ -z $minutes ]] || repeat+=" --minutes=$minutes"
((${#arguments[@]} == 0)) || repeat+=" -- $(quote "${arguments[@]}")"

child='' signalled=false
# shellcheck disable=SC2317,SC2329  # The traps call it.
on_signal() {
  signalled=true
  # Without a command there is nothing to save.
  [[ -n $child ]] || exit "$PREEMPTED"
  kill -s "$1" "$child" 2>/dev/null || true
}

# stage FILE COMMAND ...: runs it, passes signals on to it, and ends the script
# after one. FILE gets what it prints, all or nothing.
stage() {
  local file=$1 status=0
  shift
  if $dry_run; then
    quote "$@"
    return
  fi
  # A process group of its own: an interrupt from the terminal reaches it once.
  set -m
  "$@" </dev/null >"$file.partial" &
  child=$!
  set +m
  wait_for "$child" || status=$?
  child=
  if ((status == 0 || status == PREEMPTED)); then
    mv "$file.partial" "$file"
  else
    rm -f "$file.partial"
  fi
  ! $signalled || exit "$((status ? status : PREEMPTED))"
  return "$status"
}

# once FILE COMMAND ...: a stage whose result may be there already.
once() {
  if $dry_run || [[ ! -e $1 ]]; then stage "$@"; fi
}

# again WHY: asks for the same command.
again() {
  say "$1; the same command goes on: bash launch/reproduce.sh $(quote \
    "${given[@]}")"
  exit "$PREEMPTED"
}

build_data() {
  local out=(--output-dir "$workdir/data" --seed 0)
  local csv=(${source:+--source-csv "$source"})
  case $task in
    sudoku-1k)
      stage "$kept/data.json" "$python" -m data_tools.build_sudoku \
        "${out[@]}" ${csv[@]+"${csv[@]}"} --subsample-size 1000 \
        --num-aug 1000 --keep-ratings
      ;;
    maze-1k)
      stage "$kept/data.json" "$python" -m data_tools.build_maze \
        "${out[@]}" ${csv[@]+"${csv[@]}"}
      ;;
    arc-1)
      stage "$kept/data.json" "$python" -m data_tools.build_arc "${out[@]}" \
        --dataset-dirs "$source/ARC-AGI/data" "$source/ConceptARC/corpus"
      ;;
  esac
}

# train: trains to the end, or exits with 75 when the time is up.
train() {
  local config=sudoku.py seconds='' margin status=0 progress
  [[ $task != maze-1k ]] || config=maze.py
  [[ $task != arc-1 ]] || config=arc.py
  if [[ -n $minutes ]]; then
    $dry_run && SECONDS=0
    seconds=$((minutes * 60 - SECONDS))
    margin=$((minutes * 6 < 10 ? 10 : minutes * 6))
    seconds=$((seconds - margin))
    ((seconds > 0)) || again "the data took all of $minutes min"
  fi
  stage "$kept/train.json" "$python" -m hrm_jax.train \
    --config="configs/$config" --workdir="$workdir" --config.data.path= \
    --config.eval.limit=2000 ${seconds:+--max-seconds="$seconds"} \
    ${arguments[@]+"${arguments[@]}"} || status=$?
  $dry_run && return
  ((status == 0 || status == PREEMPTED)) || exit "$status"
  progress=$("$python" launch/reproduced.py call --workdir="$workdir" \
    "$kept/train.json")
  if ((status == PREEMPTED)); then
    [[ $progress == advanced || -z $minutes ]] ||
      die "no update and no evaluation came to its end: expected more" \
        "--minutes than $minutes, or a smaller --config.eval.limit."
    again "the time is up"
  fi
  # A call that only found the end goes on, however long that took.
  [[ -z $minutes || $progress == still ]] || ((SECONDS < minutes * 30)) ||
    again "trained to the end, and more than half of the time is over"
}

if ! $dry_run; then
  has_jax='import importlib.util, sys; sys.exit(not importlib.util.find_spec("jax"))'
  "$python" -c "$has_jax" ||
    die "'$python' has no jax; activate its environment, or set PYTHON."
  mkdir -p "$kept"
  trap 'on_signal TERM' TERM HUP USR1 USR2
  trap 'on_signal INT' INT
fi

if [[ ! -e $workdir/data ]]; then
  say "building the data in $workdir/data"
  build_data
fi
if ! $finish; then
  say "training in $workdir"
  train
fi

step=best
$dry_run ||
  step=$("$python" launch/reproduced.py step --workdir="$workdir")
say "scoring checkpoint $step on all test puzzles"
predictions=()
[[ $task != arc-1 ]] || predictions=(--save-predictions)
evaluation=$kept/evaluation-$step.json
once "$evaluation" "$python" -m hrm_jax.evaluate --workdir="$workdir" \
  --step="$step" ${predictions[@]+"${predictions[@]}"}
if [[ $task == arc-1 ]]; then
  once "$kept/votes-$step.json" "$python" -m hrm_jax.arc_vote \
    --workdir="$workdir" --step="$step"
fi

say "drawing the curves into $workdir/figures"
stage "$kept/figures.json" "$python" -m hrm_jax.plot --workdir "$workdir" \
  --out "$workdir/figures" || say "no curves were drawn; the rest goes on"

export_weights() {
  stage "$kept/export.json" "$python" -m hrm_jax.checkpoint export \
    --workdir="$workdir" --step="$step" --out="$workdir/model" --dtype="$1"
}
say "exporting checkpoint $step to $workdir/model"
if [[ $task == arc-1 ]]; then
  # Scoring half a million images a second time takes too long.
  export_weights float32
else
  rounded=$kept/rounded-$step.json
  export_weights bfloat16
  once "$rounded" "$python" -m hrm_jax.evaluate --model="$workdir/model" \
    --data="$workdir/data"
  if ! $dry_run && [[ $("$python" launch/reproduced.py agree \
    --workdir="$workdir" "$evaluation" "$rounded") == no ]]; then
    say "rounding to bfloat16 changes the accuracy: exported as float32"
    export_weights float32
  fi
fi

do_it "$python" launch/reproduced.py row --workdir="$workdir" --task="$task" \
  --results="$results" --command="$repeat"

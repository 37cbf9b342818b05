#!/usr/bin/env bash
# Fills in gke_jobset.yaml, and runs it on a GKE cluster.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash launch/gke.sh ACTION [--name=NAME] [--image=IMAGE] [--hosts=N]
           [--accelerator=TYPE] [--devices=N] [--tpu-topology=AxB]
           [--claim=NAME] [--dry-run] [--help] [-- PYTHON-ARGUMENT ...]

  render  prints the filled-in JobSet
  apply   gives it to the cluster
  status  tells how it is doing
  logs    follows the output of process 0
  delete  ends the run (TERM: it saves) and removes it

  bash launch/gke.sh apply --image=us-docker.pkg.dev/me/hrm/hrm_jax:gpu \
      --hosts=4 -- -m hrm_jax.train --config=configs/sudoku.py \
      --workdir=/runs/sudoku-1k
  bash launch/gke.sh apply --image=us-docker.pkg.dev/me/hrm/hrm_jax:tpu \
      --hosts=4 --tpu-topology=4x4 -- -m hrm_jax.train ...

  --name=NAME    of the JobSet (default: hrm-jax)
  --image=IMAGE  built from launch/Dockerfile
  --hosts=N      pods, one per host (default: 2, on TPUs what the topology has)
  --accelerator=TYPE
                 as GKE names it (default: nvidia-h100-80gb, with
                 --tpu-topology: tpu-v5-lite-podslice)
  --devices=N    GPUs or TPU chips of one host (default: 8 GPUs or 4 chips)
  --tpu-topology=AxB
                 of the TPU slice; makes it a run on TPUs
  --claim=NAME   ReadWriteMany volume claim for data and workdirs, mounted at
                 /runs (default: hrm-runs)
  --dry-run      prints the commands, runs nothing

The cluster needs the JobSet controller 0.6 or later, and kubectl here has to
point to it. A preempted run (exit code 75, or its node was taken away) is
restarted and resumes its workdir; so does the same `apply` after a `delete`.
USAGE
}

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

action='' name=hrm-jax image=REGISTRY/hrm_jax:gpu hosts='' accelerator=''
devices='' topology='' claim=hrm-runs
take_option() {
  case $1 in
    render | apply | status | logs | delete) action=$1 ;;
    --name=?*) name=${1#*=} ;;
    --image=?*) image=${1#*=} ;;
    --hosts=?*) hosts=${1#*=} ;;
    --accelerator=?*) accelerator=${1#*=} ;;
    --devices=?*) devices=${1#*=} ;;
    --tpu-topology=?*) topology=${1#*=} ;;
    --claim=?*) claim=${1#*=} ;;
    *) unknown_argument "$1" ;;
  esac
}
parse_options "$@"
[[ -n $action ]] ||
  die "expected render, apply, status, logs or delete; see --help."
# The names of the pods, which end up in host names, begin with it.
[[ $name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
  die "--name: expected up to 40 of a-z, 0-9 and '-', got '$name'."
for option in hosts devices; do
  [[ -z ${!option} ]] || expect_number "$option"
done
if [[ $action == render || $action == apply ]]; then
  expect_arguments
fi
if [[ $action == apply && $image == REGISTRY/* ]]; then
  die "expected --image=IMAGE; see --help."
fi
if [[ -n $topology ]]; then
  accelerator=${accelerator:-tpu-v5-lite-podslice} devices=${devices:-4}
  [[ $topology =~ ^[1-9][0-9]*(x[1-9][0-9]*){1,2}$ ]] ||
    die "--tpu-topology: expected AxB or AxBxC, got '$topology'."
  chips=$((${topology//x/*}))
  ((chips % devices == 0)) ||
    die "--tpu-topology=$topology: $chips chips do not make up hosts of" \
      "$devices; see --devices."
  hosts=${hosts:-$((chips / devices))}
  ((hosts == chips / devices)) ||
    die "--hosts: expected $((chips / devices)) with $devices each of the" \
      "$chips chips of $topology, got $hosts."
else
  accelerator=${accelerator:-nvidia-h100-80gb} devices=${devices:-8}
  hosts=${hosts:-2}
fi
template=$(dirname "${BASH_SOURCE[0]}")/gke_jobset.yaml

# item TEXT: TEXT as an item of a list in YAML. Kubernetes puts variables in for
# $(NAME), and makes one dollar of two.
item() {
  local text=${1//\\/\\\\} newline=$'\n' tab=$'\t' return=$'\r' dollars='$$'
  text=${text//$newline/\\n}
  text=${text//$tab/\\t}
  text=${text//$return/\\r}
  text=${text//\$/$dollars}
  printf -- '- "%s"\n' "${text//\"/\\\"}"
}

# render ARGUMENT ...
render() {
  local line key indent value argument in_arguments=false
  while IFS= read -r line; do
    if [[ -n $topology ]]; then
      if [[ $line == *" @gpu" ]]; then continue; fi
      line=${line/\# @tpu /}
    elif [[ $line == *"# @tpu "* ]]; then
      continue
    fi
    if [[ $line == *"# @arguments" ]]; then
      $in_arguments || for argument in "$@"; do
        printf '%s%s\n' "${line%%-*}" "$(item "$argument")"
      done
      in_arguments=true
      continue
    fi
    indent=${line%%[! ]*}
    key=${line%%: *}
    value=
    case $line in
      '#'*) ;;
      *'# @name'*) value=$name ;;
      *'# @image'*) value=$image ;;
      *'# @hosts'*) value=$hosts ;;
      *'# @accelerator'*) value=$accelerator ;;
      *'# @topology'*) value=$topology ;;
      *'# @devices'*) value=$devices ;;
      *'# @claim'*) value=$claim ;;
      *'# @coordinator'*)
        line="$indent- --coordinator=$name-train-0-0.$name:5510"
        ;;
      *'# @processes'*) line="$indent- --num-processes=$hosts" ;;
    esac
    [[ -z $value ]] || line="$key: $value"
    printf '%s\n' "${line%%  \# @*}"
  done <"$template"
}

label=jobset.sigs.k8s.io/jobset-name=$name
case $action in
  render) render "${arguments[@]}" ;;
  apply)
    if $dry_run; then
      quote bash launch/gke.sh render "--name=$name" "--image=$image" \
        "--hosts=$hosts" "--accelerator=$accelerator" "--devices=$devices" \
        ${topology:+"--tpu-topology=$topology"} "--claim=$claim" \
        -- "${arguments[@]}" |
        sed 's/$/ | kubectl apply -f -/'
    else
      render "${arguments[@]}" | kubectl apply -f -
    fi
    ;;
  status)
    do_it kubectl get "jobset/$name"
    do_it kubectl get pods -l "$label" -o wide
    ;;
  logs)
    # Of a job's pods kubectl takes any, and by label only the last lines.
    do_it kubectl logs --follow --tail=-1 \
      -l "$label,batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) do_it kubectl delete "jobset/$name" ;;
esac

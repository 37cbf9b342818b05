#!/usr/bin/env bash
# To be sourced: settings for training on NVIDIA GPUs. Few on purpose: XLA's
# flags drift between versions and an unknown one aborts the process, so none
# is set here. What is set already stays.

_hrm_settings=(
  # JAX takes 75 % of the memory at its start; the rest is for the buffers of
  # NCCL, cuDNN and other contexts, which need far less than 25 %.
  XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
  # Overlaps all-reduces with computation, at the price of compile time.
  JAX_OPTIMIZATION_LEVEL=O1
  # NCCL says nothing by default, also about what makes it slow or hang.
  NCCL_DEBUG=WARN
)

# When it is run instead of sourced:
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  case ${1-} in
    -h | --help)
      cat <<'USAGE'
usage: source launch/env_gpu.sh
       bash launch/env_gpu.sh --dry-run | --help

Exports a few settings for training on NVIDIA GPUs; variables that are set
already keep their values. The file gives the reason for each.

  --dry-run      prints what it would export
USAGE
      ;;
    --dry-run)
      for _hrm_setting in "${_hrm_settings[@]}"; do
        _hrm_name=${_hrm_setting%%=*}
        [[ -n ${!_hrm_name-} ]] || printf 'export %q\n' "$_hrm_setting"
      done
      ;;
    *)
      echo "error: to be sourced; see --help." >&2
      exit 2
      ;;
  esac
  exit 0
fi

for _hrm_setting in "${_hrm_settings[@]}"; do
  _hrm_name=${_hrm_setting%%=*}
  [[ -n ${!_hrm_name-} ]] || export "${_hrm_setting?}"
done
unset _hrm_settings _hrm_setting _hrm_name

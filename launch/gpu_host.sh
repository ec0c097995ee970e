#!/usr/bin/env bash
# The GPUs of one host: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/gpu_host.sh [OPTION...] VERB [ARGUMENT...]

Runs `gemb VERB ARGUMENT...` on 1 to 8 GPUs of this host, in one process, and runs it again when it
was interrupted (see launch/local.sh --help). The experiment's mesh must fit the number of GPUs.

  launch/gpu_host.sh --gpus=4 train --gin_file=... --workdir=runs/mine
  launch/gpu_host.sh --gpus=2,3 train ...    # these two; another run can have the others

  --gpus=N            the first N GPUs (default: all)
  --gpus=I,J,...      these GPUs, by the numbers that nvidia-smi gives; I, for one alone
  --max_restarts=N    times to run the command again (default 3)
  --setup             first install gemb for this host's CUDA into .venv
  --python=PYTHON     interpreter with gemb (default .venv of this checkout, else python3)
  --print             print the command, run nothing
END
}

gpus='' setup='' options=()
while (($#)); do
  case $1 in
    --gpus=*) gpus=${1#*=} ;;
    --setup) setup=1 ;;
    --max_restarts=* | --python=*) options+=("$1") ;;
    --print) print=1 && options+=("$1") ;;
    *) shared_option "$1" || break ;;
  esac
  shift
done
verb_given "$@"

if [[ -z $print ]]; then
  there=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU') \
    || die "no GPU found here; see launch/local.sh"
else
  there=8
fi
if [[ $gpus == *,* ]]; then
  IFS=, read -r -a chosen <<<"$gpus"
elif [[ -n $gpus ]]; then
  whole --gpus "$gpus" 1 8
  chosen=($(seq 0 $((gpus - 1))))
else
  chosen=()
fi
for gpu in ${chosen[@]+"${chosen[@]}"}; do
  whole --gpus "$gpu" 0
  ((gpu < there)) || die "--gpus=$gpus: this host has $there GPU$( ((there == 1)) || echo s)"
done
if ((${#chosen[@]})); then
  options+=("--env=CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${chosen[*]}")")
fi
if [[ -n $setup ]]; then
  source "$launch/setup_venv.sh"
  extra=$(gpu_extra)
  options+=("--setup=${extra:-cuda}")
fi
exec "$launch/local.sh" ${options[@]+"${options[@]}"} "$@"

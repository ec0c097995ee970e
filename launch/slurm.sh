#!/usr/bin/env bash
# Several nodes of a SLURM cluster: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/slurm.sh [OPTION...] VERB [ARGUMENT...]

Submits `gemb VERB ARGUMENT...` as one job of one process a node; the processes find each other by
what srun tells them. Two minutes before its time is over the job saves itself and goes back into
the queue; so it does when it is preempted or loses a node. This checkout, its .venv and --workdir
must be on a file system that all nodes see.

  launch/slurm.sh --nodes=4 --gpus=8 --time=12:00:00 train --gin_file=... --workdir=runs/big
  squeue --me                      # is it running?
  tail -F runs/slurm/gemb-*.log    # what does it say?
  scancel JOB                      # stop it, without a requeue

  --nodes=N           nodes, one process each (default 1)
  --gpus=N            GPUs a node (default 0: CPUs only)
  --cpus=N            CPU cores a node (default: the cluster's)
  --time=TIME         limit a run, as sbatch takes it, e.g. 12:00:00
  --partition=NAME    and --account=NAME: where, and on whose bill
  --name=NAME         of the job and its log (default gemb)
  --logs=DIR          folder of the log (default runs/slurm)
  --max_restarts=N    times to go back into the queue by itself (default 20)
  --sbatch=OPTION     any other option of sbatch, e.g. --sbatch=--constraint=h100; repeatable
  --python=PYTHON     interpreter with gemb (default .venv of this checkout, else python3)
  --print             print the commands, run nothing
END
}

nodes=1 name=gemb logs=runs/slurm max_restarts=20 python='' options=()
while (($#)); do
  case $1 in
    --nodes=*) nodes=${1#*=} && whole --nodes "$nodes" 1 ;;
    --gpus=*) whole --gpus "${1#*=}" 1 8 && options+=("--gpus-per-node=${1#*=}") ;;
    --cpus=*) whole --cpus "${1#*=}" 1 && options+=("--cpus-per-task=${1#*=}") ;;
    --time=?* | --partition=?* | --account=?*) options+=("$1") ;;
    --name=?*) name=${1#*=} ;;
    --logs=?*) logs=${1#*=} ;;
    --max_restarts=*) max_restarts=${1#*=} && whole --max_restarts "$max_restarts" 0 ;;
    --sbatch=-*) options+=("${1#*=}") ;;
    --python=*) python=${1#*=} ;;
    *) shared_option "$1" || break ;;
  esac
  shift
done
verb_given "$@"
default_python
[[ -n $print ]] || command -v sbatch >/dev/null \
  || die "sbatch is not on the PATH: is this a login node?"

run mkdir -p "$logs"
# TERM goes to the step alone: the batch script must live to requeue the job.
run sbatch --job-name="$name" --nodes="$nodes" --ntasks-per-node=1 --requeue --signal=TERM@120 \
  --open-mode=append --output="$logs/%x-%j.log" --chdir="$PWD" ${options[@]+"${options[@]}"} \
  "$launch/slurm_job.sh" "$max_restarts" "$python" "$@"

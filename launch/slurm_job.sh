#!/usr/bin/env bash
# The batch script that launch/slurm.sh submits: slurm_job.sh MAX_RESTARTS PYTHON VERB [ARGUMENT...]
# One process a node; back into the queue when the same command can go on.
set -euo pipefail
max_restarts=$1 python=$2
shift 2

# Once one has ended the others may take five minutes to save themselves; JAX notices a lost one.
status=0
srun --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=300 \
  ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
  "$python" -m gemb.cli "$@" || status=$?

case $status in # as in command.sh, which is not beside SLURM's copy of this script
  75 | 134 | 137) ;;
  *) exit "$status" ;;
esac
if ((${SLURM_RESTART_COUNT:-0} >= max_restarts)); then
  echo "slurm_job.sh: ended with status $status after $max_restarts restarts; submit the same again" >&2
  exit "$status"
fi
echo "slurm_job.sh: ended with status $status; back into the queue" >&2
scontrol requeue "$SLURM_JOB_ID"

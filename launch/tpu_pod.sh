#!/usr/bin/env bash
# A Cloud TPU pod: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/tpu_pod.sh --pod=NAME --zone=ZONE --type=TYPE [OPTION...] VERB [ARGUMENT...]
       launch/tpu_pod.sh --pod=NAME --zone=ZONE --logs | --stop | --delete

Creates the pod, or takes the one of that name; copies this checkout to every worker; installs it
there; starts `gemb VERB ARGUMENT...` on all of them, out of reach of a lost connection; and shows
the first worker's log until the end, whose status becomes this script's. Preempted, the same
command makes a new pod and goes on, provided that --workdir is on storage that outlives it and
that all workers see (a mounted bucket).

  launch/tpu_pod.sh --pod=mine --zone=europe-west4-b --type=v5litepod-16 --spot \
      train --gin_file=... --workdir=/mnt/bucket/runs/big
  launch/tpu_pod.sh --pod=mine --zone=europe-west4-b --logs     # look again; Ctrl-C only stops looking
  launch/tpu_pod.sh --pod=mine --zone=europe-west4-b --stop     # it saves itself; the pod stays
  launch/tpu_pod.sh --pod=mine --zone=europe-west4-b --delete   # a pod costs money until then

  --pod=NAME          of the TPU; --zone=ZONE and --project=PROJECT: where
  --type=TYPE         accelerator, e.g. v5litepod-16, v5p-32, v6e-64
  --version=VERSION   of the software of a new pod (default: what Google names for the type)
  --spot              a new pod may be preempted, and is cheaper
  --worker=N          whose log to show (default 0)
  --max_restarts=N    times each worker runs the command again (default 3)
  --logs              only show the log
  --stop              only stop the run: SIGTERM, then wait until all is saved
  --delete            only delete the pod
  --print             print the commands, run nothing
END
}

pod='' type='' version='' spot='' worker=0 max_restarts=3 action=start where=()
while (($#)); do
  case $1 in
    --pod=*) pod=${1#*=} ;;
    --zone=?* | --project=?*) where+=("$1") ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --spot) spot=$1 ;;
    --worker=*) worker=${1#*=} && whole --worker "$worker" 0 ;;
    --max_restarts=*) max_restarts=${1#*=} && whole --max_restarts "$max_restarts" 0 ;;
    --logs | --stop | --delete) action=${1#--} ;;
    *) shared_option "$1" || break ;;
  esac
  shift
done
needed --pod "$pod"
[[ " ${where[*]-}" == *" --zone="* ]] || die "--zone is missing; see --help"
[[ -n $print ]] || command -v gcloud >/dev/null \
  || die "gcloud is not on the PATH: install the Google Cloud CLI"

tpu() { run gcloud compute tpus tpu-vm "$1" "${@:2}" "${where[@]}"; }
# on WORKER COMMAND...: runs a command in the copy of this checkout on a worker, or on all.
on() { tpu ssh "$pod" --worker="$1" --command="cd gemb && $(quoted "${@:2}")"; }

default_version() {
  case $type in
    v5litepod*) echo v2-alpha-tpuv5-lite ;;
    v5p*) echo v2-alpha-tpuv5 ;;
    v6e*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

create() {
  tpu create "$pod" --accelerator-type="$type" --version="${version:-$(default_version)}" \
    ${spot:+"$spot"}
}

create_or_reuse() {
  if [[ -n $print ]]; then
    local hint='READY: skip the next; PREEMPTED: delete it first'
    echo "$(tpu describe "$pod" --format='value(state)')   # $hint"
    create
    return
  fi
  case $(tpu describe "$pod" --format='value(state)' 2>/dev/null || true) in
    READY) ;;
    '') create ;;
    PREEMPTED | TERMINATED | STOPPED) tpu delete "$pod" --quiet && create ;;
    *) die "$pod is neither ready nor gone; see: gcloud compute tpus tpu-vm describe $pod ${where[*]}" ;;
  esac
}

ship() {
  local archive=${TMPDIR:-/tmp}/gemb-$pod.tar.gz
  run tar -C "${launch%/*}" --exclude='./.git' --exclude='./.venv*' --exclude='./runs' \
    --exclude='__pycache__' -czf "$archive" .
  tpu scp "$archive" "$pod:gemb.tar.gz" --worker=all
  # Ubuntu 22.04, which the pods run, has Python 3.10 as python3
  local install='sudo apt-get -qq update && sudo apt-get -qq install -y python3.11-venv'
  tpu ssh "$pod" --worker=all --command="mkdir -p gemb && tar -xzf gemb.tar.gz -C gemb && {\
 command -v python3.11 >/dev/null || { $install; }; }"
}

start() {
  verb_given "$@"
  needed --type "$type"
  local words=("$@")
  [[ $1 != train ]] || words+=(--coordinator=auto)
  create_or_reuse
  ship
  on all launch/detached.sh start \
    launch/local.sh --setup=tpu --max_restarts="$max_restarts" "${words[@]}"
  on "$worker" launch/detached.sh logs
}

case $action in
  start) start "$@" ;;
  logs) on "$worker" launch/detached.sh logs ;;
  stop) on all launch/detached.sh stop ;;
  delete) tpu delete "$pod" --quiet ;;
esac

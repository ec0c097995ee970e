#!/usr/bin/env bash
# A command that outlives the connection which started it: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/detached.sh start COMMAND [ARGUMENT...] | logs | stop

For machines reached over ssh: `start` runs one command in the background, `logs` shows what it says
from its first line to its end and exits with its status, `stop` sends it SIGTERM and waits until it
has saved itself. launch/tpu_pod.sh calls this on every worker.
END
}

folder=${launch%/*}/runs/detached
process=$(cat "$folder/process" 2>/dev/null || true)
alive() { [[ -n $process ]] && kill -0 "$process" 2>/dev/null; }

case ${1:-} in
  start)
    shift
    (($#)) || die "start which command?"
    ! alive || die "a command is running here (process $process): see its logs, or stop it first"
    mkdir -p "$folder"
    rm -f "$folder/status"
    # the wrapper outlives SIGTERM to its group, to note the status that its command then ends with
    setsid bash -c 'trap : TERM; status=0; "${@:2}" || status=$?; echo "$status" >"$1"' \
      detached "$folder/status" "$@" >"$folder/log" 2>&1 </dev/null &
    echo "$!" >"$folder/process"
    echo "started: process $!, log $folder/log"
    ;;
  logs)
    [[ -n $process ]] || die "nothing was started here"
    tail --pid="$process" --lines=+1 --follow "$folder/log"
    exit "$(cat "$folder/status" 2>/dev/null || echo 1)"
    ;;
  stop)
    if ! alive; then echo "nothing is running" && exit; fi
    kill -TERM -- "-$process"
    for ((i = 0; i < 600; i++)); do
      if ! alive; then
        echo "stopped with status $(cat "$folder/status" 2>/dev/null || echo unknown)"
        exit
      fi
      sleep 1
    done
    die "process $process has not ended in ten minutes; kill it with: kill -KILL -- -$process"
    ;;
  -h | --help) usage ;;
  *) die "expected start, logs or stop; see --help" ;;
esac

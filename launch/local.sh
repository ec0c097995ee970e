#!/usr/bin/env bash
# Any verb on this machine, started again when it was interrupted: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/local.sh [OPTION...] VERB [ARGUMENT...]

Runs `gemb VERB ARGUMENT...` on this machine. When it ends with status 75 (told to stop, all saved),
134 (a partner was lost) or 137 (killed), the same command is run again and goes on from its last
checkpoint. SIGTERM or Ctrl-C sent to this script reaches gemb, which saves itself; the script then
ends with gemb's status. A second one kills.

  launch/local.sh train --gin_file=configs/experiments/quickstart.gin --workdir=runs/mine
  launch/local.sh --devices=4 --processes=2 train ...   # a rehearsal of two hosts with 4 chips each

  --devices=N         virtual CPU devices a process (default: the devices that there are)
  --processes=N       processes that form one run, as on N hosts (default 1); train only
  --port=PORT         where they meet (default 8482)
  --grace=SECONDS     when one of them fails, the others may take this long to end (default 60)
  --max_restarts=N    times to run the command again (default 3)
  --env=NAME=VALUE    environment of gemb; repeatable
  --setup=EXTRA       first install gemb[EXTRA] into .venv, e.g. dev, cuda, tpu
  --python=PYTHON     interpreter with gemb (default .venv of this checkout, else python3)
  --print             print the commands, run nothing
END
}

processes=1 port=8482 grace=60 max_restarts=3 setup='' python='' environment=()
while (($#)); do
  case $1 in
    --devices=*)
      whole --devices "${1#*=}" 1
      environment+=(JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=${1#*=}")
      ;;
    --processes=*) processes=${1#*=} && whole --processes "$processes" 1 ;;
    --port=*) port=${1#*=} && whole --port "$port" 1 65535 ;;
    --grace=*) grace=${1#*=} && whole --grace "$grace" 0 ;;
    --max_restarts=*) max_restarts=${1#*=} && whole --max_restarts "$max_restarts" 0 ;;
    --env=?*=*) environment+=("${1#*=}") ;;
    --setup=?*) setup=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    *) shared_option "$1" || break ;;
  esac
  shift
done
verb_given "$@"
if [[ -n $setup ]]; then
  [[ -n $python ]] || python=${launch%/*}/.venv/bin/python
  install='cd "$1" && source launch/setup_venv.sh && setup_venv "" tensorboard "$2"'
  run bash -euo pipefail -c "$install" setup "${launch%/*}" "$setup"
fi
default_python
command=("$python" -m gemb.cli "$@")
((${#environment[@]} == 0)) || command=(env "${environment[@]}" "${command[@]}")

# Fills `words` with the command of process I.
of_process() {
  words=("${command[@]}")
  ((processes == 1)) \
    || words+=("--coordinator=localhost:$port" "--process_id=$1" "--process_count=$processes")
}

if [[ -n $print ]]; then
  for ((i = 0; i < processes; i++)); do
    of_process "$i"
    printf '%s%s\n' "$(quoted "${words[@]}")" "$( ((processes == 1)) || echo ' &')"
  done
  ((processes == 1)) || echo wait
  exit
fi

tell() { echo "local.sh: $*" >&2; }

pids=() stopping=0
signal_all() { kill -"$1" ${pids[@]+"${pids[@]}"} 2>/dev/null || true; }
told_to_stop() {
  stopping=$((stopping + 1))
  if ((stopping == 1)); then signal_all TERM; else signal_all KILL; fi
}
trap told_to_stop TERM INT

# Takes the processes that have ended from `pids`; `status` becomes that of the first failure, or
# of one that tells more: 2, a mistake; else a resumable one, of which an exception is often the echo.
reap() {
  local pid ended running=()
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then running+=("$pid") && continue; fi
    ended=0
    wait "$pid" || ended=$?
    if ((status == 0 || ended == 2)) \
      || { ((status != 2)) && resumable "$ended" && ! resumable "$status"; }; then
      status=$ended
    fi
  done
  pids=(${running[@]+"${running[@]}"})
}

# Waits for all; once one has failed, the others would wait for it for ever, so they are stopped.
finish() {
  local settled
  while ((${#pids[@]} && status == 0)); do sleep 0.2 && reap; done
  ((${#pids[@]})) || return 0
  sleep 1 && reap
  settled=$status
  signal_all TERM
  for ((i = 0; i < 5 * grace && ${#pids[@]}; i++)); do sleep 0.2 && reap; done
  signal_all KILL
  while ((${#pids[@]})); do sleep 0.2 && reap; done
  status=$settled
}

for ((restart = 0; ; restart++)); do
  for ((i = 0; i < processes; i++)); do
    of_process "$i"
    "${words[@]}" <&0 &
    pids+=("$!")
  done
  ((stopping == 0)) || signal_all TERM
  status=0
  finish
  ((stopping == 0)) && resumable "$status" || exit "$status"
  ((restart < max_restarts)) || break
  tell "ended with status $status; the same command goes on ($((restart + 1)) of $max_restarts)"
done
tell "ended with status $status after $max_restarts restarts; the same command still goes on"
exit "$status"

#!/usr/bin/env bash
# Several hosts of a Kubernetes cluster with JobSet: see --help.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/command.sh"

usage() {
  cat <<'END'
Usage: launch/k8s.sh --name=NAME --image=IMAGE --volume=CLAIM --accelerator=NAME --chips=N [OPTION...]
                     VERB [ARGUMENT...]
       launch/k8s.sh --name=NAME --logs | --stop

Creates launch/k8s/jobset.yaml: `gemb VERB ARGUMENT...` on --hosts hosts, one process each. When a
host is lost or told to stop (status 75), all start again from the last checkpoint; a mistake
(status 2) ends the run. The volume is mounted at /runs on every host: keep data, cache and
--workdir there. JobSet 0.6 or newer must be installed in the cluster.

  launch/k8s.sh --name=mine --image=REGISTRY/gemb --volume=runs --hosts=2 \
      --accelerator=nvidia-h100-80gb --chips=8 train --gin_file=... --workdir=/runs/mine
  launch/k8s.sh --name=mine --image=REGISTRY/gemb --volume=runs --hosts=4 \
      --accelerator=tpu-v5-lite-podslice --topology=4x4 --chips=4 train ...
  launch/k8s.sh --name=mine --logs
  launch/k8s.sh --name=mine --stop        # it saves itself and the JobSet is deleted

A name is taken until --stop, by a run that has ended too: stop that one, then start it again.

  --name=NAME         of the JobSet: lower-case letters, digits and -
  --image=IMAGE       container image in which `python -m gemb.cli` works
  --volume=CLAIM      persistent volume claim, read and written by many hosts
  --hosts=N           hosts (default 1)
  --accelerator=NAME  GKE's name of the chip; those that begin with tpu- are TPUs
  --topology=AxB      of a TPU slice, e.g. 4x4
  --chips=N           GPUs or TPU chips a host
  --namespace=NAME    of the cluster
  --max_restarts=N    times that all start again (default 20)
  --logs              only show the logs of all hosts
  --stop              only stop the run
  --manifest          print the manifest, create nothing
  --print             print the commands, run nothing
END
}

given=("$@")
name='' image='' volume='' hosts=1 accelerator='' topology='' chips='' max_restarts=20
action=create where=()
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --image=*) image=${1#*=} ;;
    --volume=*) volume=${1#*=} ;;
    --hosts=*) hosts=${1#*=} && whole --hosts "$hosts" 1 ;;
    --accelerator=*) accelerator=${1#*=} ;;
    --topology=*) topology=${1#*=} ;;
    --chips=*) chips=${1#*=} && whole --chips "$chips" 1 ;;
    --namespace=?*) where=("$1") ;;
    --max_restarts=*) max_restarts=${1#*=} && whole --max_restarts "$max_restarts" 0 ;;
    --logs | --stop | --manifest) action=${1#--} ;;
    *) shared_option "$1" || break ;;
  esac
  shift
done
needed --name "$name"
[[ $name =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] \
  || die "--name: expected at most 40 lower-case letters, digits and -, got '$name'"
[[ -n $print || $action == manifest ]] || command -v kubectl >/dev/null \
  || die "kubectl is not on the PATH"

# Prints words as a JSON list, which is YAML too; $ is doubled, or Kubernetes would expand $(NAME).
json_list() {
  local word list=''
  for word in "$@"; do
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    word=${word//$'\n'/\\n}
    word=${word//$'\t'/\\t}
    list+=", \"$word\""
  done
  printf '[%s]' "${list:2}"
}

# fill NAME VALUE: puts a value into the manifest in the place of ${NAME}.
fill() { manifest=${manifest//"\${$1}"/"$2"}; }

# Fills `manifest`.
write_manifest() {
  local words=() word resource=nvidia.com/gpu gke=cloud.google.com/gke
  local selector="{\"$gke-accelerator\": \"$accelerator\"}"
  if [[ $accelerator == tpu-* ]]; then
    needed --topology "$topology"
    resource=google.com/tpu
    selector="{\"$gke-tpu-accelerator\": \"$accelerator\", \"$gke-tpu-topology\": \"$topology\"}"
  fi
  for word in "$@"; do words+=("${word//\$/\$\$}"); done
  if [[ $1 == train ]] && ((hosts > 1)); then
    words+=("--coordinator=$name-hosts-0-0.$name:8482" "--process_count=$hosts")
    words+=('--process_id=$(JOB_COMPLETION_INDEX)') # Kubernetes expands this one
  fi
  manifest=$(<"$launch/k8s/jobset.yaml")
  fill NAME "$name"
  fill MAX_RESTARTS "$max_restarts"
  fill HOSTS "$hosts"
  fill SELECTOR "$selector"
  fill RESOURCE "$resource"
  fill CHIPS "$chips"
  fill IMAGE "$image"
  fill VOLUME "$volume"
  fill ARGUMENTS "$(json_list "${words[@]}")" # the last: what stands in it is not filled again
}

create() {
  verb_given "$@"
  needed --image "$image"
  needed --volume "$volume"
  needed --accelerator "$accelerator"
  needed --chips "$chips"
  local manifest kubectl=(kubectl create --filename=- ${where[@]+"${where[@]}"})
  write_manifest "$@"
  if [[ $action == manifest ]]; then
    printf '%s\n' "$manifest"
  elif [[ -n $print ]]; then
    local options=() word
    for word in "${given[@]:0:${#given[@]}-$#}"; do
      [[ $word == --print ]] || options+=("$word")
    done
    echo "$(quoted "$launch/k8s.sh" --manifest "${options[@]}" "$@") | $(quoted "${kubectl[@]}")"
  else
    printf '%s\n' "$manifest" | "${kubectl[@]}"
  fi
}

case $action in
  create | manifest) create "$@" ;;
  logs)
    run kubectl logs --selector="jobset.sigs.k8s.io/jobset-name=$name" --container=gemb --follow \
      --prefix --tail=-1 --max-log-requests=1024 --ignore-errors ${where[@]+"${where[@]}"}
    ;;
  stop) run kubectl delete jobset "$name" ${where[@]+"${where[@]}"} ;;
esac

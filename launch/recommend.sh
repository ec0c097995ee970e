#!/usr/bin/env bash
# Recommendations from the data to a roll-back: see --help.
set -euo pipefail

usage() {
  cat <<'END'
Usage: launch/recommend.sh [--python PYTHON] [--workdir DIR] [--data FOLDER] [--small]

Recommends to Debian packages what they depend on, as a service would over its lifetime: the data are
made of this machine's package lists, towers are trained and measured next to the baselines, users
and items are released, a user changes and the vectors are refreshed, new towers are released, and
rolled back.

  --python PYTHON   interpreter with gemb installed (default: python3)
  --workdir DIR     where everything goes (default: runs/recommend); has to be empty or absent
  --data FOLDER     interactions to use instead, with the columns of debian-links; copied first
  --small           tiny towers over ids and four steps, for a test: seconds instead of minutes
END
}

python=python3 workdir=runs/recommend data='' small=''
while (($#)); do
  case $1 in
    --python=*) python=${1#*=} ;;
    --python) python=${2:?"--python needs an interpreter"} && shift ;;
    --workdir=*) workdir=${1#*=} ;;
    --workdir) workdir=${2:?"--workdir needs a folder"} && shift ;;
    --data=*) data=${1#*=} ;;
    --data) data=${2:?"--data needs a folder"} && shift ;;
    --small) small=1 ;;
    -h | --help) usage && exit ;;
    *) echo "recommend.sh: error: unknown argument $1; see --help" >&2 && exit 2 ;;
  esac
  shift
done
if [[ -d $workdir && -n $(ls -A "$workdir") ]]; then
  echo "recommend.sh: error: $workdir is not empty; choose another --workdir" >&2 && exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
gemb() {
  echo "+ gemb $*"
  "$python" -m gemb.cli "$@"
}
mkdir -p "$workdir"
if [[ ! $data ]]; then
  [[ $small ]] || gemb fetch all-MiniLM-L6-v2
  data=$("$python" -m gemb.cli fetch --data=debian-links | tail -n 1)
fi
links=$workdir/links store=$workdir/store keys=sqlite:$workdir/users.db records=$workdir/records
cp -rL "$data" "$links"
chmod -R u+w "$links"
find "$links" -name '*.gz' -exec gunzip {} +

train=(--gin_file="$root/configs/experiments/recommend_debian.gin" --gin_param="links.read.folder = '$links'")
baselines=()
if [[ $small ]]; then
  train+=(--gin_file="$root/configs/debug_features.gin")
  baselines=(--only=popularity,EASE --budget=1)
fi

# Train, and measure next to the baselines; the weight of two stages is chosen on validation.
gemb train "${train[@]}" --workdir="$workdir/towers"
gemb train "${train[@]}" --gin_param="PART = 'validation'" --workdir="$workdir/validation"
gemb baselines "$links" --output="$workdir/report" --save="towers, then EASE" --segment=section \
  --towers="$workdir/towers/model" --validation_towers="$workdir/validation/model" "${baselines[@]}"

# Release: items to the store and its index, users to a key store.
release() {
  gemb release "$store" --workdir="$1" --model="$2" --corpus="$records/items.jsonl" \
    --queries="$records/users.jsonl" --keys="$keys"
}
show() { gemb recommend --recommender="$workdir/report/recommender" --user="$user" --store="$store" --keys="$keys"; }
gemb records "$links" --model="$workdir/towers/model" --output="$records"
release "$workdir/release1" "$workdir/towers/model"
user=$(sed -n 2p "$links/interactions.tsv" | cut -f 1)
show

# A user gets another item: only its record is encoded again.
first=$(sed -n 2p "$links/interactions.tsv")
other=$(cut -f 2 "$links/interactions.tsv" | tail -n 1)
awk -F '\t' -v OFS='\t' -v item="$other" '{ $2 = item; print }' <<<"$first" >>"$links/interactions.tsv"
gemb records "$links" --model="$workdir/towers/model" --output="$records"
gemb refresh "$store" --corpus="$records/items.jsonl" --queries="$records/users.jsonl" --keys="$keys"
show

# Other towers, and back.
release "$workdir/release2" "$workdir/validation/model"
show
gemb rollback "$store" --why="to see how it is done"
gemb rollback "$keys" --why="as the store"
show
gemb versions "$store"
gemb check "$store"

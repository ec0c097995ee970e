#!/usr/bin/env bash
# Code search over installed packages, from the first release to a roll-back: see --help.
set -euo pipefail

usage() {
  cat <<'END'
Usage: launch/code_search.sh [--python PYTHON] [--workdir DIR] [--small] [FOLDER...]

Harvests the functions of Python packages and searches them by what they do, as a service would
over its lifetime: released, refreshed when a package was upgraded, released again with a model
that was trained on them, and rolled back. The folders are copied first, because one is changed.

  --python PYTHON   interpreter with gemb installed (default: python3)
  --workdir DIR     where everything goes (default: runs/code_search); has to be empty or absent
  --small           tiny models and four steps, for a test: seconds instead of minutes
  FOLDER...         packages (default: absl and numpy of the interpreter)
END
}

python=python3 workdir=runs/code_search small='' folders=()
while (($#)); do
  case $1 in
    --python=*) python=${1#*=} ;;
    --python) python=${2:?"--python needs an interpreter"} && shift ;;
    --workdir=*) workdir=${1#*=} ;;
    --workdir) workdir=${2:?"--workdir needs a folder"} && shift ;;
    --small) small=1 ;;
    -h | --help) usage && exit ;;
    -*) echo "code_search.sh: error: unknown argument $1; see --help" >&2 && exit 2 ;;
    *) folders+=("$1") ;;
  esac
  shift
done
if [[ -d $workdir && -n $(ls -A "$workdir") ]]; then
  echo "code_search.sh: error: $workdir is not empty; choose another --workdir" >&2 && exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
gemb() {
  echo "+ gemb $*"
  "$python" -m gemb.cli "$@"
}
if ((!${#folders[@]})); then
  site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  folders=("$site/absl" "$site/numpy")
fi
packages=$workdir/packages store=$workdir/store harvest=$workdir/harvest
mkdir -p "$packages"
cp -r "${folders[@]}" "$packages"

train=(--gin_file="$root/configs/experiments/quickstart.gin"
  --gin_param="pipeline.pairs.folder = '$harvest'"
  --gin_param="pipeline.pairs.rates = {'train_stdlib': 1.0}")
model=all-MiniLM-L6-v2
[[ $small ]] && train+=(--gin_file="$root/configs/debug.gin")

question="read a file line by line"
gemb harvest --output="$harvest" "$packages"
if [[ $small ]]; then
  gemb train "${train[@]}" --gin_param='STEPS = 2' --workdir="$workdir/first"
  model=$workdir/first/model
else
  gemb fetch
fi
gemb release "$store" --model="$model" --corpus="$harvest" --workdir="$workdir/release1"
gemb search --index="$store" "$question"

# A package is upgraded: a module is new.
upgraded=$(find "$packages" -mindepth 1 -maxdepth 1 -type d | sort | head -n 1)
cat >"$upgraded/upgraded_lines.py" <<'END'
def numbered_lines(path):
    """Read a text file line by line and number the lines from one."""
    with open(path, encoding="utf-8") as file:
        return list(enumerate(file, 1))
END
gemb harvest --output="$harvest" --force "$packages"
gemb refresh "$store" --corpus="$harvest" --dry_run
gemb refresh "$store" --corpus="$harvest"
gemb search --index="$store" "$question"

gemb release "$store" "${train[@]}" --corpus="$harvest" --tasks="$harvest" \
  --workdir="$workdir/release2"
gemb search --index="$store" "$question"
gemb rollback "$store" --why="to see how it is done"
gemb search --index="$store" "$question"
gemb versions "$store"
gemb check "$store"

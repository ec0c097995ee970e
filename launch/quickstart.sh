#!/usr/bin/env bash
# Set-up and the main job: see --help.
set -euo pipefail

usage() {
  cat <<'END'
Usage: launch/quickstart.sh [--python PYTHON] [--workdir DIR] [--force]

Makes a virtual environment (.venv), then trains and evaluates semantic code search on the Python
of this very machine, and asks it a question. Finished steps are not repeated; about 15 minutes on
2 CPU cores the first time, seconds after that. Needs python3 (3.11 to 3.13) and a package index.

  --python PYTHON   interpreter to use, e.g. python3.12 (then in .venv-python3.12)
  --workdir DIR     where the results go (default: runs/quickstart in this repository)
  --force           repeat steps that are finished
END
}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }

python='' workdir=runs/quickstart force=''
while (($#)); do
  case $1 in
    --python=*) python=${1#*=} ;;
    --python) python=${2:?"--python needs an interpreter"} && shift ;;
    --workdir=*) workdir=$(absolute "${1#*=}") ;;
    --workdir) workdir=$(absolute "${2:?"--workdir needs a folder"}") && shift ;;
    --force) force=--force ;;
    -h | --help) usage && exit ;;
    *) echo "quickstart.sh: error: unknown argument $1; see --help" >&2 && exit 2 ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup_venv.sh
setup_venv "$python" eval scann tensorboard $(gpu_extra)

gemb() {
  local argument shown=gemb
  for argument in "$@"; do
    [[ $argument == *' '* ]] && argument="\"$argument\""
    shown+=" $argument"
  done
  say "$shown"
  "$VENV/bin/python" -m gemb.cli "$@"
}

question="read a file line by line without loading it all"
gemb fetch $force
gemb harvest $force
gemb train --gin_file=configs/experiments/quickstart.gin --workdir="$workdir" $force
gemb evaluate --workdir="$workdir" $force
gemb search --workdir="$workdir" "$question"

say "done. What to try next:"
cat <<END
  the report         open $workdir/report.html
  ask more           source $VENV/bin/activate; gemb search --workdir=$workdir
  the tests          ./launch/test.sh
  your own code      gemb harvest --output=DIR FOLDER... ; gemb search --help
END

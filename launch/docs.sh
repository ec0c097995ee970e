#!/usr/bin/env bash
# Set-up if needed, and the documentation: see --help.
set -euo pipefail

usage() {
  cat <<'END'
Usage: launch/docs.sh [--python PYTHON] [SPHINX ARGUMENT...]

Makes a virtual environment (.venv) if there is none, runs the notebooks of docs/tutorials where
their text has changed (minutes the first time), and writes the site to docs/_build/html. A warning
is an error.

  --python PYTHON   interpreter to use, e.g. python3.12 (then in .venv-python3.12)
  other arguments   go to sphinx-build, e.g. -D nb_execution_mode=off, -E
END
}

python=''
while (($#)); do
  case $1 in
    --python=*) python=${1#*=} ;;
    --python) python=${2:?"--python needs an interpreter"} && shift ;;
    -h | --help) usage && exit ;;
    *) break ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup_venv.sh
setup_venv "$python" eval scann docs
say "building docs/_build/html"
"$VENV/bin/python" -m sphinx -b html -W --keep-going -n "$@" docs docs/_build/html
say "done: open docs/_build/html/index.html"

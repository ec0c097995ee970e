#!/usr/bin/env bash
# Set-up if needed, and the tests: see --help.
set -euo pipefail

usage() {
  cat <<'END'
Usage: launch/test.sh [--python PYTHON] [--peers] [--long] [PYTEST ARGUMENT...]

Makes a virtual environment (.venv) if there is none, with all extras that a CPU may use, and runs
the tests in it. With --hide-extras they run as if none were installed.

  --python PYTHON   interpreter to use, e.g. python3.12 (then in .venv-python3.12)
  --peers           install torch, sentence-transformers, ... too and compare with them, and servers
                    (Valkey, PostgreSQL) to test against; tests that need them skip otherwise.
                    Runs the long tests too
  --long            run tests of more than 3 seconds too: half an hour instead of ten minutes
  other arguments   go to pytest, e.g. tests/losses, -k info_nce, -m slow
END
}

python='' extras=(all dev) chosen=()
while (($#)); do
  case $1 in
    --python=*) python=${1#*=} ;;
    --python) python=${2:?"--python needs an interpreter"} && shift ;;
    --peers) extras=(all dev peers services) chosen=(-m 'not slow') ;;
    --long) chosen=(-m 'not slow') ;;
    -h | --help) usage && exit ;;
    *) break ;;
  esac
  shift
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/setup_venv.sh
setup_venv "$python" "${extras[@]}"
[[ " ${extras[*]} " != *" peers "* ]] || "$VENV/bin/python" -m gemb.cli fetch  # for the parity tests
say "running the tests"
exec "$VENV/bin/python" -m pytest "${chosen[@]}" "$@"

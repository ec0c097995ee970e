# Sourced by quickstart.sh, test.sh and .ci/run: makes the virtual environment and keeps it up to date.
# Call from the repository's root:  setup_venv PYTHON EXTRA...   then use "$VENV/bin/python".

started=$SECONDS
say() { printf '[%4ds] %s\n' "$((SECONDS - started))" "$*"; }
die() { printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

# Whether an interpreter runs, is 3.11 to 3.13 and can make virtual environments.
usable() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
    >/dev/null 2>&1
}

# Prints the interpreter to use: the one named, also where only pyenv knows it, or the first that fits.
find_python() {
  local name=$1 candidate
  if [[ -z $name ]]; then
    for candidate in python3 python3.12 python3.11 python3.13; do
      if usable "$candidate"; then echo "$candidate"; return; fi
    done
    die "no Python 3.11, 3.12 or 3.13 with venv found (on Debian and Ubuntu: apt install" \
      "python3-venv); name one with --python"
  fi
  for candidate in "$name" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$(basename "$name")"; do
    if usable "$candidate"; then echo "$candidate"; return; fi
  done
  die "$name does not run, is not 3.11 to 3.13, or lacks venv; name another with --python"
}

# Prints the extra for this machine's accelerator: cuda, cuda12, or nothing.
gpu_extra() {
  local version
  version=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -n 1) || true
  if [[ -n $version ]]; then ((version >= 13)) && echo cuda || echo cuda12; fi
}

# The extras that `all` brings along, as in setup.py.
in_all=' beam convert data documents eval export hnsw images maps milvus otel pictures postgres redis scann seqio serve tensorboard video '

# Whether every extra was installed from these very files; each has a marker, so that the scripts
# can ask for different extras in one environment.
installed() {
  local extra
  for extra in "$@"; do
    marked "$extra" || { [[ $in_all == *" $extra "* ]] && marked all; } || return 1
  done
}

marked() { [[ $(cat "$VENV/.gemb-$1" 2>/dev/null) == "$stamp" ]]; }

# Bytecode is compiled at first import, for what is imported alone, and kept.
unset PYTHONDONTWRITEBYTECODE

pip_install() {
  "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-compile "$@"
}

setup_venv() {
  local name=$1 python extra extras
  shift
  python=$(find_python "$name")
  VENV=.venv${name:+-$(basename "$name")}
  if ! "$VENV/bin/python" -c '' 2>/dev/null; then
    say "making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
  fi
  stamp="$(cat setup.py pyproject.toml | cksum) $("$VENV/bin/python" --version) $PWD"
  if installed "$@"; then
    say "$VENV is up to date"
    return
  fi
  extras=$(IFS=,; echo "$*")
  say "installing gemb[$extras] into $VENV (some minutes the first time)"
  if [[ ,$extras, == *,peers,* && -z $(gpu_extra) ]]; then
    # the CPU build of torch where an index offers it: the default one brings gigabytes of CUDA
    pip_install --timeout 20 --retries 0 \
      --extra-index-url https://download.pytorch.org/whl/cpu "torch==2.13.0" 2>/dev/null \
      || say "no CPU build of torch found; taking the index's own"
  fi
  pip_install -e ".[$extras]" || die "pip could not install gemb[$extras]; see its message above"
  for extra in "$@"; do echo "$stamp" >"$VENV/.gemb-$extra"; done
  say "installed"
}

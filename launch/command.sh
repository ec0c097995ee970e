# Sourced by the launchers: quoting, --print, and what every one of them checks.
# Sets `launch` (this folder), and `python` where --python did not.

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
print=''

die() { printf '%s: error: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

# Prints words in such a way that a shell reads the very same ones.
quoted() {
  local word line='' quote="'\\''"
  for word in "$@"; do
    if [[ -z $word || $word == *[!A-Za-z0-9_@%+=:,./-]* ]]; then word="'${word//\'/$quote}'"; fi
    line+=" $word"
  done
  printf '%s\n' "${line:1}"
}

# Runs a command, or prints it under --print.
run() { if [[ -n $print ]]; then quoted "$@"; else "$@"; fi; }

# whole NAME VALUE LEAST [MOST]: dies unless the option is a whole number in that range.
whole() {
  [[ $2 =~ ^(0|[1-9][0-9]{0,8})$ ]] && (($2 >= $3)) && { [[ -z ${4:-} ]] || (($2 <= $4)); } \
    || die "$1: expected a whole number from $3${4:+ to $4}, got '$2'"
}

# needed NAME VALUE: dies unless the option was given.
needed() { [[ -n $2 ]] || die "$1 is missing; see --help"; }

# The options of all launchers, where one does not know an argument: false for a verb.
shared_option() {
  case $1 in
    --print) print=1 ;;
    -h | --help) usage && exit ;;
    -*) die "unknown argument $1; see --help" ;;
    *) return 1 ;;
  esac
}

# The checks of all launchers, once their options are read: a verb must be left.
verb_given() {
  [[ ${1:-} == [a-z]* ]] || die "expected a verb of gemb, such as train --gin_file=...; see --help"
}

default_python() {
  [[ -z $python ]] || return 0
  python=${launch%/*}/.venv/bin/python
  [[ -x $python ]] || python=python3
}

# Statuses after which the same command goes on: saved itself (75), aborted because a partner was
# lost (134), killed (137).
resumable() { [[ $1 == 75 || $1 == 134 || $1 == 137 ]]; }

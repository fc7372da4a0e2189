# shellcheck shell=bash
# lib.sh: what the scripts beside it share. Sourced by them; it starts nothing by itself.
#
# A part is a real server that tests use. It lives in a folder $DIR below $PARTS_DIR/up; each of its
# processes carries VAULT_PART=$DIR in its environment, so that taking it down also finds what a
# killed run left behind. What is slow to make is kept in $PARTS_DIR/cache.
set -euo pipefail
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

PARTS_DIR=${PARTS_DIR:-/tmp/vault-parts}
CACHE=$PARTS_DIR/cache
SELF=$(basename "$0")
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${SELF%.sh}" "$*" >&2; }
die() { say "$*"; exit 1; }
# The comment at the top of a script is its help.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }
wrong_use() { say "$*"; usage >&2; exit 2; }

case ${1:-} in
  -h | --help | help) usage; exit 0 ;;
  '') usage >&2; exit 2 ;;
esac
[[ $PARTS_DIR =~ ^/[A-Za-z0-9/._+-]+$ ]] || die "PARTS_DIR must be absolute and free of blanks: $PARTS_DIR"
[[ $(id -u) == 0 ]] || die "needs root"

# --- packages ------------------------------------------------------------------------------------

# need COMMAND[=PACKAGE]...: installs the packages whose command is missing.
need() {
  local want packages=()
  for want; do
    command -v "${want%%=*}" >/dev/null || packages+=("${want#*=}")
  done
  ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
}

# A service that a package would start is held back: tests start their own.
install_packages() {
  local hold=/usr/sbin/policy-rc.d failed=0
  local install=(apt-get -qq install -y --no-install-recommends "$@")
  say "installing $*"
  if [[ ! -e $hold ]]; then
    printf '#!/bin/sh\n# vault-parts: start no service while a test part is installed\nexit 101\n' >$hold
    chmod +x $hold
  fi
  "${install[@]}" >/dev/null 2>&1 || { apt-get -qq update && "${install[@]}" >/dev/null; } || failed=1
  if grep -qs vault-parts $hold; then rm -f $hold; fi
  ((failed == 0)) || die "could not install $*"
}

# locked FILE FUNCTION [ARG]...: one at a time among all runs on this machine. The lock is not
# handed to anything the function starts.
locked() {
  local file=$1
  shift
  mkdir -p "$(dirname "$file")"
  exec 9>"$file"
  flock 9
  "$@"
  exec 9>&-
}

# cached NAME FUNCTION: fills $CACHE/NAME once by calling FUNCTION FOLDER.
cached() { locked "$CACHE/$1.lock" fill "$CACHE/$1" "$2"; }
fill() {
  [[ ! -e $1/.done ]] || return 0
  rm -rf --one-file-system "$1"
  mkdir -p "$1"
  "$2" "$1" 9>&-
  touch "$1/.done"
}

# --- processes -----------------------------------------------------------------------------------

# born PID: the start time of a live process; fails for one that is gone or waits to be reaped.
born() {
  local line fields
  { line=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  read -ra fields <<<"${line##*) }"
  [[ ${fields[0]} != Z ]] || return 1
  echo "${fields[19]}"
}

# labelled: the pids that carry this part's label, whoever started them.
labelled() { { grep -lzxF -- "VAULT_PART=$DIR" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3; }

# end_pid PID TENTHS: TERM, then KILL when the time is over.
end_pid() {
  local start tries=$2
  start=$(born "$1") || return 0
  kill "$1" 2>/dev/null || return 0
  while [[ $(born "$1") == "$start" ]]; do
    if ((--tries < 0)); then
      kill -KILL "$1" 2>/dev/null || true
      tries=100
    fi
    sleep .1
  done
}

# umount_under FOLDER: undoes every mount in it, the innermost first.
umount_under() {
  local at
  while read -r at; do
    umount "$at" 2>/dev/null || umount -l "$at" || true
  done < <(awk -v d="$1" '$2 == d || index($2, d "/") == 1 { print $2 }' /proc/self/mounts | sort -r)
}

# end_cgroup NAME: ends all in the control groups called NAME and removes them (v1 and v2).
end_cgroup() {
  local groups=() pid group
  mapfile -t groups < <(find /sys/fs/cgroup -maxdepth 2 -type d -name "$1" 2>/dev/null)
  ((${#groups[@]})) || return 0
  for pid in $(find "${groups[@]}" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do
    kill -KILL "$pid" 2>/dev/null || true
  done
  # a paused container dies only when it is thawed
  while read -r group; do
    echo THAWED >"$group" 2>/dev/null || true
  done < <(find "${groups[@]}" -name freezer.state 2>/dev/null)
  for _ in {1..40}; do
    find "${groups[@]}" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ -n $(find "${groups[@]}" -maxdepth 0 2>/dev/null) ]] || return 0
    sleep .1
  done
}

# --- servers -------------------------------------------------------------------------------------

# port OFFSET: a port of this run's own.
port() { echo $((${PARTS_PORT_BASE:-18000} + $1)); }

answers() { curl -s -m 2 -o /dev/null "$1"; }

# serve URL COMMAND...: starts COMMAND in a new $DIR-labelled session and waits until URL answers.
serve() {
  local url=$1 tries=300 pid
  shift
  VAULT_PART=$DIR setsid "$@" >"$DIR/log" 2>&1 </dev/null 9>&- &
  pid=$!
  until answers "$url"; do
    if ! born "$pid" >/dev/null || ((--tries < 0)); then
      tail -n 15 "$DIR/log" >&2
      die "$1 did not come up"
    fi
    sleep .1
  done
  say "up at $url"
}

# python_packages FOLDER PACKAGE...: a Python of its own with packages in it.
python_packages() {
  need python3 pip3=python3-pip
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
  python3 -m venv "$1" && nice "$1/bin/pip" -q install "${@:2}"
}

# part_verb VERB: up, down or env by the functions of those names; one at a time.
part_verb() {
  case $1 in
    up) locked "$DIR.lock" start_part ;;
    down) locked "$DIR.lock" end_part ;;
    env) answers "$URL" || die "is not up"; show_env ;;
    *) wrong_use "unknown verb $1" ;;
  esac
}

start_part() {
  need curl
  ! answers "$URL" || return 0
  end_part
  mkdir -p "$DIR"
  up
}

end_part() {
  local pid
  for pid in $(labelled); do end_pid "$pid" 50; done
  rm -rf --one-file-system "$DIR"
}

#!/bin/bash
# docs/quickstart.sh
#
# Shows on a fresh Debian or Ubuntu machine what vault does: installs what is missing (a Docker
# Engine if none answers, a Rust toolchain if there is none), builds vault, fills a real volume by a
# real container, backs it up with nothing configured, destroys it, restores it and compares.
#
# Needs root or sudo. Nothing is pulled from a registry: the container's image is made here. The
# repository, key and cache of this demonstration lie in a temporary folder; a default repository
# that you have is not touched. Everything made is removed again, except installed packages and the
# build; safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# Only root reads a volume at its place on the disk, with everything it holds.
if ((EUID == 0)); then
  as_root() { env "$@"; }
else
  command -v sudo >/dev/null || die "run this as root, or install sudo"
  as_root() { sudo --preserve-env=DOCKER_HOST,DOCKER_CONTEXT,TZ env "$@"; }
fi
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
apt_updated=
install_packages() {
  [[ -n $apt_updated ]] || as_root apt-get -qq update
  apt_updated=yes
  as_root DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

volume=vault-quickstart-$$
image=vault-quickstart-$$:local
work=$(mktemp -d)
dockerd_pid=

clean_up() {
  local code=$?
  trap - EXIT INT TERM
  if command -v docker >/dev/null; then
    as_root docker volume rm -f "$volume" >/dev/null 2>&1 || true
    as_root docker image rm -f "$image" >/dev/null 2>&1 || true
  fi
  [[ -z $dockerd_pid ]] || stop_dockerd
  as_root rm -rf "$work"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- an engine -----------------------------------------------------------------------------------

engine_answers() { as_root timeout 30 docker version --format '{{.Server.Version}}' 2>/dev/null; }

wait_for_engine() {
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    engine_answers >/dev/null && return 0
    [[ -z $dockerd_pid ]] || as_root kill -0 "$dockerd_pid" 2>/dev/null || return 1
    sleep .2
  done
  return 1
}

# start_dockerd LOG ARGUMENT...: in the background; as_root makes a process between us and it, so
# its own pid is read from the file it writes
start_dockerd() {
  local log=$1 tries
  shift
  rm -f "$work/dockerd.pid"
  as_root setsid dockerd --pidfile "$work/dockerd.pid" "$@" >"$log" 2>&1 </dev/null &
  local starter=$!
  for ((tries = 0; tries < 50; tries++)); do
    dockerd_pid=$(as_root cat "$work/dockerd.pid" 2>/dev/null) && break
    kill -0 "$starter" 2>/dev/null || return 1
    sleep .1
  done
  wait_for_engine || { dockerd_pid=; return 1; }
}

stop_dockerd() {
  local tries
  as_root kill "$dockerd_pid" 2>/dev/null || return 0
  for ((tries = 0; tries < 100; tries++)); do
    as_root kill -0 "$dockerd_pid" 2>/dev/null || return 0
    sleep .1
  done
}

ensure_engine() {
  if command -v docker >/dev/null && version=$(engine_answers); then
    echo "Docker Engine $version answers"
    return 0
  fi
  if [[ -n ${DOCKER_HOST:-}${DOCKER_CONTEXT:-} ]]; then
    die "the engine named by DOCKER_HOST or DOCKER_CONTEXT does not answer"
  fi
  if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    echo "installing docker.io"
    install_packages docker.io
    # since Debian 13 the command is a package of its own
    command -v docker >/dev/null || install_packages docker-cli
  fi
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl start docker || true
    wait_for_engine && return 0
  fi
  echo "starting dockerd; it is stopped at the end"
  # Where the machine lets nobody change its network, an engine without one is enough here.
  start_dockerd "$work/dockerd.log" ||
    start_dockerd "$work/dockerd-2.log" --bridge=none --iptables=false --ip6tables=false || {
    as_root tail -n 15 "$work"/dockerd*.log >&2
    die "dockerd does not start"
  }
}

# --- an image and a volume -----------------------------------------------------------------------

make_image() {
  # the package `busybox` has the same program, but linked to libraries the image lacks
  [[ -e /usr/share/doc/busybox-static ]] || install_packages busybox-static
  mkdir -p "$work/image/bin"
  cp -L "$(command -v busybox)" "$work/image/bin/busybox"
  local applet
  for applet in $("$work/image/bin/busybox" --list); do
    [[ $applet == busybox ]] || ln -s busybox "$work/image/bin/$applet"
  done
  tar -C "$work/image" --owner=0 --group=0 -c . | as_root docker import - "$image" >/dev/null
}

# in_container SCRIPT: runs it in a container that has the volume at /data
in_container() {
  as_root docker run --rm --network none --log-driver none -v "$volume:/data" -w /data \
    "$image" /bin/sh -euc "$1"
}

fill='
  mkdir -p etc/app.d empty "with space" logs
  echo "listen = 8080" >etc/app.conf
  ln -s app.conf etc/link; ln -s /nowhere etc/dangling
  dd if=/dev/urandom of=random.bin bs=1M count=16 2>/dev/null
  for i in $(seq 1 300); do echo "$i: the quick brown fox" >>logs/app.log; echo $i >etc/app.d/$i; done
  ln logs/app.log logs/same-file
  truncate -s 64M sparse; echo end >>sparse
  mkfifo pipe
  printf x >"$(printf "new\nline")"; echo y >"with space/grün"
  echo secret >key; chmod 600 key; cp /bin/busybox tool; chmod 4755 tool
  chown 1000:1000 etc etc/app.conf; chown -h 33:33 etc/link
  chmod 1777 logs; chown 70:70 .; chmod 750 .
  find . -exec touch -h -d "2021-03-04 05:06:07" {} +
'
# One line for each thing: name, kind, mode, owner, size (but of directories), time, links; then a
# checksum for each file, and which names are one file.
list='
  find . ! -type d -print0 | sort -z | xargs -0 stat -c "%N %F %a %u:%g %s %y links=%h"
  find . -type d -print0 | sort -z | xargs -0 stat -c "%N %F %a %u:%g %y"
  find . -type f -print0 | sort -z | xargs -0 sha256sum
  [ logs/app.log -ef logs/same-file ] && echo "one file: logs/app.log logs/same-file"
'

# --- vault ---------------------------------------------------------------------------------------

vault=${CARGO_TARGET_DIR:-target}/release/vault
# HOME and the XDG folders are this demonstration's own; no VAULT_* setting reaches it.
run_vault() {
  printf '\n$ vault %s\n' "$*"
  as_root -u VAULT_REPO -u VAULT_REPO_FILE -u VAULT_PASSWORD -u VAULT_PASSWORD_FILE \
    -u VAULT_PASSWORD_COMMAND -u VAULT_KEY_FILE -u VAULT_CONFIG -u VAULT_CACHE_DIR \
    HOME="$work/home" XDG_DATA_HOME="$work/data" XDG_CONFIG_HOME="$work/config" \
    XDG_CACHE_HOME="$work/cache" XDG_STATE_HOME="$work/state" "$vault" "$@" </dev/null ||
    die "vault $1 ended with exit code $?"
}

say "1. Docker Engine"
ensure_engine

say "2. Building vault"
# shellcheck source=tests/parts/rust.sh
. tests/parts/rust.sh
ensure_rust install_packages
cargo build --quiet --release --locked
"$vault" --version

say "3. A volume, filled by a container"
make_image
as_root docker volume create --label demo=quickstart "$volume" >/dev/null
in_container "$fill"
in_container "$list" >"$work/before"
as_root docker volume inspect -f '{{.Driver}} {{json .Labels}} {{json .Options}}' "$volume" >>"$work/before"
echo "$volume: $(in_container 'find . | wc -l') entries, $(in_container 'du -sh . | cut -f 1')"

say "4. Backup, with nothing configured (repository and key in $work)"
run_vault backup "$volume"
run_vault snapshots

say "5. The volume is destroyed"
as_root docker volume rm "$volume" >/dev/null
! as_root docker volume inspect "$volume" >/dev/null 2>&1 || die "the volume is still there"
echo "$volume is gone"

say "6. Restore"
run_vault restore "$volume"

say "7. The same as before?"
in_container "$list" >"$work/after"
as_root docker volume inspect -f '{{.Driver}} {{json .Labels}} {{json .Options}}' "$volume" >>"$work/after"
if ! diff -u "$work/before" "$work/after"; then
  die "the restored volume differs (- before, + after)"
fi
echo "EQUAL: $(wc -l <"$work/before") lines of names, kinds, modes, owners, sizes, times, links,"
echo "checksums and volume labels are the same before and after."
echo
echo "Next: \`$vault backup VOLUME\` saves a volume of yours; \`$vault --help\` shows the rest."

#!/bin/bash
# podman.sh up | down | env
#
# Podman's service with Docker's API (the distribution's), as root, with a storage of its own, on a unix socket.
#   env    shell lines to eval: VAULT_TEST_PODMAN
. "$(dirname "$0")/lib.sh"
DIR=$PARTS_DIR/up/podman SOCKET=$PARTS_DIR/up/podman/podman.sock URL=unix
((${#SOCKET} < 100)) || die "PARTS_DIR is too long for a unix socket"

# It speaks through its socket only.
answers() { curl -sf -m 5 --unix-socket "$SOCKET" http://engine/_ping >/dev/null; }

up() {
  need podman runc conmon curl
  # crun wants unified control groups; the defaults raise a limit that nobody here may raise
  cat >"$DIR/containers.conf" <<'CONFIG'
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONFIG
  export CONTAINERS_CONF=$DIR/containers.conf
  serve "$SOCKET" podman --root "$DIR/root" --runroot "$DIR/run" --log-level warn system service -t 0 "unix://$SOCKET"
}

end_part() {
  local pid
  for pid in $(labelled); do end_pid "$pid" 50; done
  umount_under "$DIR"
  rm -rf --one-file-system "$DIR"
}
show_env() { echo "export VAULT_TEST_PODMAN=unix://$SOCKET"; }
part_verb "$1"

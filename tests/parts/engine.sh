#!/bin/bash
# engine.sh up [N] | down [N] | env [N]
#
# A Docker Engine of its own for tests, N = 1 (if not given) to 9, beside whatever engine the machine
# has: own socket, data root, control groups and containerd, below $PARTS_DIR (/tmp/vault-parts).
#   up     installs docker.io if it is missing and starts the engine; does nothing if it is up
#   down   stops it and removes all its data, also what a killed run left behind
#   env    shell lines to eval: VAULT_TEST_DOCKER_HOST
# It has no network but `none`, so it needs no right to change the machine's; and no registry: a pull
# fails at once instead of after 20 s of looking for one.
. "$(dirname "$0")/lib.sh"

verb=$1 N=${2:-1}
[[ $N =~ ^[1-9]$ ]] || wrong_use "N is 1 to 9"
DIR=$PARTS_DIR/up/engine-$N
SOCKET=$DIR/docker.sock
GROUP=vault-engine-$N
((${#SOCKET} < 100)) || die "PARTS_DIR is too long for a unix socket"

answers() { curl -sf -m 5 --unix-socket "$SOCKET" http://engine/_ping >/dev/null; }

up() {
  need dockerd=docker.io runc curl
  ! answers || return 0
  down
  mkdir -p "$DIR"
  VAULT_PART=$DIR HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 setsid dockerd \
    --host "unix://$SOCKET" --group "$(id -gn)" --pidfile "$DIR/pid" \
    --data-root "$DIR/data" --exec-root "$DIR/exec" \
    --containerd-namespace "$GROUP" --containerd-plugins-namespace "$GROUP-plugins" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$GROUP" \
    --bridge=none --iptables=false --ip-forward=false --ip-masq=false --shutdown-timeout 2 \
    >"$DIR/log" 2>&1 </dev/null 9>&- &
  local pid=$! tries=600
  until answers; do
    if ! born "$pid" >/dev/null || ((--tries < 0)); then
      tail -n 15 "$DIR/log" >&2
      die "engine $N did not come up"
    fi
    sleep .1
  done
  say "engine $N is up at unix://$SOCKET"
}

down() {
  local pid
  end_cgroup "$GROUP"
  for pid in $(labelled); do end_pid "$pid" 100; done
  end_cgroup "$GROUP"
  umount_under "$DIR"
  rm -rf --one-file-system "$DIR"
}

case $verb in
  up) locked "$PARTS_DIR/engine-$N.lock" up ;;
  down) locked "$PARTS_DIR/engine-$N.lock" down ;;
  env)
    answers || die "engine $N is not up"
    echo "export VAULT_TEST_DOCKER_HOST=unix://$SOCKET"
    ;;
  *) wrong_use "unknown verb $verb" ;;
esac

#!/bin/bash
# host.sh up [N] [VERSION] | down [N] | env [N]
#
# A Docker Engine as if on another machine, N = 2 (if not given) to 9: in a network namespace with the
# address 10.232.N.2, reached over a unix socket, over TCP with TLS (port 2376, a client certificate is
# asked for) and over SSH (port 2222, key of root).
#   up     VERSION is `distro` (the machine's docker.io, if not given), or `trixie` or `sid`: the engine of
#          that Debian suite, unpacked below $PARTS_DIR/cache (about 10 s once)
#   down   stops it and removes all its data, also what a killed run left behind
#   env    shell lines to eval: VAULT_TEST_HOST_N_UNIX, _TCP, _CERTS (a folder), _SSH, _KEYS (a folder with
#          `id`, `bare`, which finds no command there, `stranger`, which nobody knows, and `known_hosts`)
# The file system is this machine's: a path of the other engine's also exists here. It has no network but
# `none` and no registry, as engine.sh.
. "$(dirname "$0")/lib.sh"

verb=$1 N=${2:-2} VERSION=${3:-distro}
[[ $N =~ ^[2-9]$ ]] || wrong_use "N is 2 to 9"
[[ $VERSION =~ ^(distro|trixie|sid)$ ]] || wrong_use "VERSION is distro, trixie or sid"
DIR=$PARTS_DIR/up/host-$N
SOCKET=$DIR/docker.sock TLS=$DIR/certs KEYS=$DIR/keys
NAME=vault-host-$N LINK=vaulthost$N ADDRESS=10.232.$N.2
((${#SOCKET} < 100)) || die "PARTS_DIR is too long for a unix socket"

answers() { curl -sf -m 5 --unix-socket "$SOCKET" http://engine/_ping >/dev/null; }
logs_in() { ssh -i "$KEYS/id" -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="$KEYS/known_hosts" -p 2222 "root@$ADDRESS" true 2>/dev/null; }

network() {
  ip netns add "$NAME"
  ip link add "$LINK" type veth peer name eth0 netns "$NAME"
  ip addr add "10.232.$N.1/24" dev "$LINK"
  ip link set "$LINK" up
  ip -n "$NAME" addr add "$ADDRESS/24" dev eth0
  ip -n "$NAME" link set eth0 up
  ip -n "$NAME" link set lo up
}

certificates() {
  mkdir -p "$TLS"
  local who use
  (
    cd "$TLS"
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout ca-key.pem -out ca.pem -subj /CN=vault-test-ca
    for who in server client; do
      openssl req -newkey rsa:2048 -nodes -keyout $who-key.pem -out $who.csr -subj /CN=$who
      use="extendedKeyUsage=${who}Auth"
      [[ $who == client ]] || use+=$'\n'"subjectAltName=IP:$ADDRESS"
      openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -out $who.pem -extfile <(echo "$use")
    done
    ln -s client.pem cert.pem
    ln -s client-key.pem key.pem
  ) 2>/dev/null
}

secure_shell() {
  local key
  mkdir -p "$KEYS" /run/sshd
  for key in host id bare stranger; do ssh-keygen -q -t ed25519 -N '' -f "$KEYS/$key"; done
  {
    cat "$KEYS/id.pub"
    # a machine without the docker command
    printf 'command="PATH=/nowhere; eval \\"$SSH_ORIGINAL_COMMAND\\"" %s\n' "$(<"$KEYS/bare.pub")"
  } >"$KEYS/authorized"
  echo "[$ADDRESS]:2222 $(cut -d' ' -f1,2 "$KEYS/host.pub")" >"$KEYS/known_hosts"
  # Without DOCKER_HOST the command there would find the engine of this machine.
  cat >"$DIR/sshd_config" <<SERVER
ListenAddress $ADDRESS
Port 2222
HostKey $KEYS/host
PidFile $DIR/sshd-pid
AuthorizedKeysFile $KEYS/authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100:30:200
SetEnv DOCKER_HOST=unix://$SOCKET VAULT_PART=$DIR PATH=${BIN:+$BIN:}/usr/sbin:/usr/bin:/sbin:/bin
SERVER
}

# programs: sets BIN, the folder of a suite's engine. runc stays the machine's: newer ones need a newer glibc.
programs() {
  need dockerd=docker.io docker=docker.io runc curl ip=iproute2 sshd=openssh-server ssh=openssh-client openssl
  BIN=
  [[ $VERSION != distro ]] || return 0
  cached "engine-$VERSION" unpack_engine
  BIN=$CACHE/engine-$VERSION/bin
}

# own_sources FOLDER: the machine's own apt sources with the suite rewritten, component main only.
own_sources() {
  local own files
  own=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mkdir -p "$1"
  mapfile -t files < <(compgen -G '/etc/apt/sources.list.d/*.sources')
  ((${#files[@]} == 0)) || awk -v own="$own" -v suite="$VERSION" 'BEGIN { RS = ""; ORS = "\n\n" }
    { gsub(/(^|\n)#[^\n]*/, ""); sub(/^\n/, "") }
    $0 ~ "(^|\n)Suites:[^\n]*[ \t]" own "([ \t\n]|$)" && /Components:[^\n]*main/ && !/(^|\n)Enabled: *no/ {
      sub(/Suites:[^\n]*/, "Suites: " suite); sub(/Components:[^\n]*/, "Components: main"); print }' \
    "${files[@]}" >"$1/suite.sources"
  mapfile -t files < <(compgen -G '/etc/apt/sources.list'; compgen -G '/etc/apt/sources.list.d/*.list')
  ((${#files[@]} == 0)) || awk -v own="$own" -v suite="$VERSION" '$1 == "deb" && / main( |$)/ {
      for (i = 2; i <= NF; i++) if ($i == own) {
        line = $1; for (j = 2; j < i; j++) line = line " " $j
        print line " " suite " main" } }' "${files[@]}" >"$1/suite.list"
  [[ -s $1/suite.sources || -s $1/suite.list ]] || die "found no apt source to derive $VERSION from"
}

# apt's own lists and sources are not touched, and nothing is installed.
unpack_engine() {
  local to=$1 name deb
  say "unpacking the engine of $VERSION"
  own_sources "$to/sources"
  mkdir -p "$to"/{lists/partial,debs,root,bin}
  local options=(-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$to/sources"
    -o Dir::State::Lists="$to/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root -o Acquire::Languages=none)
  apt-get "${options[@]}" -qq update
  (cd "$to/debs" && apt-get "${options[@]}" -qq download docker.io docker-cli containerd) >/dev/null
  for deb in "$to"/debs/*.deb; do dpkg-deb -x "$deb" "$to/root"; done
  for name in sbin/dockerd bin/docker bin/containerd bin/containerd-shim-runc-v2; do
    cp "$to/root/usr/$name" "$to/bin/"
  done
  rm -rf "$to"/{root,debs,lists}
}

# start COMMAND...: in the namespace and a session of its own, with the part's label.
start() {
  VAULT_PART=$DIR HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 PATH=${BIN:+$BIN:}$PATH \
    setsid nsenter --net="/run/netns/$NAME" "$@" >>"$DIR/log" 2>&1 </dev/null 9>&- &
}

wait_for() {
  local pid=$! tries=300
  until "$1"; do
    if ! born "$pid" >/dev/null || ((--tries < 0)); then
      tail -n 15 "$DIR/log" >&2
      die "host $N did not come up"
    fi
    sleep .1
  done
}

up() {
  if answers && logs_in; then return; fi
  down
  programs
  mkdir -p "$DIR"
  network
  certificates
  secure_shell
  # nsenter, not `ip netns exec`: that one remounts /sys, and dockerd finds no control groups
  start dockerd --host "unix://$SOCKET" --host "tcp://$ADDRESS:2376" --group "$(id -gn)" --pidfile "$DIR/pid" \
    --tlsverify --tlscacert "$TLS/ca.pem" --tlscert "$TLS/server.pem" --tlskey "$TLS/server-key.pem" \
    --data-root "$DIR/data" --exec-root "$DIR/exec" \
    --containerd-namespace "$NAME" --containerd-plugins-namespace "$NAME-plugins" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$NAME" \
    --bridge=none --iptables=false --ip-forward=false --ip-masq=false --shutdown-timeout 2
  wait_for answers
  start "$(command -v sshd)" -D -e -f "$DIR/sshd_config"
  wait_for logs_in
  say "host $N is up at $ADDRESS"
}

down() {
  local pid
  end_cgroup "$NAME"
  for pid in $(labelled); do end_pid "$pid" 100; done
  if [[ -e /run/netns/$NAME ]]; then
    # sshd writes its title over its label
    for pid in $(ip netns pids "$NAME" 2>/dev/null || true); do end_pid "$pid" 50; done
    ip netns del "$NAME"
  fi
  ip link del "$LINK" 2>/dev/null || true
  end_cgroup "$NAME"
  umount_under "$DIR"
  rm -rf --one-file-system "$DIR"
}

case $verb in
  up) locked "$PARTS_DIR/host-$N.lock" up ;;
  down) locked "$PARTS_DIR/host-$N.lock" down ;;
  env)
    answers || die "host $N is not up"
    for line in "UNIX=unix://$SOCKET" "TCP=tcp://$ADDRESS:2376" "CERTS=$TLS" "SSH=ssh://root@$ADDRESS:2222" "KEYS=$KEYS"; do
      echo "export VAULT_TEST_HOST_${N}_$line"
    done
    ;;
  *) wrong_use "unknown verb $verb" ;;
esac

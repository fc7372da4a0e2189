#!/bin/bash
# images.sh up [busybox] [postgres] | down
#
# Images for tests, built here from the distribution's packages because no registry is asked. They go
# to the engine of VAULT_TEST_DOCKER_HOST (unix://...), which must be set; `down` removes them there.
#   busybox    vault-busybox:local: static busybox with all applets as links; 2 MB, under 1 s
#   postgres   vault-postgres:local: the distribution's PostgreSQL server, its programs in PATH; the
#              first build takes about a minute and is kept in $PARTS_DIR/cache, an import takes 3 s
# In the postgres image /var/lib/postgresql/data exists, belongs to user postgres and is where to
# mount a volume; sockets are in /tmp (/run is empty), and `jit` is off because there is no LLVM.
. "$(dirname "$0")/lib.sh"

: "${VAULT_TEST_DOCKER_HOST:?is not set; see engine.sh env}"
SOCKET=${VAULT_TEST_DOCKER_HOST#unix://}
[[ -S $SOCKET ]] || die "no unix socket at $VAULT_TEST_DOCKER_HOST"

make_busybox() {
  local to=$1 applet
  # the package `busybox` has the same program, but linked to libraries the image lacks
  [[ -e /usr/share/doc/busybox-static ]] || install_packages busybox-static
  mkdir -p "$to"/tree/{bin,etc,tmp}
  cp -L "$(command -v busybox)" "$to/tree/bin/busybox"
  for applet in $("$to/tree/bin/busybox" --list); do
    # without the links `tar` is not found
    [[ $applet == busybox ]] || ln -sf busybox "$to/tree/bin/$applet"
  done
  chmod 1777 "$to/tree/tmp"
  printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$to/tree/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$to/tree/etc/group"
  tar -C "$to/tree" --numeric-owner --owner=0 --group=0 -cf "$to/image.tar" .
  rm -rf "$to/tree"
}

# main_sources FILE: the machine's own apt sources for its release, component main only, in one file.
# Update and security suites are left out: a test image needs neither.
main_sources() {
  local suite files
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  mapfile -t files < <(compgen -G '/etc/apt/sources.list.d/*.sources')
  ((${#files[@]} == 0)) || awk -v suite="$suite" 'BEGIN { RS = ""; ORS = "\n\n" }
    { gsub(/(^|\n)#[^\n]*/, ""); sub(/^\n/, "") }
    $0 ~ "(^|\n)Suites:[^\n]*[ \t]" suite "([ \t\n]|$)" && /Components:[^\n]*main/ && !/(^|\n)Enabled: *no/ {
      sub(/Suites:[^\n]*/, "Suites: " suite); sub(/Components:[^\n]*/, "Components: main"); print }' \
    "${files[@]}" >"$1.sources"
  [[ ! -s $1.sources ]] || { echo "$1.sources"; return; }
  mapfile -t files < <(compgen -G '/etc/apt/sources.list'; compgen -G '/etc/apt/sources.list.d/*.list')
  ((${#files[@]} == 0)) || awk -v suite="$suite" '$1 == "deb" && / main( |$)/ {
      for (i = 2; i <= NF; i++) if ($i == suite) {
        line = $1; for (j = 2; j < i; j++) line = line " " $j
        print line " " suite " main" } }' "${files[@]}" >"$1.list"
  [[ -s $1.list ]] || die "found no apt source for $suite"
  echo "$1.list"
}

make_postgres() {
  local to=$1 suite from
  need mmdebstrap
  say "building the postgres image (about a minute, kept)"
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  from=$(main_sources "$to/apt")
  # shellcheck disable=SC2016
  nice mmdebstrap --quiet --variant=essential --include=postgresql \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --aptopt='APT::Install-Recommends "false"' \
    --customize-hook='rm -rf $1/usr/lib/*/libLLVM* $1/var/lib/postgresql/* $1/var/cache/* $1/var/lib/apt/lists/*' \
    --customize-hook='chroot $1 sh -c "ln -sf /usr/lib/postgresql/*/bin/* /usr/local/bin/"' \
    --customize-hook='chroot $1 install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data' \
    --customize-hook='for conf in $1/usr/share/postgresql/*/postgresql.conf.sample; do
      printf "jit = off\nunix_socket_directories = \047/tmp\047\n" >>$conf; done' \
    "$suite" "$to/image.tar" "$from" >"$to/log" 2>&1 || { tail -5 "$to/log" >&2; die "no postgres image"; }
}

engine() { curl -sS -m 120 --unix-socket "$SOCKET" "$@"; }
# status ARGUMENT...: only the HTTP status of the engine's answer
status() { engine -o /dev/null -w '%{http_code}' "$@"; }

up() {
  local kind answer
  need curl
  (($#)) || set -- busybox
  for kind; do
    [[ $kind == busybox || $kind == postgres ]] || wrong_use "no image called $kind"
    cached "image-$kind" "make_$kind"
    if [[ $(status "http://engine/images/vault-$kind:local/json") != 200 ]]; then
      answer=$(engine -X POST -T "$CACHE/image-$kind/image.tar" -H 'Content-Type: application/x-tar' \
        "http://engine/images/create?fromSrc=-&repo=vault-$kind&tag=local&changes=CMD%20%5B%22sh%22%5D&changes=ENV%20PATH%3D/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin&changes=ENV%20PGHOST%3D/tmp")
      [[ $(status "http://engine/images/vault-$kind:local/json") == 200 ]] || die "import of $kind: $answer"
    fi
    say "vault-$kind:local is in $VAULT_TEST_DOCKER_HOST"
  done
}

down() {
  local kind
  for kind in busybox postgres; do
    [[ $(status -X DELETE "http://engine/images/vault-$kind:local?force=1") =~ ^(200|404)$ ]] ||
      die "could not remove vault-$kind:local"
  done
}

verb=$1
shift
case $verb in
  up) up "$@" ;;
  down) down ;;
  *) wrong_use "unknown verb $verb" ;;
esac

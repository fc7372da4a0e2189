#!/bin/bash
# tests/run.sh [NEXTEST-ARGUMENT...]
#
# Installs what the tests need, then runs all of them against a real Docker Engine of their own: see
# docs/testing.md. Needs nothing but this clone, root (or sudo) and the distribution's packages; safe
# to run again at any time. Arguments go to `cargo nextest run`, for instance a filter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
  docker.io        # the engine
  iproute2 openssh-client # engines as if on other machines
  podman runc conmon # Podman behind Docker's interface
  busybox-static   # the image that containers of the tests run
  acl attr         # getfacl and getfattr: second opinions on what was restored
  libcap2-bin      # setcap, for file capabilities
  e2fsprogs        # small file systems that run full
  strace           # system calls that fail, and counts of them
  valgrind         # instructions of a small backup, counted
  tar rsync python3 # other readers and writers of what we read and write
  python3-venv apache2-bin openssh-server # servers for stores
  openssl          # certificates that are none
  procps util-linux mount curl ca-certificates
)

# Scripts of tests/parts, with what they take behind colons.
parts=(engine host:2 host:3:sid podman s3 azurite webdav:wsgidav webdav:apache sftp)

say() { printf '== %s\n' "$*"; }

# call PART VERB: the script of a part
call() {
  local -a words
  IFS=: read -ra words <<<"$1"
  bash "tests/parts/${words[0]}.sh" "$2" "${words[@]:1}"
}

if ((EUID != 0)); then
  # Owners, devices and mounts are part of what is tested.
  say "the tests need root; asking sudo"
  exec sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,PARTS_DIR \
    bash tests/run.sh "$@"
fi

export DEBIAN_FRONTEND=noninteractive
install_packages() {
  local -a missing=()
  local package
  for package; do
    [[ $(dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
  done
  ((${#missing[@]} > 0)) || return 0
  say "installing ${missing[*]}"
  # An engine of the distribution's must not start here: the tests bring their own.
  local policy=/usr/sbin/policy-rc.d made=
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made=1
  fi
  local failed=0
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } \
    >/dev/null || failed=$?
  [[ -z $made ]] || rm -f "$policy"
  return "$failed"
}

down() {
  local code=$?
  trap - EXIT INT TERM
  local part
  for part in "${parts[@]}"; do
    call "$part" down >/dev/null 2>&1 || true
  done
  exit "$code"
}

# Where Node.js comes from elsewhere it brings npm along, which the package `npm` does not go with.
command -v npm >/dev/null || packages+=(nodejs npm)
install_packages "${packages[@]}"
# shellcheck source=tests/parts/rust.sh
. tests/parts/rust.sh
ensure_rust install_packages
rust_components() { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1
rust_components || rustup component add rustfmt clippy
cargo nextest --version >/dev/null 2>&1 || {
  say "building cargo-nextest, once"
  cargo install --quiet --locked cargo-nextest
}

say "format and lints"
cargo fmt --check
cargo clippy --quiet --locked --all-targets -- -D warnings

say "building the tests"
cargo nextest run --locked --no-run

say "starting an engine, its images, and stores"
trap down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
for part in "${parts[@]}"; do
  call "$part" up
  lines=$(call "$part" env)
  eval "$lines"
done
bash tests/parts/images.sh up busybox postgres

say "running the tests"
cargo nextest run --locked "$@"

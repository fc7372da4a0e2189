# Sourced by tests/run.sh and docs/quickstart.sh: sees to a Rust toolchain that is new enough.
#
# Sets PATH. What is installed: the distribution's `rustup` where there is one (Debian 13, Ubuntu
# 24.04), else rustup from https://sh.rustup.rs, for the calling user; and a C compiler for zstd.

rust_min=1.90

# rust_is_new_enough: whether `cargo` is there in version $rust_min or later
rust_is_new_enough() {
  local version
  version=$(cargo --version 2>/dev/null | awk '{ print $2 }') && [[ -n $version ]] || return 1
  [[ $(printf '%s\n' "$rust_min" "$version" | sort -V | head -n 1) == "$rust_min" ]]
}

# ensure_rust APT...: APT is the command, with its first words, that installs packages
ensure_rust() {
  local -a missing=()
  command -v cc >/dev/null || missing+=(gcc)
  [[ -e /usr/include/stdlib.h ]] || missing+=(libc6-dev)
  ((${#missing[@]} == 0)) || "$@" "${missing[@]}"
  [[ ! -d $HOME/.cargo/bin ]] || PATH=$HOME/.cargo/bin:$PATH
  ! rust_is_new_enough || return 0
  if ! command -v rustup >/dev/null; then
    if apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
      "$@" rustup
    else
      command -v curl >/dev/null || "$@" curl ca-certificates
      curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y --profile minimal
      PATH=$HOME/.cargo/bin:$PATH
    fi
  fi
  rust_is_new_enough || rustup default stable
  hash -r
  rust_is_new_enough || {
    echo "no Rust toolchain of version $rust_min or later could be had" >&2
    return 1
  }
}

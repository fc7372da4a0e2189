#!/bin/bash
# tests/rare/run.sh N | W | F-NNN...
#
# Runs the faults that are no part of every run of the tests: all of tier N, all of tier W, or the rows that are named.
# Installs what they need, starts the servers they use, notes date, commit, result and what was met in
# tests/rare/runs.txt, and makes docs/faults.md anew. Needs root and FUSE; N takes ten minutes, W two.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive

night=(003 011 012 013 020 033 034 035 063 064 072)
weekly=(014)
packages=(
  strace e2fsprogs xfsprogs btrfs-progs   # calls that fail; file systems
  fuse3 exfat-fuse exfatprogs sshfs       # file systems of programs
  openssh-server procps iproute2 iptables # a server, and links to it
  qemu-system-x86 seabios cpio busybox-static kmod
)
parts=(s3 sftp) # for the links: 034, 063, 064
runs=tests/rare/runs.txt

case ${1:-} in
  N) rows=("${night[@]}") ;;
  W) rows=("${weekly[@]}") ;;
  F-[0-9][0-9][0-9]) rows=("${@#F-}") ;;
  *) awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
done
if ((${#missing[@]})); then
  apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
fi

down() {
  for part in "${parts[@]}"; do bash "tests/parts/$part.sh" down >/dev/null 2>&1 || true; done
}
[[ " ${rows[*]} " =~ \ (034|063|064)\  ]] || parts=()
trap down EXIT
cargo nextest run --locked --no-run
for part in "${parts[@]}"; do
  bash "tests/parts/$part.sh" up
  lines=$(bash "tests/parts/$part.sh" env)
  eval "$lines"
done

commit=$(git rev-parse --short=10 HEAD)
log=$(mktemp)
failed=0
for row in "${rows[@]}"; do
  result=ok
  cargo nextest run --locked --run-ignored only --no-capture -E "test(/::f${row}_/)" >"$log" 2>&1 || result=failed
  if [[ $result == failed ]]; then
    tail -n 40 "$log" >&2
    failed=1
  fi
  met=$(sed -n 's/.*met: //p' "$log" | paste -sd ';' | tr '|' '/')
  line="F-$row|$(date -u +%F)|$commit|$result|$met"
  echo "$line"
  {
    flock 8
    { grep -v "^F-$row|" "$runs" || true; echo "$line"; } | sort >"$log"
    cp "$log" "$runs"
  } 8<"$runs"
done
rm -f "$log"
cargo nextest run --locked --run-ignored only -E 'test(write_the_faults)' >/dev/null
exit "$failed"

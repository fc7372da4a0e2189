#!/bin/bash
# s3.sh up | down | env
#
# An S3 server for tests (moto, from PyPI) with the bucket `vault`, in memory, on 127.0.0.1. It takes any
# key, so it cannot show that a request is signed right; what S3 itself would say is the fault proxy's.
#   env    shell lines to eval: VAULT_TEST_S3
. "$(dirname "$0")/lib.sh"
DIR=$PARTS_DIR/up/s3 URL=http://127.0.0.1:$(port 15)

make_moto() { python_packages "$1" 'moto[server]'; }
up() {
  cached moto make_moto
  serve "$URL" "$CACHE/moto/bin/moto_server" -H 127.0.0.1 -p "$(port 15)"
  curl -sf -o /dev/null -X PUT "$URL/vault" || die "could not make the bucket"
}
show_env() { echo "export VAULT_TEST_S3=$URL"; }
part_verb "$1"

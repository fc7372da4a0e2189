#!/bin/bash
# azurite.sh up | down | env
#
# Azure's own emulator of Blob storage (from npm) with the container `vault`, in memory, on 127.0.0.1. It
# checks signatures.
#   env    shell lines to eval: VAULT_TEST_AZURE, VAULT_TEST_AZURE_KEY
. "$(dirname "$0")/lib.sh"
# 3.35.0 is the last version for the Node of Debian 12.
VERSION=3.35.0
DIR=$PARTS_DIR/up/azurite URL=http://127.0.0.1:$(port 20)/vaulttest

make_azurite() {
  need node=nodejs npm
  (cd "$1" && nice npm install --silent --no-audit --no-fund "azurite@$VERSION") >"$1/log" 2>&1 ||
    { tail -n 5 "$1/log" >&2; die "npm failed"; }
}

# The one request that makes a container, signed as the documentation of the Shared Key says.
make_container() {
  python3 - "$URL" "$(<"$DIR/key")" <<'PYTHON'
import base64, email.utils, hashlib, hmac, sys, urllib.request
url, key = sys.argv[1:]
account = url.rsplit("/", 1)[1]
date, version = email.utils.formatdate(usegmt=True), "2021-12-02"
text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{account}/{account}/vault\nrestype:container"
digest = hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()
headers = {"x-ms-date": date, "x-ms-version": version, "Content-Length": "0",
           "Authorization": f"SharedKey {account}:{base64.b64encode(digest).decode()}"}
urllib.request.urlopen(urllib.request.Request(f"{url}/vault?restype=container", method="PUT", headers=headers))
PYTHON
}

up() {
  need node=nodejs python3
  cached "azurite-$VERSION" make_azurite
  head -c 48 /dev/urandom | base64 -w 0 >"$DIR/key"
  export AZURITE_ACCOUNTS
  AZURITE_ACCOUNTS=vaulttest:$(<"$DIR/key")
  serve "$URL" "$CACHE/azurite-$VERSION/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 \
    --blobPort "$(port 20)" --inMemoryPersistence --silent --skipApiVersionCheck
  make_container
}
show_env() { echo "export VAULT_TEST_AZURE=$URL VAULT_TEST_AZURE_KEY=$(<"$DIR/key")"; }
part_verb "$1"

#!/bin/bash
# webdav.sh up [KIND] | down [KIND] | env [KIND]
#
# A WebDAV server for tests on 127.0.0.1. KIND is wsgidav (if not given; from PyPI, account u, password p)
# or apache (mod_dav, no password asked, lists no tree at once).
#   env    shell lines to eval: VAULT_TEST_WEBDAV or VAULT_TEST_WEBDAV_APACHE
. "$(dirname "$0")/lib.sh"
KIND=${2:-wsgidav}
DIR=$PARTS_DIR/up/webdav-$KIND

make_wsgidav() { python_packages "$1" wsgidav cheroot; }
up_wsgidav() {
  cached wsgidav make_wsgidav
  mkdir -p "$DIR/data"
  cat >"$DIR/config.yaml" <<YAML
host: 127.0.0.1
port: $PORT
provider_mapping: {"/": "$DIR/data"}
simple_dc: {user_mapping: {"*": {"u": {"password": "p"}}}}
http_authenticator: {domain_controller: null, accept_basic: true, accept_digest: true, default_to_digest: false}
logging: {enable: false}
YAML
  serve "$URL" "$CACHE/wsgidav/bin/wsgidav" --config "$DIR/config.yaml"
}

up_apache() {
  need apache2=apache2-bin
  mkdir -p "$DIR/data" "$DIR/locks"
  chown www-data "$DIR/data" "$DIR/locks"
  cat >"$DIR/config" <<CONFIG
ServerRoot /usr/lib/apache2
ServerName localhost
Listen 127.0.0.1:$PORT
PidFile $DIR/pid
ErrorLog $DIR/errors
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dav_module modules/mod_dav.so
LoadModule dav_fs_module modules/mod_dav_fs.so
User www-data
Group www-data
DocumentRoot $DIR/data
DavLockDB $DIR/locks/lock
<Directory $DIR/data>
Dav On
Require all granted
</Directory>
CONFIG
  serve "$URL" apache2 -D FOREGROUND -f "$DIR/config"
}

case $KIND in
  wsgidav) PORT=$(port 71) NAME=VAULT_TEST_WEBDAV ;;
  apache) PORT=$(port 72) NAME=VAULT_TEST_WEBDAV_APACHE ;;
  *) wrong_use "unknown kind $KIND" ;;
esac
URL=http://127.0.0.1:$PORT
up() { "up_$KIND"; }
show_env() { echo "export $NAME=$URL"; }
part_verb "$1"

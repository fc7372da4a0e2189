#!/bin/bash
# sftp.sh up | down | env
#
# OpenSSH's server for tests on 127.0.0.1, with keys of its own and never on port 22.
#   env    shell lines to eval: VAULT_TEST_SFTP (a URL), VAULT_TEST_SFTP_CONFIG (for ssh -F)
. "$(dirname "$0")/lib.sh"
DIR=$PARTS_DIR/up/sftp PORT=$(port 22) URL=sftp

# There is no page to ask for; ssh is asked instead.
answers() { [[ -e $DIR/config ]] && ssh -F "$DIR/config" 127.0.0.1 true 2>/dev/null; }

# sshd writes its title over its environment, and with it over the label; its title names the folder.
labelled() {
  local pid
  pid=$(cat "$DIR/pid" 2>/dev/null) || return 0
  if grep -qaF -- "$DIR" "/proc/$pid/cmdline" 2>/dev/null; then echo "$pid"; fi
}

up() {
  need sshd=openssh-server ssh=openssh-client
  mkdir -p "$DIR/data" /run/sshd
  ssh-keygen -q -t ed25519 -N '' -f "$DIR/host"
  ssh-keygen -q -t ed25519 -N '' -f "$DIR/id"
  cp "$DIR/id.pub" "$DIR/authorized"
  echo "[127.0.0.1]:$PORT $(<"$DIR/host.pub")" >"$DIR/known"
  cat >"$DIR/sshd_config" <<SERVER
ListenAddress 127.0.0.1
Port $PORT
HostKey $DIR/host
PidFile $DIR/pid
AuthorizedKeysFile $DIR/authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100:30:200
Subsystem sftp internal-sftp
SERVER
  cat >"$DIR/config" <<CLIENT
Host 127.0.0.1
  Port $PORT
  IdentityFile $DIR/id
  IdentitiesOnly yes
  UserKnownHostsFile $DIR/known
CLIENT
  serve "$URL" "$(command -v sshd)" -D -e -f "$DIR/sshd_config"
}
show_env() {
  echo "export VAULT_TEST_SFTP=sftp://$(id -un)@127.0.0.1:$PORT$DIR/data VAULT_TEST_SFTP_CONFIG=$DIR/config"
}
part_verb "$1"

#!/usr/bin/env bash
# Runs the 64-bit ARM binary, on other machines under qemu-user: version, start, setup link, log in, post, kill -9, read
# again; then an encrypted backup of the running server and a key export, restored into an empty data directory.
#   tests/aarch64.sh [BINARY]
# BINARY defaults to out/aarch64-unknown-linux-musl/chatto. The last line is `full`, or `REDUCED: reason`
# when the system cannot run ARM programs by itself: then chatto runs against a nats-server of this
# machine, and its own nats-server is only asked for its version.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-out/aarch64-unknown-linux-musl/chatto}")
work=$(mktemp -d)
server='' nats=() url=''
. tests/packages/common.sh
in_network() { "$@"; }

cleanup() {
    local status=$?
    # Only what this script started, by its process id.
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    [ "${#nats[@]}" = 0 ] || kill -9 "${nats[@]}" 2>/dev/null || true
    stop_emulating
    if [ "$status" != 0 ]; then
        echo "--- the server's log" >&2
        cat "$work/log" >&2 2>/dev/null || true
    fi
    rm -rf "$work" 2>/dev/null || { wait; rm -rf "$work"; }
}
trap cleanup EXIT

# --- can this machine run the binary? -------------------------------------------------------------
run=("$binary")
reduced=''
if [ "$(uname -m)" != aarch64 ] && ! "$binary" version >/dev/null 2>&1; then
    emulate_arm || true
    if ! "$binary" version >/dev/null 2>&1; then
        reduced='binfmt_misc cannot be registered here'
        run=(qemu-aarch64-static "$binary")
    fi
fi

# --- version and configuration --------------------------------------------------------------------
version=$("${run[@]}" version)
echo "$version"
grep -q aarch64 <<<"$version" || fail 'that is no aarch64 binary'

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# configure NAME: a server with an empty store and secrets of its own, in the folder NAME; later commands are for it
configure() {
    local folder=$work/$1 port nats_port secret
    port=$(free_port)
    url=http://127.0.0.1:$port
    config=$folder/chatto.toml
    mkdir "$folder"
    cat >"$config" <<EOF
[webserver]
bind_address = "127.0.0.1"
port = $port
url = "$url"
[nats.embedded]
data_dir = "$folder/data"
min_free_disk = "16MiB"
EOF
    [ -n "$reduced" ] || return 0
    nats_port=$(free_port)
    "$work/nats-server" -a 127.0.0.1 -p "$nats_port" -js -sd "$folder/js" >"$folder/nats.log" 2>&1 &
    nats+=($!)
    sed -i 's/^\[nats.embedded\]/&\nenabled = false/' "$config"
    secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    cat >>"$config" <<EOF
[nats.client]
url = "nats://127.0.0.1:$nats_port"
[core]
secret_key = "${secret}core"
[core.assets]
signing_secret = "${secret}assets"
EOF
    sed -i "s/^port = $port/&\ncookie_signing_secret = \"${secret}cookie\"/" "$config"
}

if [ -n "$reduced" ]; then
    cross/nats-server/build.sh "$(uname -m)-unknown-linux-musl" "$work/nats-server"
    cross/nats-server/build.sh aarch64-unknown-linux-musl "$work/nats-server-arm64"
    "${run[0]}" "$work/nats-server-arm64" --version
fi

# chatto ARGUMENT...: a command for the configured server
chatto() {
    "${run[@]}" "$@" -c "$config"
}

start() {
    "${run[@]}" start -c "$config" >>"$work/log" 2>&1 &
    server=$!
    is_ready_or_ended() { is_ready || ! kill -0 "$server"; }
    until_true 120 'ready' is_ready_or_ended
    kill -0 "$server" 2>/dev/null || fail 'chatto has ended'
}

stop() { # SIGNAL
    local status=0
    kill "-$1" "$server"
    wait "$server" 2>/dev/null || status=$?
    [ "$status" = 0 ] || [ "$1" = KILL ] || fail "after SIG$1 the server ends with $status"
    server=''
}

# --- the first owner, by the setup link, and a message --------------------------------------------
message='hello from a small board'
configure first
began=$SECONDS
start
echo "ready after $((SECONDS - began)) s"
first_message "$(chatto setup-link | grep -o '/setup#[A-Za-z0-9_-]*')" "$message"
log_in
echo 'logged in and posted'

# --- what was acknowledged is there after kill -9 -------------------------------------------------
stop KILL
start
shows "$message" texts || fail 'the message is gone'
echo 'read again after kill -9'

# --- archive and keys bring it back elsewhere -----------------------------------------------------
began=$SECONDS
(umask 077 && head -c 18 /dev/urandom | base64 >"$work/passphrase")
archive=$(chatto backup --encrypt --verify --passphrase-file "$work/passphrase" -o "$work/backup.tar.gz.age")
chatto keys export --passphrase-file "$work/passphrase" -o "$work/keys.backup"
stop TERM
configure second
chatto restore "$archive" --passphrase-file "$work/passphrase"
chatto keys import "$work/keys.backup" --passphrase-file "$work/passphrase"
start
log_in
shows "$message" texts || fail 'the message is not in the restored store'
stop TERM
echo "backed up, restored and read again in $((SECONDS - began)) s"
if [ -n "$reduced" ]; then echo "REDUCED: $reduced"; else echo full; fi

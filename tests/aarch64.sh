#!/usr/bin/env bash
# Runs the 64-bit ARM binary, on other machines under qemu-user: version, start, setup link, log in, post,
# kill -9, read again.
#   tests/aarch64.sh [BINARY]
# BINARY defaults to out/aarch64-unknown-linux-musl/chatto. The last line is `full`, or `REDUCED: reason`
# when the system cannot run ARM programs by itself: then chatto runs against a nats-server of this
# machine, and its own nats-server is only asked for its version.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-out/aarch64-unknown-linux-musl/chatto}")
work=$(mktemp -d)
server='' nats='' registered='' mounted=''

cleanup() {
    local status=$?
    # Only what this script started, by its process id.
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
    [ -z "$nats" ] || kill -9 "$nats" 2>/dev/null || true
    [ -z "$registered" ] || echo -1 >"$registered"
    [ -z "$mounted" ] || umount "$mounted" || true
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
binfmt=/proc/sys/fs/binfmt_misc
if [ "$(uname -m)" != aarch64 ] && ! "$binary" version >/dev/null 2>&1; then
    qemu=$(command -v qemu-aarch64-static || true)
    [ -n "$qemu" ] || { echo "error: qemu-aarch64-static is missing: apt install qemu-user-static" >&2; exit 1; }
    if [ "$(id -u)" = 0 ]; then
        if [ ! -e $binfmt/register ] && mount -t binfmt_misc binfmt_misc $binfmt 2>/dev/null; then
            mounted=$binfmt
        fi
        # Debian's magic and flags: the interpreter is opened now (F), gets the file open (O) and its
        # first argument unchanged (P), so that execution from a memfd works.
        magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
        mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
        name=chatto-test-aarch64
        if printf '%s' ":$name:M::$magic:$mask:$qemu:OPF" >$binfmt/register 2>/dev/null; then
            registered=$binfmt/$name
        fi
    fi
    if ! "$binary" version >/dev/null 2>&1; then
        reduced='binfmt_misc cannot be registered here'
        run=("$qemu" "$binary")
    fi
fi

# --- version and configuration --------------------------------------------------------------------
version=$("${run[@]}" version)
echo "$version"
grep -q aarch64 <<<"$version" || { echo "error: that is no aarch64 binary" >&2; exit 1; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
port=$(free_port)
url=http://127.0.0.1:$port
cat >"$work/chatto.toml" <<EOF
[webserver]
bind_address = "127.0.0.1"
port = $port
url = "$url"
[nats.embedded]
data_dir = "$work/data"
min_free_disk = "16MiB"
EOF
if [ -n "$reduced" ]; then
    nats_port=$(free_port)
    cross/nats-server/build.sh "$(uname -m)-unknown-linux-musl" "$work/nats-server"
    "$work/nats-server" -a 127.0.0.1 -p "$nats_port" -js -sd "$work/js" >"$work/nats.log" 2>&1 &
    nats=$!
    cross/nats-server/build.sh aarch64-unknown-linux-musl "$work/nats-server-arm64"
    "${run[0]}" "$work/nats-server-arm64" --version
    sed -i 's/^\[nats.embedded\]/&\nenabled = false/' "$work/chatto.toml"
    secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    cat >>"$work/chatto.toml" <<EOF
[nats.client]
url = "nats://127.0.0.1:$nats_port"
[core]
secret_key = "${secret}core"
[core.assets]
signing_secret = "${secret}assets"
EOF
    sed -i "s/^port = $port/&\ncookie_signing_secret = \"${secret}cookie\"/" "$work/chatto.toml"
fi

# --- start ----------------------------------------------------------------------------------------
start() {
    "${run[@]}" start -c "$work/chatto.toml" >>"$work/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        kill -0 "$server" 2>/dev/null || { echo "error: chatto has ended" >&2; exit 1; }
        if curl -sf "$url/readyz" >/dev/null; then return; fi
        sleep 0.2
    done
    echo "error: chatto is not ready after two minutes" >&2
    exit 1
}

post() { # path, token or nothing, body
    curl -sS --fail-with-body --max-time 60 "$url$1" ${2:+-H "Authorization: Bearer $2"} \
        -H 'Content-Type: application/json' -d "$3"
}

field() { # the first value of a key in the JSON on standard input
    python3 -c '
import json, sys
def find(value, key):
    if isinstance(value, dict):
        if key in value: return value[key]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            found = find(part, key)
            if found is not None: return found
found = find(json.load(sys.stdin), sys.argv[1])
if found is None: sys.exit("no " + sys.argv[1])
print(found)' "$1"
}

api=/api/connect/chatto.api.v1
began=$(date +%s)
start
echo "ready after $(($(date +%s) - began)) s"

# --- the first owner, by the setup link ------------------------------------------------------------
link=$("${run[@]}" setup-link -c "$work/chatto.toml" | grep -o '/setup#[A-Za-z0-9_-]*' | head -1)
password='correct horse battery'
post /auth/setup '' "{\"token\":\"${link#*#}\",\"login\":\"ada\",\"displayName\":\"Ada\",\"password\":\"$password\"}" >/dev/null
token=$(post /auth/login '' "{\"identifier\":\"ada\",\"password\":\"$password\"}" | field token)
room=$(post $api.RoomDirectoryService/ListRooms "$token" '{}' |
    python3 -c 'import json, sys
def rooms(value):
    if isinstance(value, dict):
        if value.get("name") == "general" and "id" in value: yield value["id"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value: yield from rooms(part)
print(next(rooms(json.load(sys.stdin))))')
post $api.RoomService/JoinRoom "$token" "{\"roomId\":\"$room\"}" >/dev/null
message='hello from a small board'
post $api.MessageService/CreateMessage "$token" "{\"roomId\":\"$room\",\"body\":\"$message\"}" >/dev/null
echo 'logged in and posted'

# --- what was acknowledged is there after kill -9 ---------------------------------------------------
kill -9 "$server"
wait "$server" 2>/dev/null || true
start
post $api.RoomService/GetRoomEvents "$token" "{\"roomId\":\"$room\",\"limit\":50}" >"$work/events"
grep -qF "$message" "$work/events" || { cat "$work/events" >&2; echo "error: the message is gone" >&2; exit 1; }
echo 'read again after kill -9'

kill -TERM "$server"
wait "$server"
server=''
if [ -n "$reduced" ]; then echo "REDUCED: $reduced"; else echo full; fi

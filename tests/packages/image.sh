#!/usr/bin/env bash
# Tries the container image of this machine's architecture as an engine runs it:
#   tests/packages/image.sh [IMAGE]
# IMAGE defaults to that of this version and machine in out/. umoci unpacks it, and crun runs it: as PID 1 in namespaces of
# its own, without root and capabilities, on a read-only root. The container has a loopback device only, and no cgroup of
# its own. Needs root. packaging/check.sh checks configuration and contents of the image.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packages/common.sh
image=$(realpath "${1:-$(package_of "$(uname -m)-unknown-linux-musl" image)}")
work=$(mktemp -d)
id=chatto-test-$$
server='' url=http://127.0.0.1:4000
run=(crun --root "$work/crun" --cgroup-manager=disabled)
# crun refuses to run where the first version of control groups is mounted beside the second one.
[ ! -d /sys/fs/cgroup/unified ] ||
    run=(unshare --mount sh -c 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup && exec "$@"' sh "${run[@]}")

cleanup() {
    local status=$?
    if [ "$status" != 0 ]; then
        echo '--- the log of the server' >&2
        tail -n 40 "$work/log" >&2 2>/dev/null || true
    fi
    [ -z "$server" ] || "${run[@]}" delete --force $id >/dev/null 2>&1 || true
    wait
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# --- unpacked ---------------------------------------------------------------------------------------
mkdir "$work/layout"
tar -xf "$image" -C "$work/layout"
name=$(jq -r '.manifests[0].annotations["org.opencontainers.image.ref.name"]' "$work/layout/index.json")
bundle=$work/bundle
umoci unpack --image "$work/layout:$name" "$bundle" 2>"$work/log" || fail 'umoci unpack'

# --- run ------------------------------------------------------------------------------------------
# A volume, which engines create as the image has the folder.
mkdir "$work/data"
chown --reference="$bundle/rootfs/data" "$work/data"
chmod --reference="$bundle/rootfs/data" "$work/data"
jq --arg data "$work/data" '.process.terminal = false | .root.readonly = true
    | .mounts = [.mounts[] | select(.destination != "/data" and .type != "cgroup")]
        + [{"destination": "/data", "type": "bind", "source": $data, "options": ["bind", "rw"]}]
    | .process.capabilities = {} | .process.noNewPrivileges = true
    | .process.rlimits = [] | .hostname = "chatto"' "$bundle/config.json" >"$work/config.json"
mv "$work/config.json" "$bundle/config.json"

user=$(jq -r '"\(.process.user.uid):\(.process.user.gid)"' "$bundle/config.json")

start() {
    "${run[@]}" run --bundle "$bundle" $id >>"$work/log" 2>&1 </dev/null &
    server=$!
    until_true 60 'ready' is_healthy
}

# in_container COMMAND...: as an engine's exec does, with the account and the folder of the image
in_container() {
    "${run[@]}" exec --user "$user" --cwd /data $id "$@"
}

pid() {
    "${run[@]}" state $id | jq .pid
}

# The command of the customer's health check.
is_healthy() {
    in_container wget -q --spider http://localhost:4000/readyz
}

# stop SIGNAL EXIT_CODE: the process ends with that code
stop() {
    local status=0
    "${run[@]}" kill $id "$1"
    wait "$server" || status=$?
    server=''
    "${run[@]}" delete --force $id >/dev/null 2>&1 || true
    [ "$status" = "$2" ] || fail "after $1, PID 1 ends with $status"
}

in_network() {
    nsenter -t "$(pid)" -n -- "$@"
}

! is_healthy >/dev/null 2>&1 || fail 'healthy before the start'
start
[ "$(awk '/^Uid:/ { print $2 }' "/proc/$(pid)/status")" != 0 ] || fail 'the server runs as root'
[ "$(awk '/^NSpid:/ { print $NF }' "/proc/$(pid)/status")" = 1 ] || fail 'the server is not PID 1'
status=0
said=$(in_container wget -q --spider http://localhost:4001/readyz 2>&1) || status=$?
[ "$status" = 1 ] && grep -q 'cannot connect' <<<"$said" || fail "the check of a closed port: $status, $said"

first_message "$(in_container chatto setup-link 2>/dev/null)" 'from the image'
in_container chatto status >"$work/said"
grep -q 'state:  *ready' "$work/said" || fail 'chatto status'

# --- backups from the container ---------------------------------------------------------------------
in_container chatto backup --verify >/dev/null 2>"$work/said" || { cat "$work/said" >&2; fail 'chatto backup'; }
[ "$(ls "$work/data/backups" | grep -c 'tar.gz$')" = 1 ] || fail 'the archive is not in /data/backups'

# --- no process stays dead under PID 1 ---------------------------------------------------------------
# The shell ends before its child, as a killed command does; it is a program of this machine in the container's namespace.
dead_children() { ps -o stat= --ppid "$(pid)" | grep '^Z'; }
nsenter -t "$(pid)" -p bash -c '(read -r -t 0.2 <> <(:)) & exit 0'
until_true 10 'an orphan ends' dead_children
none_is_dead() { ! dead_children; }
until_true 40 'PID 1 reads the exit status of orphans' none_is_dead

# --- stopped and started ----------------------------------------------------------------------------
stop TERM 0
tail -n 1 "$work/log" | grep -q stopped || fail 'the log does not end with the stop'
start
grep -q 'from the image' <<<"$(texts)" || fail 'the message is lost after a stop'
stop KILL 137
start
grep -q 'from the image' <<<"$(texts)" || fail 'the message is lost after kill -9'
stop TERM 0
echo 'image: all passed'

#!/usr/bin/env bash
# Installs the .deb in a clean Debian container with systemd, and tries what an administrator does with a package:
#   tests/packages/deb.sh [DEB]
# DEB defaults to out/chatto_*_ARCH.deb. Needs root, debootstrap, systemd-nspawn and the network for the first run, which
# makes the root in target/roots. The container does not enforce memory limits and has no udev.
set -euo pipefail
cd "$(dirname "$0")/../.."
package=$(realpath "${1:-$(ls out/chatto_*_"$(dpkg --print-architecture)".deb)}")
suite=bookworm
base=$PWD/target/roots/$suite
work=$(mktemp -d "$PWD/target/roots/XXXXXX" 2>/dev/null || { mkdir -p target/roots; mktemp -d "$PWD/target/roots/XXXXXX"; })
root=$work/root
container='' leader=''

cleanup() {
    local status=$?
    if [ -n "$leader" ] && [ "$status" != 0 ]; then
        echo '--- the journal of the service' >&2
        inside journalctl -u 'chatto*' --no-pager -n 60 >&2 || true
    fi
    if [ -n "$container" ]; then
        # The init of the container; its processes end with it.
        [ -z "$leader" ] || kill -9 "$leader" 2>/dev/null || true
        wait "$container" 2>/dev/null || true
    fi
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

fail() {
    echo "error: $*" >&2
    exit 1
}

inside() {
    nsenter -t "$leader" -a -- "$@"
}

# shows PATTERN COMMAND...: whether the command's output has it. All of it is read: a command whose reader leaves fails.
shows() {
    local pattern=$1 output
    shift
    output=$("$@" 2>&1) || true
    grep -q -- "$pattern" <<<"$output"
}

# until_true SECONDS WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within the time"
        read -r -t 0.1 <> <(:) || true
    done
}

# call PATH JSON: a request to the server in the container's network
call() {
    nsenter -t "$leader" -n -- curl -sS --fail-with-body -m 10 -H 'Content-Type: application/json' \
        ${token:+-H "Authorization: Bearer $token"} -d "$2" "http://127.0.0.1:4000$1"
}

is_ready() {
    nsenter -t "$leader" -n -- curl -sS -f -m 2 http://127.0.0.1:4000/readyz
}

main_pid() {
    inside systemctl show -p MainPID --value chatto.service
}

# The nats-server of a chatto.
child_of() {
    inside sh -c "cat /proc/$1/task/*/children" | tr ' ' '\n' | sed -n 1p
}

# The newest texts of the room.
texts() {
    call /api/connect/chatto.api.v1.RoomService/GetRoomEvents "{\"roomId\":\"$room\",\"limit\":100}"
}

install_package() {
    cp "$1" "$root/srv/package.deb"
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --allow-downgrades \
        -o Dpkg::Options::=--force-confold /srv/package.deb 2>&1 | tee "$work/apt.log" >/dev/null ||
        { cat "$work/apt.log" >&2; fail 'apt-get install'; }
}

# --- the container --------------------------------------------------------------------------------
if [ ! -e "$base/.complete" ]; then
    rm -rf --one-file-system "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,ca-certificates "$suite" "$base" >"$work/log" 2>&1 ||
        { tail -5 "$work/log" >&2; fail debootstrap; }
    touch "$base/.complete"
fi
cp -a --reflink=auto "$base" "$root"
systemd-nspawn --quiet --register=no --keep-unit --private-network -b -D "$root" >"$work/console" 2>&1 &
container=$!
has_leader() { leader=$(pgrep -P "$container" | head -n 1) && [ -n "$leader" ]; }
until_true 20 'the container starts' has_leader
leader=$(pgrep -P "$container" | head -n 1)
is_up() { shows 'running\|degraded' inside systemctl is-system-running; }
until_true 60 'the container boots' is_up

# --- installed, started, ready --------------------------------------------------------------------
started=$(date +%s%N)
install_package "$package"
until_true 20 'ready after the installation' is_ready
echo "ready $((($(date +%s%N) - started) / 1000000)) ms after apt-get install began"
grep -q 'sudo chatto setup-link' "$work/apt.log" || fail 'the installation does not name setup-link'
inside systemctl is-enabled --quiet chatto.service || fail 'the service is not enabled'
! inside systemctl is-enabled --quiet chatto-backup.timer || fail 'the timer is enabled without a passphrase'
[ "$(inside systemctl show -p StatusText --value chatto.service | cut -c 1-7)" = serving ] || fail STATUS
[ "$(inside stat -c '%U:%G %a' /etc/chatto/chatto.toml)" = 'root:chatto 640' ] || fail 'mode of chatto.toml'
[ "$(inside stat -c '%U:%G %a' /var/lib/chatto)" = 'chatto:chatto 750' ] || fail 'mode of the data directory'
! shows 'setup#' inside journalctl -u chatto --no-pager || fail 'the journal has the token of the setup link'
for unit in chatto.service chatto-backup.service; do
    inside systemd-analyze verify --man=no "$unit" || fail "systemd-analyze verify $unit"
done

# --- used -----------------------------------------------------------------------------------------
link=$(inside chatto setup-link 2>/dev/null)
token=''
account=$(call /auth/setup "{\"token\":\"${link##*#}\",\"login\":\"ada\",\"displayName\":\"Ada\",\"password\":\"correct horse battery\"}")
token=$(jq -r .token <<<"$account")
room=$(call /api/connect/chatto.api.v1.RoomDirectoryService/ListRooms '{}' | jq -r '.rooms[] | select(.room.name == "general") | .room.id')
call /api/connect/chatto.api.v1.RoomService/JoinRoom "{\"roomId\":\"$room\"}" >/dev/null
call /api/connect/chatto.api.v1.MessageService/CreateMessage "{\"roomId\":\"$room\",\"body\":\"from the package\"}" >/dev/null
# The kernel ends the child first when memory runs out.
parent=$(main_pid)
child=$(child_of "$parent")
own=$(inside cat "/proc/$parent/oom_score_adj")
of_child=$(inside cat "/proc/$child/oom_score_adj")
[ "$of_child" -gt "$own" ] || fail "oom_score_adj: $own, child $of_child"

# --- killed, and killed again ---------------------------------------------------------------------
inside sh -c "kill -9 $child"
is_another_child() { [ "$(child_of "$(main_pid)")" != "$child" ] && is_ready; }
until_true 30 'ready with another nats-server after kill -9' is_another_child
inside sh -c "kill -9 $parent"
is_another_parent() { [ "$(main_pid)" != "$parent" ] && is_ready; }
until_true 30 'ready again after kill -9' is_another_parent
shows 'from the package' texts || fail 'the message is lost after kill -9'

# --- backups --------------------------------------------------------------------------------------
! inside systemctl start chatto-backup.service || fail 'a backup without a passphrase succeeds'
[ "$(inside systemctl show -p ExecMainStatus --value chatto-backup.service)" = 78 ] || fail 'not exit code 78'
shows 'head -c 18 /dev/urandom' inside journalctl -u chatto-backup --no-pager || fail 'no word about the passphrase'
inside sh -c 'umask 077; head -c 18 /dev/urandom | base64 > /etc/chatto/backup-passphrase'
inside systemctl enable --now --quiet chatto-backup.timer
inside systemctl start chatto-backup.service || fail 'the backup fails'
[ "$(inside ls /var/lib/chatto/backups | grep -c 'tar.gz.age$')" = 1 ] || fail 'no archive'
[ "$(inside ls /var/lib/chatto/backups | grep -c 'keys.age$')" = 1 ] || fail 'no export of keys'
shows verified inside chatto backup list /var/lib/chatto/backups || fail 'the backup was not verified'

# --- another version, with a changed configuration ------------------------------------------------
dpkg-deb -R "$package" "$work/newer"
sed -i 's/^Version: \(.*\)-1$/Version: \1+1-1/' "$work/newer/DEBIAN/control"
echo '# A newer sample.' >>"$work/newer/etc/chatto/chatto.toml"
dpkg-deb --root-owner-group -Znone -b "$work/newer" "$work/newer.deb" >/dev/null
echo '# The administrator was here.' >>"$root/etc/chatto/chatto.toml"
before=$(main_pid)
install_package "$work/newer.deb"
until_true 30 'ready after the upgrade' is_ready
[ "$(main_pid)" != "$before" ] || fail 'the upgrade does not restart the service'
grep -q 'The administrator was here' "$root/etc/chatto/chatto.toml" || fail 'the upgrade replaces the configuration'
install_package "$package"
until_true 30 'ready after the downgrade' is_ready
shows 'from the package' texts || fail 'the message is lost after upgrade and downgrade'
inside systemctl is-enabled --quiet chatto-backup.timer || fail 'the upgrade disables the timer'

# --- removed, installed again, purged -------------------------------------------------------------
inside systemctl disable --now --quiet chatto.service
install_package "$work/newer.deb"
! inside systemctl is-enabled --quiet chatto.service || fail 'the upgrade enables a disabled service'
inside systemctl enable --now --quiet chatto.service
inside apt-get remove -y -qq chatto >/dev/null 2>&1
! inside systemctl is-active --quiet chatto.service || fail 'it runs after its removal'
[ -e "$root/etc/chatto/chatto.toml" ] && [ -d "$root/var/lib/chatto/jetstream" ] || fail 'a removal deletes too much'
install_package "$package"
until_true 30 'ready after the second installation' is_ready
shows 'from the package' texts || fail 'the message is lost after the second installation'
shows 'sudo rm -r /var/lib/chatto' inside apt-get purge -y -qq chatto || fail 'a purge does not name the data'
[ ! -e "$root/etc/chatto/chatto.toml" ] || fail 'a purge keeps the configuration'
[ -e "$root/etc/chatto/backup-passphrase" ] && [ -d "$root/var/lib/chatto/jetstream" ] || fail 'a purge deletes data'
left=$(inside find /etc/systemd/system /usr/lib/systemd -name 'chatto*')
[ -z "$left" ] || fail "a purge leaves $left"
install_package "$package"
until_true 30 'ready with the data of before' is_ready
shows 'from the package' texts || fail 'the message is lost after a purge'
echo 'deb: all passed'

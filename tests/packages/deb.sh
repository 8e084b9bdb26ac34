#!/usr/bin/env bash
# Installs the .deb in a clean Debian container with systemd, and tries what an administrator does with a package:
#   tests/packages/deb.sh [DEB]
# DEB defaults to that of this version and machine in out/. Needs root, debootstrap, systemd-nspawn and the network for the
# first run, which makes the root in target/roots. A package for 64-bit ARM is emulated, without the sandbox of the units,
# without the backup service and without the limits of time and memory. The container does not enforce memory limits and has no udev. An
# unoptimised program takes more memory than is allowed: MEMORY=any leaves that check out.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packages/container.sh
package=$(realpath "${1:-$(package_of "$(uname -m)-unknown-linux-musl" deb)}")

install_package() {
    cp "$1" "$root/srv/package.deb"
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --allow-downgrades \
        -o Dpkg::Options::=--force-confold /srv/package.deb 2>&1 | tee "$work/apt.log" >/dev/null ||
        { cat "$work/apt.log" >&2; fail 'apt-get install'; }
}

# --- the container --------------------------------------------------------------------------------
make_root "$(dpkg-deb -f "$package" Architecture)"
boot

# --- installed, started, ready --------------------------------------------------------------------
started=$(date +%s%N)
install_package "$package"
until_true 20 'ready after the installation' is_ready
echo "ready $((($(date +%s%N) - started) / 1000000)) ms after apt-get install began"
monotonic() { inside systemctl show -p "$1TimestampMonotonic" --value chatto.service; }
start_ms=$((($(monotonic ActiveEnter) - $(monotonic InactiveExit)) / 1000))
echo "ready $start_ms ms after the start of the service"
[ -n "$is_emulated" ] || [ "$start_ms" -le 5000 ] || fail 'that is more than 5 seconds'
grep -q 'sudo chatto setup-link' "$work/apt.log" || fail 'the installation does not name setup-link'
inside systemctl is-enabled --quiet chatto.service || fail 'the service is not enabled'
! inside systemctl is-enabled --quiet chatto-backup.timer || fail 'the timer is enabled without a passphrase'
[ "$(inside systemctl show -p StatusText --value chatto.service | cut -c 1-7)" = serving ] || fail STATUS
[ "$(inside stat -c '%U:%G %a' /etc/chatto/chatto.toml)" = 'root:chatto 640' ] || fail 'mode of chatto.toml'
[ "$(inside stat -c '%U:%G %a' /var/lib/chatto)" = 'chatto:chatto 750' ] || fail 'mode of the data directory'
! shows 'setup#' inside journalctl -u chatto --no-pager || fail 'the journal has the token of the setup link'
for unit in chatto.service chatto-backup.service chatto-usb-backup@sda1.service; do
    inside systemd-analyze verify --man=no "$unit" || fail "systemd-analyze verify $unit"
done

# --- used -----------------------------------------------------------------------------------------
first_message "$(inside chatto setup-link 2>/dev/null)" 'from the package'
parent=$(main_pid)
child=$(child_of "$parent")
# The resident memory of both, in KiB.
memory() { inside cat "/proc/$parent/status" "/proc/$child/status" | awk '/^VmRSS:/ { sum += $2 } END { print sum }'; }
is_small() { [ "$(memory)" -le $((45 * 1024)) ]; }
[ "${MEMORY:-}$is_emulated" != '' ] || until_true 20 'idle in 45 MiB of memory' is_small
echo "idle in $(memory) KiB of memory, nats-server included"
# The kernel ends the child first when memory runs out.
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
a_backup_needs_a_passphrase() {
    ! inside systemctl start chatto-backup.service || fail 'a backup without a passphrase succeeds'
    [ "$(inside systemctl show -p ExecMainStatus --value chatto-backup.service)" = 78 ] || fail 'not exit code 78'
    shows 'head -c 18 /dev/urandom' inside journalctl -u chatto-backup --no-pager || fail 'no word about the passphrase'
}

makes_backups() {
    inside systemctl start chatto-backup.service || fail 'the backup fails'
    [ "$(inside ls /var/lib/chatto/backups | grep -c 'tar.gz.age$')" = 1 ] || fail 'no archive'
    [ "$(inside ls /var/lib/chatto/backups | grep -c 'keys.age$')" = 1 ] || fail 'no export of keys'
    shows verified inside chatto backup list /var/lib/chatto/backups || fail 'the backup was not verified'
    shows 'last verified' inside chatto status || fail 'the server does not know of the backup'
    shows 'last restore test' inside chatto status || fail 'no restore test of the first backup'
    inside systemctl start chatto-backup.service || fail 'the second backup fails'
    shows 'the last restore test was successful' inside journalctl -u chatto-backup --no-pager || fail 'a restore test each night'
}

# The emulator does not know the calls with which systemd passes on the passphrase.
if [ -z "$is_emulated" ]; then a_backup_needs_a_passphrase; fi
inside sh -c 'umask 077; head -c 18 /dev/urandom | base64 > /etc/chatto/backup-passphrase'
inside systemctl enable --now --quiet chatto-backup.timer
if [ -z "$is_emulated" ]; then makes_backups; fi

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

# What the tests of packages have in common: a clean Debian with systemd in a container. Sourced in the repository's top
# folder; needs root, debootstrap, systemd-nspawn and, for the first run, the network: it makes the root in target/roots.
# shellcheck shell=bash
suite=bookworm
mkdir -p target/roots
work=$(mktemp -d "$PWD/target/roots/XXXXXX")
root=$work/root
container='' leader='' is_emulated='' url=http://127.0.0.1:4000
. tests/packages/common.sh

cleanup() {
    local status=$?
    if [ -n "$leader" ] && [ "$status" != 0 ]; then
        echo '--- the journal of the service' >&2
        inside journalctl -u 'chatto*' --no-pager -n 60 >&2 || true
    fi
    shut_down
    stop_emulating
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

inside() {
    nsenter -t "$leader" -a -- "$@"
}

in_network() {
    nsenter -t "$leader" -n -- "$@"
}

main_pid() {
    inside systemctl show -p MainPID --value chatto.service
}

# The nats-server of a chatto.
child_of() {
    inside sh -c "cat /proc/$1/task/*/children" | tr ' ' '\n' | sed -n 1p
}

# make_root [ARCH]: a copy of a clean Debian in $root, by default of this machine's architecture. It has rpm, for the packages
# of other systems. ARM is emulated where the machine is none; then the sandbox of all units is off, because the emulator
# does not know its system calls.
make_root() {
    local arch packages=systemd,systemd-sysv,ca-certificates,rpm base
    arch=${1:-$(dpkg --print-architecture)}
    base=$PWD/target/roots/$suite-$arch
    if [ "$arch" != "$(dpkg --print-architecture)" ]; then
        is_emulated=yes
        [ -n "$registered" ] || emulate_arm || fail 'binfmt_misc cannot be registered here'
    fi
    if [ "$(cat "$base/.complete" 2>/dev/null)" != "$packages" ]; then
        rm -rf --one-file-system "$base"
        mkdir -p "$base"
        debootstrap --arch="$arch" --variant=minbase --include="$packages" "$suite" "$base" >"$work/log" 2>&1 ||
            { tail -5 "$work/log" >&2; fail debootstrap; }
        echo "$packages" >"$base/.complete"
    fi
    rm -rf --one-file-system "$root"
    cp -a --reflink=auto "$base" "$root"
    if [ -n "$is_emulated" ]; then
        mkdir -p "$root/etc/systemd/system/service.d"
        cp tests/packages/emulated.conf "$root/etc/systemd/system/service.d/"
    fi
}

# Boots $root.
boot() {
    systemd-nspawn --quiet --register=no --keep-unit --private-network -b -D "$root" >"$work/console" 2>&1 &
    container=$!
    has_leader() { leader=$(pgrep -P "$container" | head -n 1) && [ -n "$leader" ]; }
    until_true 20 'the container starts' has_leader
    leader=$(pgrep -P "$container" | head -n 1)
    is_up() { shows 'running\|degraded' inside systemctl is-system-running; }
    until_true 120 'the container boots' is_up
}

shut_down() {
    [ -n "$container" ] || return 0
    # The init of the container; its processes end with it.
    [ -z "$leader" ] || kill -9 "$leader" 2>/dev/null || true
    wait "$container" 2>/dev/null || true
    container='' leader=''
}

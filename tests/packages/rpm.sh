#!/usr/bin/env bash
# Tries what an administrator does with the .rpm:
#   tests/packages/rpm.sh [RPM...]
# RPM defaults to those of this version in out/. Each package is installed, upgraded, downgraded and erased with
# `rpm --root` in a plain root, whatever its architecture. The one of this machine is then installed in a container with
# systemd. The root is that of deb.sh, Debian with rpm: no Fedora, no dnf, no SELinux.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packages/container.sh
[ $# -gt 0 ] || set -- "$(package_of x86_64-unknown-linux-musl rpm)" "$(package_of aarch64-unknown-linux-musl rpm)"
config=/etc/chatto/chatto.toml

# newer RPM: makes a package of a later version with another sample configuration
newer() {
    local staged=$work/staged version arch
    version=$(rpm -qp --nosignature --qf '%{VERSION}' "$1").1
    arch=$(rpm -qp --nosignature --qf '%{ARCH}' "$1")
    rm -rf "$staged"
    mkdir -p "$staged"
    rpm2cpio "$1" | (cd "$staged" && cpio --quiet -idm)
    echo '# A newer sample.' >>"$staged$config"
    rpmbuild -bb --quiet --target "$arch-linux" --define "_topdir $work/rpmbuild" --define "_rpmdir $work" \
        --define "staged $staged" --define "version_of_cargo $version" --define "changelog_date $(LC_ALL=C date '+%a %b %d %Y')" \
        --define '_binary_payload w1.zstdio' packaging/rpm/chatto.spec >"$work/log" || { cat "$work/log" >&2; fail rpmbuild; }
    echo "$work/$arch/chatto-$version-1.$arch.rpm"
}

# installs OPTION... PACKAGE: rpm says on standard error what Debian thinks of rpm, and what it did with the configuration
installs() {
    "${rpm[@]}" --nodeps --ignorearch --nosignature "$@" 2>"$work/said" || { cat "$work/said" >&2; fail "rpm $*"; }
}

# has_contents PACKAGE: the installed files, their owners and modes are those of packaging/contents.rpm.txt
has_contents() {
    local mode owner path flags
    while read -r mode owner path flags; do
        chroot "$root" stat -c "%A %U/%G %n${flags:+ $flags}" "$path"
    done <packaging/contents.rpm.txt >"$work/contents"
    diff -u packaging/contents.rpm.txt "$work/contents" || fail "$1: the installed files differ"
    "${rpm[@]}" -V --nodeps chatto || fail "$1: rpm -V"
}

# --- in a plain root ------------------------------------------------------------------------------
in_plain_root() { # PACKAGE
    local package later ours='# The administrator was here.' name=${1##*/}
    package=$(realpath "$1")
    later=$(newer "$package")
    make_root
    rpm=(rpm --root "$root" --dbpath /var/lib/rpm)

    # A first installation, and one more with a configuration that nobody has edited.
    installs -i "$package"
    has_contents "$name"
    shows ':/var/lib/chatto:/sbin/nologin$' chroot "$root" getent passwd chatto || fail "$name: no account"
    installs -U "$later"
    grep -q 'A newer sample' "$root$config" || fail "$name: an upgrade keeps the former sample"
    installs -U --oldpackage "$package"
    ! grep -q 'A newer sample' "$root$config" || fail "$name: a downgrade keeps the later sample"
    [ -z "$(ls "$root"$config.rpm* 2>/dev/null)" ] || fail "$name: a copy of a sample that nobody has edited"

    # Edited: it stays over upgrade and downgrade, and the new sample is beside it.
    echo "$ours" >>"$root$config"
    chroot "$root" sh -c 'umask 077; echo secret >/etc/chatto/backup-passphrase; echo data >/var/lib/chatto/secrets.toml'
    installs -U "$later"
    grep -q 'rpmnew' "$work/said" || fail "$name: the upgrade does not name the new sample"
    grep -q "$ours" "$root$config" || fail "$name: an upgrade replaces the configuration"
    grep -q 'A newer sample' "$root$config.rpmnew" || fail "$name: no .rpmnew after an upgrade"
    [ "$(chroot "$root" stat -c '%U:%G %a' $config.rpmnew)" = 'root:chatto 640' ] || fail "$name: mode of .rpmnew"
    installs -U --oldpackage "$package"
    grep -q "$ours" "$root$config" || fail "$name: a downgrade replaces the configuration"

    # Erased: what the administrator and the server wrote stays.
    shows 'still in /var/lib/chatto' "${rpm[@]}" -e chatto || fail "$name: erasing does not name the data"
    [ ! -e "$root/usr/bin/chatto" ] && [ ! -e "$root$config" ] || fail "$name: erasing leaves files"
    grep -q "$ours" "$root$config.rpmsave" || fail "$name: no .rpmsave"
    [ -e "$root/etc/chatto/backup-passphrase" ] && [ -e "$root/var/lib/chatto/secrets.toml" ] || fail "$name: erasing deletes data"
    [ "$(chroot "$root" stat -c '%U:%G %a' /var/lib/chatto)" = 'chatto:chatto 750' ] || fail "$name: owner of the data"
    installs -i "$package"
    has_contents "$name, again"
    [ -e "$root$config.rpmsave" ] && [ -e "$root/var/lib/chatto/secrets.toml" ] || fail "$name: a second installation deletes data"
    echo "rpm: $name: passed in a plain root"
}

# --- with systemd ---------------------------------------------------------------------------------
with_systemd() { # PACKAGE
    local before
    make_root
    # As Fedora and openSUSE have it: a service starts only if somebody enables it.
    mkdir -p "$root/etc/systemd/system-preset"
    echo 'disable *' >"$root/etc/systemd/system-preset/99-default.preset"
    boot
    # Debian's systemd is not an rpm, so its dependencies are unknown here.
    in_container() { inside rpm --nodeps --nosignature "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "rpm $*"; }; }
    cp "$1" "$root/srv/package.rpm"
    cp "$(newer "$1")" "$root/srv/newer.rpm"
    in_container -i /srv/package.rpm
    grep -q 'sudo systemctl enable --now chatto; sudo chatto setup-link' "$work/said" || fail 'no word about the first steps'
    ! inside systemctl is-enabled --quiet chatto.service || fail 'the preset does not decide'
    for unit in chatto.service chatto-backup.service chatto-usb-backup@sda1.service; do
        inside systemd-analyze verify --man=no "$unit" || fail "systemd-analyze verify $unit"
    done
    inside systemctl enable --now --quiet chatto.service
    until_true 30 'ready after the start' is_ready
    first_message "$(inside chatto setup-link 2>/dev/null)" 'from the package'

    echo '# The administrator was here.' >>"$root$config"
    before=$(main_pid)
    in_container -U /srv/newer.rpm
    until_true 30 'ready after the upgrade' is_ready
    [ "$(main_pid)" != "$before" ] || fail 'the upgrade does not restart the service'
    inside systemctl is-enabled --quiet chatto.service || fail 'the upgrade disables the service'
    in_container -U --oldpackage /srv/package.rpm
    until_true 30 'ready after the downgrade' is_ready
    shows 'from the package' texts || fail 'the message is lost after upgrade and downgrade'
    inside systemctl stop chatto.service
    in_container -U /srv/newer.rpm
    ! inside systemctl is-active --quiet chatto.service || fail 'the upgrade starts a stopped service'
    inside systemctl start chatto.service

    in_container -e chatto
    ! inside systemctl is-active --quiet chatto.service || fail 'it runs after it was erased'
    [ -z "$(inside find /etc/systemd/system /usr/lib/systemd -name 'chatto*')" ] || fail 'erasing leaves units'
    in_container -i /srv/package.rpm
    ! inside systemctl is-enabled --quiet chatto.service || fail 'it is enabled after it was erased'
    inside systemctl enable --now --quiet chatto.service
    until_true 30 'ready with the data of before' is_ready
    shows 'from the package' texts || fail 'the message is lost after erasing'
    shut_down
    echo "rpm: ${1##*/}: passed with systemd"
}

for package; do
    in_plain_root "$package"
done
for package; do
    case "$package" in *."$(uname -m)".rpm) with_systemd "$package" ;; esac
done
echo 'rpm: all passed'
